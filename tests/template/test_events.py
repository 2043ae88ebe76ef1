"""Each way into each function has an event in `events/`; tests/e2e/ways_in.rs invokes the functions with them."""

import json
import re
import unittest

from policy import ROOT, parsed

INTEGRATED = re.compile(r"functions/\$\{(\w+)\.Arn\}/invocations")


def text_of(value):
    """The text of an intrinsic function, such as Fn::Sub."""
    return json.dumps(value)


def ways_in_of_template(template):
    """Pairs of a function and what invokes it, in the words of `way_in`."""
    resources = template["Resources"]
    integrated = {}
    for name, resource in resources.items():
        properties = resource["Properties"] if "Properties" in resource else {}
        if resource["Type"] == "AWS::ApiGatewayV2::Integration":
            if found := INTEGRATED.search(text_of(properties.get("IntegrationUri"))):
                integrated[name] = found[1]
        elif resource["Type"] == "AWS::ApiGatewayV2::Authorizer":
            yield INTEGRATED.search(text_of(properties["AuthorizerUri"]))[1], "authorizer"
        elif resource["Type"] == "AWS::AppSync::Api":
            for provider in properties["EventConfig"]["AuthProviders"]:
                if provider["AuthType"] == "AWS_LAMBDA":
                    uri = provider["LambdaAuthorizerConfig"]["AuthorizerUri"]
                    yield re.search(r"\w+Function", text_of(uri))[0], "authorizer of channels"
        elif resource["Type"] == "AWS::Serverless::Function":
            for event in properties.get("Events", {}).values():
                of_event = event["Properties"]
                if event["Type"] == "HttpApi":
                    yield name, f"{of_event['Method']} {of_event['Path']}"
                elif event["Type"] == "Schedule":
                    yield name, "Scheduled Event"
                elif event["Type"] == "EventBridgeRule":
                    yield from ((name, detail_type) for detail_type in of_event["Pattern"]["detail-type"])
                else:
                    raise AssertionError(f"{name} has an event of the type {event['Type']}: teach this test to read it")
    for resource in resources.values():
        if resource["Type"] == "AWS::ApiGatewayV2::Route":
            integration = re.search(r"integrations/\$\{(\w+)\}", text_of(resource["Properties"]["Target"]))[1]
            if integration in integrated:
                yield integrated[integration], f"message {resource['Properties']['RouteKey']}"


def way_in(event):
    """What an event says about how it came."""
    context = event.get("requestContext", {})
    if event.get("type") == "REQUEST":
        return "authorizer"
    if "authorizationToken" in event:
        return "authorizer of channels"
    if "connectionId" in context:
        return f"message {context['routeKey']}"
    return context.get("routeKey") or event.get("detail-type") or "invocation"


class Events(unittest.TestCase):
    def test_each_way_into_each_function_has_an_event(self):
        template = parsed("template.yaml")
        expected = set(ways_in_of_template(template))
        # Otherwise the template was not understood.
        self.assertGreaterEqual(len(expected), 15)
        resources = template["Resources"].items()
        functions = {name for name, resource in resources if resource["Type"] == "AWS::Serverless::Function"}
        found = {}
        for path in sorted((ROOT / "events").glob("*.json")):
            function = f"{path.stem.split('-')[0].capitalize()}Function"
            found[path.stem] = (function, way_in(json.loads(path.read_text())))
        self.assertEqual({function for function, _ in found.values()}, functions)
        of_template = [way for way in found.values() if way[1] != "invocation"]
        self.assertEqual(len(of_template), len(set(of_template)), "two events of one way in")
        self.assertEqual(set(of_template), expected)
        # Functions that others invoke directly, which no template says.
        invoked = {function for function, way in found.values() if way == "invocation"}
        self.assertEqual(invoked, {"DeliverFunction", "PublishFunction", "RecoverFunction"})


if __name__ == "__main__":
    unittest.main()

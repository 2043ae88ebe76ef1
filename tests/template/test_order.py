"""template.yaml begins with what a reader needs first, and its head lists what it declares."""

import re
import unittest

import policy

TEXT = (policy.ROOT / "template.yaml").read_text()
TEMPLATE = policy.parsed("template.yaml")

DOCUMENT = ["Parameters", "Outputs", "Mappings", "Conditions", "Globals", "Resources"]
# The headings of the section Resources, each with the types under it.
HEADINGS = {
    "Tables and dead-letter queues": r"DynamoDB::Table|SQS::Queue",
    "Functions, each with its role": r"Serverless::Function|IAM::Role|IAM::RolePolicy",
    "WebSocket API": r"ApiGatewayV2::\w+|Lambda::Permission",
    "Event API": r"AppSync::\w+|Lambda::Permission",
    "HTTP API": r"Serverless::HttpApi|IAM::ManagedPolicy",
    "Logs and metric filters": r"Logs::\w+",
    "Alarms": r"CloudWatch::Alarm",
    "Dashboard": r"CloudWatch::Dashboard",
}


def headings(text):
    """The headings of the section Resources, each with the names of the resources under it."""
    result = {}
    section = text.partition("\nResources:\n")[2]
    for heading, name in re.findall(r"^  (?:# --- (.+?) -+|(\w+):)$", section, re.MULTILINE):
        if heading:
            result[heading] = []
        else:
            result[list(result)[-1]].append(name)
    return result


def of_type(kind):
    return {name: resource for name, resource in TEMPLATE["Resources"].items() if resource["Type"] == kind}


class Order(unittest.TestCase):
    def test_parameters_and_outputs_come_before_resources(self):
        self.assertEqual([section for section in TEMPLATE if section in DOCUMENT], DOCUMENT)

    def test_each_resource_is_under_the_heading_of_its_type(self):
        found = headings(TEXT)
        self.assertEqual(list(found), list(HEADINGS))
        self.assertEqual([name for names in found.values() for name in names], list(TEMPLATE["Resources"]))
        for heading, names in found.items():
            for name in names:
                self.assertRegex(TEMPLATE["Resources"][name]["Type"], rf"^AWS::({HEADINGS[heading]})$", name)

    def test_the_role_of_a_function_follows_it(self):
        names = list(TEMPLATE["Resources"])
        for function in of_type("AWS::Serverless::Function"):
            self.assertEqual(names[names.index(function) + 1], f"{function}Role")

    def test_the_head_of_the_file_lists_tables_queues_functions_and_routes_in_their_order(self):
        listed = re.findall(r"^# ([A-Z][\w ]+):  +(.+)$", TEXT.partition("\nParameters:\n")[0], re.MULTILINE)
        functions = of_type("AWS::Serverless::Function").values()
        events = [event for function in functions for event in function["Properties"].get("Events", {}).values()]
        http = [event["Properties"] for event in events if event["Type"] == "HttpApi"]
        declared = {
            "Tables": of_type("AWS::DynamoDB::Table"),
            "Queues": of_type("AWS::SQS::Queue"),
            "Functions": [function["Metadata"]["BuildProperties"]["Binary"] for function in functions],
            "WebSocket routes": [r["Properties"]["RouteKey"] for r in of_type("AWS::ApiGatewayV2::Route").values()],
            "HTTP routes": [f"{route['Method']} {route['Path']}" for route in http],
        }
        self.assertEqual(listed, [(what, ", ".join(names)) for what, names in declared.items()])


if __name__ == "__main__":
    unittest.main()

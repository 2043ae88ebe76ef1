"""Rules that the project's template has to keep, checked on what SAM makes of it."""

import json
import re
from pathlib import Path

from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

ROOT = Path(__file__).parents[2]
RUNBOOK = "docs/operations.md"

# What deliver writes (shared/src/metrics.rs) when alerts arrive late or not at all.
METRICS_TO_WATCH = ("Gone", "Lag", "Undelivered")


class ManagedPolicies:
    """The managed policies that SAM looks up by name: in an account it asks IAM."""

    def load(self):
        return {}


def transformed(change=lambda template: None, **parameters):
    """The template as CloudFormation gets it, with everything switched on that brings permissions; changed before, and with other values of parameters, if need be."""
    template = yaml_parse((ROOT / "template.yaml").read_text())
    change(template)
    # SAM takes no directory: `sam build` and `sam deploy` put an address here.
    template["Globals"]["Function"]["CodeUri"] = "s3://bucket/key"
    return transform(template, {"Tracing": "Active", **parameters}, ManagedPolicies())


def allowed_wildcards():
    """Wildcards and managed policies that are meant, each with its reason: role and text."""
    entries = json.loads((Path(__file__).parent / "wildcards.json").read_text())
    assert all(entry["reason"] for entry in entries), "each needs a reason"
    return {(entry["role"], entry["text"]) for entry in entries}


def runbook_sections():
    """The anchors of the runbook's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", (ROOT / RUNBOOK).read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def findings(template, allowed, sections):
    """What is wrong with a transformed template, one sentence each."""
    resources = template["Resources"]
    alarms = of_type(resources, "AWS::CloudWatch::Alarm")
    return [
        *wildcards(resources, allowed),
        *functions_without_operation(resources, alarms),
        *metrics_without_alarm(alarms),
        *(f"{name}: a permission without SourceArn" for name, permission in of_type(resources, "AWS::Lambda::Permission").items() if not permission.get("SourceArn")),
        *tables_without_protection(resources),
        *alarms_without_runbook(alarms, sections),
        *open_routes_without_throttle(resources),
        *reservations_by_default(resources),
    ]


def of_type(resources, kind):
    return {name: resource.get("Properties", {}) for name, resource in resources.items() if resource["Type"] == kind}


def wildcards(resources, allowed):
    seen = set()
    for role, properties in of_type(resources, "AWS::IAM::Role").items():
        found = [arn.split(":policy/")[-1] for arn in texts(properties.get("ManagedPolicyArns", []))]
        for policy in properties.get("Policies", []):
            # What is only there under a condition counts as if it were there.
            policy = policy.get("Fn::If", ["", policy])[1]
            for statement in listed(policy["PolicyDocument"]["Statement"]):
                if "NotAction" in statement or "NotResource" in statement:
                    yield f"{role}: a statement allows everything but what it names"
                found += [text for part in ("Action", "Resource") for text in texts(statement.get(part, [])) if "*" in text]
        for text in found:
            # An entry for every role is written with the role "*".
            entry = next((entry for entry in [(role, text), ("*", text)] if entry in allowed), None)
            seen.add(entry)
            if entry is None:
                yield f"{role}: {text} is a wildcard without a reason in wildcards.json"
    for kind in ("AWS::IAM::Policy", "AWS::IAM::ManagedPolicy"):
        for name in of_type(resources, kind):
            yield f"{name}: policies belong into the role of their function"
    for role, text in sorted(allowed - seen):
        yield f"{role}: wildcards.json allows {text}, which the template does not have"


def functions_without_operation(resources, alarms):
    groups = of_type(resources, "AWS::Logs::LogGroup")
    (dashboard,) = ("".join(texts(body["DashboardBody"])) for body in of_type(resources, "AWS::CloudWatch::Dashboard").values())
    watched = {metric: set(functions_watched(alarms, "AWS/Lambda", metric)) for metric in ("Errors", "Throttles")}
    heard = functions_whose_silence_rings(alarms)
    filtered = [properties["LogGroupName"] for properties in of_type(resources, "AWS::Logs::MetricFilter").values()]
    for name, function in of_type(resources, "AWS::Lambda::Function").items():
        group = function.get("LoggingConfig", {}).get("LogGroup", {})
        group = group.get("Ref") if isinstance(group, dict) else None
        if not groups.get(group, {}).get("RetentionInDays"):
            yield f"{name}: a function without a log group that ends its logs"
        if {"Ref": group} not in filtered:
            yield f"{name}: a function whose lines of errors are not counted"
        for metric, functions in watched.items():
            if name not in functions | heard:
                yield f"{name}: a function without an alarm on its {metric}"
        # A dashboard cannot name what is only there under a condition.
        if "Condition" not in resources[name] and f"${{{name}}}" not in dashboard:
            yield f"{name}: a function that the dashboard does not show"


def functions_whose_silence_rings(alarms):
    """Those that write a metric of their own in each period, and an alarm takes a missing one for a breach: it rings for whatever keeps them from running."""
    of_silence = {
        name: alarm for name, alarm in alarms.items() if alarm.get("Namespace") == "ViralAlerts" and alarm.get("TreatMissingData") == "breaching"
    }
    return {dimension["Value"].get("Ref") for alarm in of_silence.values() for dimension in alarm["Dimensions"]}


def metrics_without_alarm(alarms):
    for metric in METRICS_TO_WATCH:
        if "DeliverFunction" not in functions_watched(alarms, "ViralAlerts", metric):
            yield f"DeliverFunction: no alarm on its metric {metric}"


def functions_watched(alarms, namespace, name):
    """The functions on whose metric of this name there is an alarm."""
    for alarm in alarms.values():
        queries = [query["MetricStat"]["Metric"] for query in alarm.get("Metrics", []) if "MetricStat" in query]
        for metric in [*queries, alarm]:
            if (metric.get("Namespace"), metric.get("MetricName")) == (namespace, name):
                yield from (dimension["Value"].get("Ref") for dimension in metric["Dimensions"])


def tables_without_protection(resources):
    for name, table in of_type(resources, "AWS::DynamoDB::Table").items():
        if table.get("SSESpecification", {}).get("SSEEnabled") is not True:
            yield f"{name}: a table without encryption"
        if table.get("TimeToLiveSpecification", {}).get("Enabled") is not True:
            yield f"{name}: a table without a time to live"


def alarms_without_runbook(alarms, sections):
    for name, alarm in alarms.items():
        section = re.search(rf"{RUNBOOK}#([\w-]+)$", alarm.get("AlarmDescription", ""))
        if not section:
            yield f"{name}: an alarm without a section of {RUNBOOK}"
        elif section[1] not in sections:
            yield f"{name}: {RUNBOOK} has no section {section[1]}"


def open_routes_without_throttle(resources):
    """Routes that anybody can call, on which nothing bounds the requests of all callers together."""
    (sockets,) = of_type(resources, "AWS::ApiGatewayV2::Stage").keys() - {"HttpApiApiGatewayDefaultStage"}
    stage = resources[sockets]["Properties"]
    settings = stage.get("RouteSettings", {})
    for name, route in of_type(resources, "AWS::ApiGatewayV2::Route").items():
        if not is_throttled(settings.get(route["RouteKey"], stage.get("DefaultRouteSettings", {}))):
            yield f"{name}: anybody can call this route, and it has no throttle"
        elif route["RouteKey"] in settings and name not in listed(resources[sockets].get("DependsOn", [])):
            yield f"{sockets}: has settings of {route['RouteKey']} and may be made before {name}"
    http = resources["HttpApiApiGatewayDefaultStage"]["Properties"].get("RouteSettings", {})
    for path, methods in resources["HttpApi"]["Properties"]["Body"]["paths"].items():
        for method, operation in methods.items():
            route = f"{method.upper()} {path}"
            is_open = operation.get("security", [{"NONE": []}]) == [{"NONE": []}]
            if method != "options" and is_open and not is_throttled(http.get(route, {})):
                yield f"HttpApi: anybody can call {route}, and it has no throttle"


def is_throttled(settings):
    return bool(settings.get("ThrottlingRateLimit") and settings.get("ThrottlingBurstLimit"))


def reservations_by_default(resources):
    """An account with 10 or 50 concurrent executions can reserve none: the deployment would fail."""
    for name, function in of_type(resources, "AWS::Lambda::Function").items():
        match function.get("ReservedConcurrentExecutions"):
            case None | {"Fn::If": ["HasReservedConcurrency", _, {"Ref": "AWS::NoValue"}]}:
                pass
            case _:
                yield f"{name}: reserves concurrency where nobody has asked for it"


def listed(value):
    return value if isinstance(value, list) else [value]


def texts(value):
    """Every text that a value can come to, with references as ${Name}; of a condition both sides."""
    match value:
        case str():
            yield value
        case list():
            for item in value:
                yield from texts(item)
        case {"Ref": name}:
            yield f"${{{name}}}"
        case {"Fn::GetAtt": path}:
            yield f"${{{path if isinstance(path, str) else '.'.join(path)}}}"
        case {"Fn::Sub": [str(text), _]} | {"Fn::Sub": str(text)}:
            yield text
        case {"Fn::If": [_, *sides]}:
            yield from texts(sides)
        case _:
            yield json.dumps(value)

"""Rules that the project's template has to keep, checked on what SAM makes of it."""

import json
import re
from pathlib import Path

from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

ROOT = Path(__file__).parents[2]
RUNBOOK = "docs/runbook.md"

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
        *throttles_that_may_be_texts(template),
        *reservations_by_default(resources),
        *logs_of_others(resources),
        *arithmetic_without_fill(alarms),
        *silence_that_does_not_ring(resources, alarms),
        *what_is_kept_by_default(resources),
        *environments_without_bound(template),
        *sources_that_differ(resources),
    ]


def of_type(resources, kind):
    return {name: resource.get("Properties", {}) for name, resource in resources.items() if resource["Type"] == kind}


def wildcards(resources, allowed):
    seen = set()
    for name, properties in of_type(resources, "AWS::IAM::Policy").items():
        yield f"{name}: policies belong into the role of their function"
    for name, properties in of_type(resources, "AWS::IAM::ManagedPolicy").items():
        if properties.keys() & {"Groups", "Roles", "Users"}:
            yield f"{name}: a managed policy is for others, and policies of functions belong into their roles"
    for name, kind in POLICIES.items():
        for role, properties in of_type(resources, name).items():
            found = [arn.split(":policy/")[-1] for arn in texts(properties.get("ManagedPolicyArns", []))]
            for statement in statements(kind(properties)):
                if "NotAction" in statement or "NotResource" in statement:
                    yield f"{role}: a statement allows everything but what it names"
                found += [text for text in texts(statement.get("Action", [])) if "*" in text]
                # Everything is a reason for some actions only.
                everything = f"{', '.join(texts(statement.get('Action', [])))} on *"
                resources_named = texts(statement.get("Resource", []))
                found += [everything if text == "*" else text for text in resources_named if "*" in text]
            for text in found:
                # An entry for every role is written with the role "*".
                entry = next((entry for entry in [(role, text), ("*", text)] if entry in allowed), None)
                seen.add(entry)
                if entry is None:
                    yield f"{role}: {text} is a wildcard without a reason in wildcards.json"
    for role, text in sorted(allowed - seen):
        yield f"{role}: wildcards.json allows {text}, which the template does not have"


# Where each kind of resource has its policies.
POLICIES = {
    "AWS::IAM::Role": lambda properties: properties.get("Policies", []),
    "AWS::IAM::RolePolicy": lambda properties: [properties],
    "AWS::IAM::ManagedPolicy": lambda properties: [properties],
}


def statements(policies):
    """The statements of policies. One that is only there under a condition counts as if it were there."""
    for policy in policies:
        policy = policy.get("Fn::If", ["", policy])[1]
        for statement in listed(policy["PolicyDocument"]["Statement"]):
            yield statement.get("Fn::If", ["", statement])[1]


def logs_of_others(resources):
    """Functions that may write to more than their own log group, or make one that nobody ends."""
    users = {}
    for name, function in of_type(resources, "AWS::Lambda::Function").items():
        role = function["Role"].get("Fn::GetAtt", [None])[0]
        properties = of_type(resources, "AWS::IAM::Role").get(role, {})
        users.setdefault(role, []).append(name)
        group = function.get("LoggingConfig", {}).get("LogGroup", {})
        own = {"Fn::GetAtt": [group.get("Ref") if isinstance(group, dict) else None, "Arn"]}
        allowed = [
            (sorted(listed(statement["Action"])), statement.get("Resource"))
            for statement in statements(properties.get("Policies", []))
            if any(action.startswith(("logs:", "*")) for action in listed(statement.get("Action", [])))
        ]
        if allowed != [(["logs:CreateLogStream", "logs:PutLogEvents"], own)] or properties.get("ManagedPolicyArns"):
            yield f"{name}: may write other logs than its own"
    for role, functions in users.items():
        if len(functions) > 1:
            yield f"{role}: is the role of several functions: {', '.join(sorted(functions))}"


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
    """The functions, or tables, on whose metric of this name there is an alarm."""
    for alarm in alarms.values():
        queries = [query["MetricStat"]["Metric"] for query in alarm.get("Metrics", []) if "MetricStat" in query]
        for metric in [*queries, alarm]:
            if (metric.get("Namespace"), metric.get("MetricName")) == (namespace, name):
                yield from (dimension["Value"].get("Ref") for dimension in metric.get("Dimensions", []))


def tables_without_protection(resources):
    for name, table in of_type(resources, "AWS::DynamoDB::Table").items():
        # DynamoDB encrypts every table with a key of its own, and bills each use of another.
        if "SSESpecification" in table:
            yield f"{name}: a table with a key whose use is billed"
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
    settings = on_either_side(stage.get("RouteSettings", {}))
    for name, route in of_type(resources, "AWS::ApiGatewayV2::Route").items():
        if not is_throttled(settings.get(route["RouteKey"], stage.get("DefaultRouteSettings", {}))):
            yield f"{name}: anybody can call this route, and it has no throttle"
        elif route["RouteKey"] in settings and name not in listed(resources[sockets].get("DependsOn", [])):
            yield f"{sockets}: has settings of {route['RouteKey']} and may be made before {name}"
    http = on_either_side(resources["HttpApiApiGatewayDefaultStage"]["Properties"].get("RouteSettings", {}))
    for path, methods in resources["HttpApi"]["Properties"]["Body"]["paths"].items():
        for method, operation in methods.items():
            route = f"{method.upper()} {path}"
            is_open = operation.get("security", [{"NONE": []}]) == [{"NONE": []}]
            if method != "options" and is_open and not is_throttled(http.get(route, {})):
                yield f"HttpApi: anybody can call {route}, and it has no throttle"


def throttles_that_may_be_texts(template):
    """Throttles of routes have no types in CloudFormation, so that the value of a parameter arrives as a text. The defaults do not."""
    for name, stage in of_type(template["Resources"], "AWS::ApiGatewayV2::Stage").items():
        match stage.get("RouteSettings", {}):
            case {"Fn::If": [condition, numbers, others]}:
                parameters = dict(equalities(template["Conditions"][condition]))
                defaults = {parameter: template["Parameters"][parameter]["Default"] for parameter in parameters}
                if parameters != defaults:
                    yield f"{name}: {condition} is not about the defaults"
                if resolved(others, defaults) != numbers:
                    yield f"{name}: the throttles under {condition} are not the defaults"
            case numbers:
                pass
        if any(not isinstance(limit, (int, float)) for settings in numbers.values() for limit in settings.values()):
            yield f"{name}: a throttle of a route arrives as a text"


def equalities(condition):
    """The parameters and values of a condition that some parameters have some values."""
    for part in condition.get("Fn::And", [condition]):
        parameter, value = part["Fn::Equals"]
        yield parameter["Ref"], value


def resolved(value, parameters):
    match value:
        case {"Ref": name}:
            return parameters[name]
        case dict():
            return {key: resolved(item, parameters) for key, item in value.items()}
        case _:
            return value


def is_throttled(settings):
    return bool(settings.get("ThrottlingRateLimit") and settings.get("ThrottlingBurstLimit"))


def on_either_side(settings):
    """The throttles of routes that are there on both sides of a condition; a limit counts that both have."""
    match settings:
        case {"Fn::If": [_, one, other]}:
            routes = one.keys() & other.keys()
            return {route: {limit: one[route][limit] for limit in one[route].keys() & other[route].keys()} for route in routes}
        case _:
            return settings


def arithmetic_without_fill(alarms):
    """CloudWatch has no data for what did not happen, and no result of arithmetic with what it has no data for."""
    for name, alarm in alarms.items():
        metrics = [query["Id"] for query in alarm.get("Metrics", []) if "MetricStat" in query]
        for query in alarm.get("Metrics", []):
            bare = re.sub(r"FILL\(\w+, 0\)", "", query.get("Expression", ""))
            for metric in metrics:
                if re.search(rf"\b{metric}\b", bare):
                    yield f"{name}: {query['Id']} has no value where {metric} has none"


def silence_that_does_not_ring(resources, alarms):
    """Functions that run by the clock for the service's own sake, and what fails without a word."""
    ringing = {name: alarm for name, alarm in alarms.items() if alarm["TreatMissingData"] == "breaching"}
    for rule, properties in of_type(resources, "AWS::Events::Rule").items():
        if "ScheduleExpression" in properties and "Condition" not in resources[rule]:
            (function,) = (target["Arn"]["Fn::GetAtt"][0] for target in properties["Targets"])
            if function not in functions_watched(ringing, "AWS/Lambda", "Invocations"):
                yield f"{rule}: no alarm rings when {function} does not run"
    for name, config in of_type(resources, "AWS::Lambda::EventInvokeConfig").items():
        function = config["FunctionName"]["Ref"]
        for metric in ("AsyncEventsDropped", "DestinationDeliveryFailures"):
            if config.get("DestinationConfig") and function not in functions_watched(alarms, "AWS/Lambda", metric):
                yield f"{name}: no alarm on {metric} of {function}"
    for table in of_type(resources, "AWS::DynamoDB::Table"):
        for metric in ("ReadThrottleEvents", "WriteThrottleEvents"):
            if "Condition" not in resources[table] and table not in functions_watched(alarms, "AWS/DynamoDB", metric):
                yield f"{table}: no alarm on its {metric}"


# What holds data, and would otherwise be kept or deleted as CloudFormation's defaults are.
KEEPERS = ("AWS::DynamoDB::Table", "AWS::Logs::LogGroup", "AWS::SQS::Queue")


def what_is_kept_by_default(resources):
    for kind in KEEPERS:
        for name in of_type(resources, kind):
            if not {"DeletionPolicy", "UpdateReplacePolicy"} <= resources[name].keys():
                yield f"{name}: does not say what becomes of its data"


# Bytes of all variables of a function. Source: Lambda quotas.
ENVIRONMENT_MAX = 4096
# Bound of what CloudFormation makes of a reference that is no parameter: names, ARNs, addresses.
REFERENCE_MAX = 256


def environments_without_bound(template):
    """A long value of a parameter must not fail the update of a function."""
    for name, function in of_type(template["Resources"], "AWS::Lambda::Function").items():
        total = 0
        for variable, value in function.get("Environment", {}).get("Variables", {}).items():
            longest = length(value, template["Parameters"])
            if longest is None:
                yield f"{name}: {variable} has no longest value, see MaxLength"
            total += len(variable) + (longest or 0)
        if total > ENVIRONMENT_MAX:
            yield f"{name}: its environment may have {total} bytes, Lambda takes {ENVIRONMENT_MAX}"


def length(value, parameters):
    """The most characters that a value can have, where that is bounded."""
    match value:
        case str():
            return len(value)
        case {"Fn::If": [_, *sides]}:
            sides = [length(side, parameters) for side in sides]
            return None if None in sides else max(sides)
        case {"Ref": name} if name in parameters:
            parameter = parameters[name]
            repeated = re.fullmatch(r"\^\[[^]]+\](?:\[[^]]+\])?\{\d+,(\d+)\}\$", parameter.get("AllowedPattern", ""))
            bounds = [parameter.get("MaxLength"), int(repeated[1]) + 1 if repeated else None]
            bounds += [max(map(len, map(str, parameter["AllowedValues"])))] if "AllowedValues" in parameter else []
            bounds += [len(str(parameter["MaxValue"]))] if "MaxValue" in parameter else []
            return min((bound for bound in bounds if bound is not None), default=None)
        case _:
            return REFERENCE_MAX


def sources_that_differ(resources):
    """The source of events that one stack sends and hears, which names the stack unless a parameter names another."""
    own = {"Fn::If": ["HasScorerSource", {"Ref": "ScorerSource"}, {"Fn::Sub": "viral-alerts.scorer.${AWS::StackName}"}]}
    for name, rule in of_type(resources, "AWS::Events::Rule").items():
        if rule.get("EventPattern", {}).get("source", [own]) != [own]:
            yield f"{name}: hears other events than those of its own stack"
    for name, kind in POLICIES.items():
        for policy, properties in of_type(resources, name).items():
            for statement in statements(kind(properties)):
                sources = statement.get("Condition", {}).get("StringEquals", {}).get("events:source")
                if "events:PutEvents" in listed(statement.get("Action", [])) and sources != own:
                    yield f"{policy}: may put events that are not of its own stack"
    for name, function in of_type(resources, "AWS::Lambda::Function").items():
        if function.get("Environment", {}).get("Variables", {}).get("SCORER_SOURCE", own) != own:
            yield f"{name}: sends events that are not of its own stack"


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

"""Rules for the project's template, checked on the result of the SAM transform.

Each rule is a function that yields one sentence for each violation; `findings` collects them.
"""

import json
import re
import sys
from pathlib import Path

from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tests"))
import tidy

RUNBOOK = "docs/runbook.md"

# Metrics of deliver that change when alerts arrive late or not at all.
DELIVERY_METRICS = ("Gone", "Lag", "Undelivered")


class ManagedPolicies:
    """Stands in for IAM, where SAM looks up managed policies by name. The template has none of those."""

    def load(self):
        return {}


def parsed(path):
    """Returns a template of the repository as SAM reads it."""
    return yaml_parse((ROOT / path).read_text())


def transformed(change=lambda template: None, **parameters):
    """Returns the template as CloudFormation gets it, after `change`, with these values of parameters.

    Tracing is on unless `parameters` says otherwise, because it adds permissions.
    """
    template = parsed("template.yaml")
    change(template)
    # SAM rejects a directory here. `sam build` and `sam deploy` replace it with an address.
    template["Globals"]["Function"]["CodeUri"] = "s3://bucket/key"
    return transform(template, {"Tracing": "Active", **parameters}, ManagedPolicies())


def allowed_wildcards():
    """Returns role and text of each wildcard or managed policy that wildcards.json allows."""
    entries = json.loads((Path(__file__).parent / "wildcards.json").read_text())
    assert all(entry["reason"] for entry in entries), "wildcards.json: an entry has no reason"
    return {(entry["role"], entry["text"]) for entry in entries}


def runbook_sections():
    """Returns the anchors of the runbook's headings."""
    return tidy.anchors(ROOT / RUNBOOK)


def findings(template, allowed, sections):
    """Returns the violations in a transformed template, one sentence each."""
    resources = template["Resources"]
    alarms = of_type(resources, "AWS::CloudWatch::Alarm")
    return [
        *wildcards(resources, allowed),
        *functions_without_monitoring(resources, alarms),
        *delivery_metrics_without_alarm(alarms),
        *permissions_without_source(resources),
        *tables_with_wrong_settings(resources),
        *alarms_without_runbook(alarms, sections),
        *open_routes_without_throttle(resources),
        *throttles_as_strings(template),
        *reservations_by_default(resources),
        *access_to_other_logs(resources),
        *arithmetic_without_fill(alarms),
        *failures_without_alarm(resources, alarms),
        *data_without_deletion_policy(resources),
        *unbounded_environments(template),
        *events_of_other_stacks(resources),
    ]


def of_type(resources, kind):
    """Returns the properties of each resource of a type, by name."""
    return {name: resource.get("Properties", {}) for name, resource in resources.items() if resource["Type"] == kind}


def wildcards(resources, allowed):
    """Finds permissions that wildcards.json does not allow, and policies in the wrong place."""
    seen = set()
    for name in of_type(resources, "AWS::IAM::Policy"):
        yield f"{name}: move this policy into the role of its function"
    for name, properties in of_type(resources, "AWS::IAM::ManagedPolicy").items():
        if properties.keys() & {"Groups", "Roles", "Users"}:
            yield f"{name}: a managed policy is for publishers, so it must not name groups, roles or users"
    for name, kind in POLICIES.items():
        for role, properties in of_type(resources, name).items():
            found = [arn.split(":policy/")[-1] for arn in strings(properties.get("ManagedPolicyArns", []))]
            for statement in statements(kind(properties)):
                if "NotAction" in statement or "NotResource" in statement:
                    yield f"{role}: NotAction and NotResource allow everything else"
                actions = list(strings(statement.get("Action", [])))
                found += [action for action in actions if "*" in action]
                # The resource "*" is allowed for some actions only, so the text names them.
                everything = f"{', '.join(actions)} on *"
                named = strings(statement.get("Resource", []))
                found += [everything if text == "*" else text for text in named if "*" in text]
            for text in found:
                # The role "*" in wildcards.json stands for every role.
                entry = next((entry for entry in [(role, text), ("*", text)] if entry in allowed), None)
                seen.add(entry)
                if entry is None:
                    yield f"{role}: wildcards.json has no reason for {text}"
    for role, text in sorted(allowed - seen):
        yield f"{role}: wildcards.json allows {text}, which the template does not use"


# The policies in each type of resource that has some.
POLICIES = {
    "AWS::IAM::Role": lambda properties: properties.get("Policies", []),
    "AWS::IAM::RolePolicy": lambda properties: [properties],
    "AWS::IAM::ManagedPolicy": lambda properties: [properties],
}


def statements(policies):
    """Yields the statements of policies. A policy or statement under a condition counts as present."""
    for policy in policies:
        policy = policy.get("Fn::If", ["", policy])[1]
        for statement in as_list(policy["PolicyDocument"]["Statement"]):
            yield statement.get("Fn::If", ["", statement])[1]


def permissions_without_source(resources):
    """Finds permissions for a service to invoke a function on behalf of any account."""
    for name, permission in of_type(resources, "AWS::Lambda::Permission").items():
        if not permission.get("SourceArn"):
            yield f"{name}: no SourceArn"


def access_to_other_logs(resources):
    """Finds functions that can write to other log groups, or create one, which would have no retention."""
    users = {}
    for name, function in of_type(resources, "AWS::Lambda::Function").items():
        role = function["Role"].get("Fn::GetAtt", [None])[0]
        properties = of_type(resources, "AWS::IAM::Role").get(role, {})
        users.setdefault(role, []).append(name)
        own = {"Fn::GetAtt": [log_group(function), "Arn"]}
        allowed = [
            (sorted(as_list(statement["Action"])), statement.get("Resource"))
            for statement in statements(properties.get("Policies", []))
            if any(action.startswith(("logs:", "*")) for action in as_list(statement.get("Action", [])))
        ]
        if allowed != [(["logs:CreateLogStream", "logs:PutLogEvents"], own)] or properties.get("ManagedPolicyArns"):
            yield f"{name}: can write to other log groups than its own"
    for role, functions in users.items():
        if len(functions) > 1:
            yield f"{role}: several functions have this role: {', '.join(sorted(functions))}"


def log_group(function):
    """Returns the name of the resource that is a function's log group, if it is one of the template."""
    group = function.get("LoggingConfig", {}).get("LogGroup", {})
    return group.get("Ref") if isinstance(group, dict) else None


def functions_without_monitoring(resources, alarms):
    """Finds functions without a log group, a filter for lines of errors, alarms or a place on the dashboard."""
    groups = of_type(resources, "AWS::Logs::LogGroup")
    (dashboard,) = of_type(resources, "AWS::CloudWatch::Dashboard").values()
    body = "".join(strings(dashboard["DashboardBody"]))
    watched = {metric: set(watched_by_alarm(alarms, "AWS/Lambda", metric)) for metric in ("Errors", "Throttles")}
    with_alarm_on_silence = functions_with_alarm_on_silence(alarms)
    filtered = [properties["LogGroupName"] for properties in of_type(resources, "AWS::Logs::MetricFilter").values()]
    for name, function in of_type(resources, "AWS::Lambda::Function").items():
        group = log_group(function)
        if not groups.get(group, {}).get("RetentionInDays"):
            yield f"{name}: no log group with RetentionInDays"
        if {"Ref": group} not in filtered:
            yield f"{name}: no metric filter on its log group"
        for metric, functions in watched.items():
            if name not in functions | with_alarm_on_silence:
                yield f"{name}: no alarm on its metric {metric}"
        # A dashboard cannot name a resource under a condition.
        if "Condition" not in resources[name] and f"${{{name}}}" not in body:
            yield f"{name}: not on the dashboard"


def functions_with_alarm_on_silence(alarms):
    """Returns functions with an alarm that rings when a metric of their own is missing.

    Such an alarm also rings when the function is throttled or fails.
    """
    on_silence = [
        alarm
        for alarm in alarms.values()
        if alarm.get("Namespace") == "ViralAlerts" and alarm.get("TreatMissingData") == "breaching"
    ]
    return {dimension["Value"].get("Ref") for alarm in on_silence for dimension in alarm["Dimensions"]}


def delivery_metrics_without_alarm(alarms):
    for metric in DELIVERY_METRICS:
        if "DeliverFunction" not in watched_by_alarm(alarms, "ViralAlerts", metric):
            yield f"DeliverFunction: no alarm on its metric {metric}"


def watched_by_alarm(alarms, namespace, name):
    """Yields the functions or tables that have an alarm on this metric."""
    for alarm in alarms.values():
        queries = [query["MetricStat"]["Metric"] for query in alarm.get("Metrics", []) if "MetricStat" in query]
        for metric in [*queries, alarm]:
            if (metric.get("Namespace"), metric.get("MetricName")) == (namespace, name):
                yield from (dimension["Value"].get("Ref") for dimension in metric.get("Dimensions", []))


def tables_with_wrong_settings(resources):
    for name, table in of_type(resources, "AWS::DynamoDB::Table").items():
        # DynamoDB encrypts every table with a key of its own. The use of any other key is billed.
        if "SSESpecification" in table:
            yield f"{name}: SSESpecification names a key whose use is billed"
        if table.get("TimeToLiveSpecification", {}).get("Enabled") is not True:
            yield f"{name}: no time to live"


def alarms_without_runbook(alarms, sections):
    for name, alarm in alarms.items():
        section = re.search(rf"{RUNBOOK}#([\w-]+)$", alarm.get("AlarmDescription", ""))
        if not section:
            yield f"{name}: its description does not end with a section of {RUNBOOK}"
        elif section[1] not in sections:
            yield f"{name}: {RUNBOOK} has no section {section[1]}"


def open_routes_without_throttle(resources):
    """Finds routes that anybody can call and that have no limit for all callers together."""
    (name_of_stage,) = of_type(resources, "AWS::ApiGatewayV2::Stage").keys() - {"HttpApiApiGatewayDefaultStage"}
    stage = resources[name_of_stage]["Properties"]
    settings = both_branches(stage.get("RouteSettings", {}))
    for name, route in of_type(resources, "AWS::ApiGatewayV2::Route").items():
        if not is_throttled(settings.get(route["RouteKey"], stage.get("DefaultRouteSettings", {}))):
            yield f"{name}: an open route without a throttle"
        elif route["RouteKey"] in settings and name not in as_list(resources[name_of_stage].get("DependsOn", [])):
            yield f"{name_of_stage}: has settings of {route['RouteKey']}, but DependsOn does not name {name}"
    http = both_branches(resources["HttpApiApiGatewayDefaultStage"]["Properties"].get("RouteSettings", {}))
    for path, methods in resources["HttpApi"]["Properties"]["Body"]["paths"].items():
        for method, operation in methods.items():
            route = f"{method.upper()} {path}"
            is_open = operation.get("security", [{"NONE": []}]) == [{"NONE": []}]
            if method != "options" and is_open and not is_throttled(http.get(route, {})):
                yield f"HttpApi: {route} is an open route without a throttle"


def throttles_as_strings(template):
    """Finds throttles that arrive as strings while all parameters have their defaults.

    CloudFormation has no types for route settings, so the value of a parameter arrives as a string.
    """
    for name, stage in of_type(template["Resources"], "AWS::ApiGatewayV2::Stage").items():
        match stage.get("RouteSettings", {}):
            case {"Fn::If": [condition, numbers, others]}:
                parameters = dict(equalities(template["Conditions"][condition]))
                defaults = {parameter: template["Parameters"][parameter]["Default"] for parameter in parameters}
                if parameters != defaults:
                    yield f"{name}: {condition} does not compare parameters with their defaults"
                if resolved(others, defaults) != numbers:
                    yield f"{name}: the throttles under {condition} differ from the defaults"
            case numbers:
                pass
        if any(not isinstance(limit, (int, float)) for settings in numbers.values() for limit in settings.values()):
            yield f"{name}: a throttle arrives as a string"


def equalities(condition):
    """Yields each parameter and the value that a condition compares it with."""
    for part in condition.get("Fn::And", [condition]):
        parameter, value = part["Fn::Equals"]
        yield parameter["Ref"], value


def resolved(value, parameters):
    """Returns a value with these parameters in place of references."""
    match value:
        case {"Ref": name}:
            return parameters[name]
        case dict():
            return {key: resolved(item, parameters) for key, item in value.items()}
        case _:
            return value


def is_throttled(settings):
    return bool(settings.get("ThrottlingRateLimit") and settings.get("ThrottlingBurstLimit"))


def both_branches(settings):
    """Returns the route settings that both branches of a condition have."""
    match settings:
        case {"Fn::If": [_, one, other]}:
            return {
                route: {limit: one[route][limit] for limit in one[route].keys() & other[route].keys()}
                for route in one.keys() & other.keys()
            }
        case _:
            return settings


def arithmetic_without_fill(alarms):
    """Finds expressions that have no value in a period without data.

    CloudWatch has no data for events that did not happen.
    """
    for name, alarm in alarms.items():
        metrics = [query["Id"] for query in alarm.get("Metrics", []) if "MetricStat" in query]
        for query in alarm.get("Metrics", []):
            without_fill = re.sub(r"FILL\(\w+, 0\)", "", query.get("Expression", ""))
            for metric in metrics:
                if re.search(rf"\b{metric}\b", without_fill):
                    yield f"{name}: {query['Id']} uses {metric} without FILL"


def failures_without_alarm(resources, alarms):
    """Finds schedules that can stop, events that can be lost and tables that can be throttled without an alarm."""
    on_silence = {name: alarm for name, alarm in alarms.items() if alarm["TreatMissingData"] == "breaching"}
    for rule, properties in of_type(resources, "AWS::Events::Rule").items():
        if "ScheduleExpression" in properties and "Condition" not in resources[rule]:
            (function,) = (target["Arn"]["Fn::GetAtt"][0] for target in properties["Targets"])
            if function not in watched_by_alarm(on_silence, "AWS/Lambda", "Invocations"):
                yield f"{rule}: no alarm on missing Invocations of {function}"
    for name, config in of_type(resources, "AWS::Lambda::EventInvokeConfig").items():
        function = config["FunctionName"]["Ref"]
        for metric in ("AsyncEventsDropped", "DestinationDeliveryFailures"):
            if config.get("DestinationConfig") and function not in watched_by_alarm(alarms, "AWS/Lambda", metric):
                yield f"{name}: no alarm on {metric} of {function}"
    for table in of_type(resources, "AWS::DynamoDB::Table"):
        for metric in ("ReadThrottleEvents", "WriteThrottleEvents"):
            is_watched = table in watched_by_alarm(alarms, "AWS/DynamoDB", metric)
            if "Condition" not in resources[table] and not is_watched:
                yield f"{table}: no alarm on its metric {metric}"


# Types of resources that hold data.
WITH_DATA = ("AWS::DynamoDB::Table", "AWS::Logs::LogGroup", "AWS::SQS::Queue")


def data_without_deletion_policy(resources):
    for kind in WITH_DATA:
        for name in of_type(resources, kind):
            for policy in ("DeletionPolicy", "UpdateReplacePolicy"):
                if policy not in resources[name]:
                    yield f"{name}: no {policy}"


# Bytes of all variables of a function. Source: Lambda quotas.
ENVIRONMENT_MAX = 4096
# Bound of the length of names, ARNs and addresses of resources.
REFERENCE_MAX = 256


def unbounded_environments(template):
    """Finds functions whose update would fail with long values of parameters."""
    for name, function in of_type(template["Resources"], "AWS::Lambda::Function").items():
        total = 0
        for variable, value in function.get("Environment", {}).get("Variables", {}).items():
            longest = length(value, template["Parameters"])
            if longest is None:
                yield f"{name}: the length of {variable} has no bound, set MaxLength"
            total += len(variable) + (longest or 0)
        if total > ENVIRONMENT_MAX:
            yield f"{name}: its environment can have {total} bytes, Lambda allows {ENVIRONMENT_MAX}"


def length(value, parameters):
    """Returns the maximum length of a value, or None if it has no bound."""
    match value:
        case str():
            return len(value)
        case {"Fn::If": [_, *branches]}:
            lengths = [length(branch, parameters) for branch in branches]
            return None if None in lengths else max(lengths)
        case {"Ref": name} if name in parameters:
            parameter = parameters[name]
            repeated = re.fullmatch(r"\^\[[^]]+\](?:\[[^]]+\])?\{\d+,(\d+)\}\$", parameter.get("AllowedPattern", ""))
            bounds = [parameter.get("MaxLength"), int(repeated[1]) + 1 if repeated else None]
            bounds += [max(map(len, map(str, parameter["AllowedValues"])))] if "AllowedValues" in parameter else []
            bounds += [len(str(parameter["MaxValue"]))] if "MaxValue" in parameter else []
            return min((bound for bound in bounds if bound is not None), default=None)
        case _:
            return REFERENCE_MAX


def events_of_other_stacks(resources):
    """Finds rules, policies and functions with another source of events than that of their stack."""
    own = {"Fn::If": ["HasScorerSource", {"Ref": "ScorerSource"}, {"Fn::Sub": "viral-alerts.scorer.${AWS::StackName}"}]}
    for name, rule in of_type(resources, "AWS::Events::Rule").items():
        if rule.get("EventPattern", {}).get("source", [own]) != [own]:
            yield f"{name}: receives events of other stacks"
    for name, kind in POLICIES.items():
        for policy, properties in of_type(resources, name).items():
            for statement in statements(kind(properties)):
                sources = statement.get("Condition", {}).get("StringEquals", {}).get("events:source")
                if "events:PutEvents" in as_list(statement.get("Action", [])) and sources != own:
                    yield f"{policy}: can send events of other stacks"
    for name, function in of_type(resources, "AWS::Lambda::Function").items():
        if function.get("Environment", {}).get("Variables", {}).get("SCORER_SOURCE", own) != own:
            yield f"{name}: sends events of other stacks"


def reservations_by_default(resources):
    """Finds reserved concurrency that fails the deployment in an account with a quota of 10 or 50."""
    for name, function in of_type(resources, "AWS::Lambda::Function").items():
        match function.get("ReservedConcurrentExecutions"):
            case None | {"Fn::If": ["HasReservedConcurrency", _, {"Ref": "AWS::NoValue"}]}:
                pass
            case _:
                yield f"{name}: reserves concurrency by default"


def as_list(value):
    return value if isinstance(value, list) else [value]


def strings(value):
    """Yields every string that a value can become, with references as ${Name} and both branches of conditions."""
    match value:
        case str():
            yield value
        case list():
            for item in value:
                yield from strings(item)
        case {"Ref": name}:
            yield f"${{{name}}}"
        case {"Fn::GetAtt": path}:
            yield f"${{{path if isinstance(path, str) else '.'.join(path)}}}"
        case {"Fn::Sub": [str(text), _]} | {"Fn::Sub": str(text)}:
            yield text
        case {"Fn::If": [_, *branches]}:
            yield from strings(branches)
        case _:
            yield json.dumps(value)

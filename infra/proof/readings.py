"""What CloudWatch knows about a proof: invocations, throttles, cold starts, units. What it does not say is None."""

import json
import time
from datetime import datetime, timezone

from botocore.exceptions import BotoCoreError, ClientError

from rounds import REGION

# Queries of one request. Source: GetMetricData.
QUERIES_MAX = 500
# Lines of a log that are read at most: each is a cold start or a part of a fan-out.
LINES_MAX = 20_000
PERIOD_SECS = 60


def read(session, resources, memory, since, calm, say):
    """Reads metrics and logs of a stack since a moment. `memory` has the MB of each function, by its logical id.

    `calm` is the time in which only fan-outs read the table of subscriptions, or None.
    """
    try:
        figures = metrics(session, resources, memory, since, calm)
    except (BotoCoreError, ClientError) as error:
        say(f"cannot read metrics: {error}")
        figures = {}
    try:
        lines = log_lines(session, sorted(log_groups(session, resources)), since)
    except (BotoCoreError, ClientError) as error:
        say(f"cannot read logs: {error}")
        lines = {}
    return {"metrics": figures, **from_lines(lines)}


def log_groups(session, resources):
    found = (name for logical, name in resources.items() if logical.endswith("Logs") and name.startswith("/aws/lambda"))
    return set(found)


def log_lines(session, groups, since):
    """Returns the lines that count, by log group: starts of environments, and what deliver did."""
    logs = session.client("logs")
    filters = [
        '{ $.type = "platform.report" && $.record.metrics.initDurationMs = * }',
        '{ $.fields.message = "alert delivered" }',
    ]
    found = {}
    for group in groups:
        lines = found.setdefault(group, {})
        for pattern in filters:
            pages = logs.get_paginator("filter_log_events").paginate(
                logGroupName=group,
                filterPattern=pattern,
                startTime=int(since * 1_000),
                PaginationConfig={"MaxItems": LINES_MAX},
            )
            try:
                lines |= {(event.get("eventId"), event["timestamp"], event["message"]): None
                          for page in pages for event in page["events"]}  # fmt: skip
            except logs.exceptions.ResourceNotFoundException:
                continue
    return {group: [message for _, _, message in lines] for group, lines in found.items()}


def from_lines(lines):
    """Returns cold starts by log group, and the parts of fan-outs, from lines of logs."""
    cold, parts = {}, []
    for group, messages in lines.items():
        for message in messages:
            fields = parsed(message)
            if fields.get("type") == "platform.report":
                start = fields.get("record", {}).get("metrics", {}).get("initDurationMs")
                cold.setdefault(group, []).extend([start] if start is not None else [])
            inner = fields.get("fields", {})
            if inner.get("message") == "alert delivered" and inner.get("region") == REGION:
                parts.append({name: value for name, value in inner.items() if isinstance(value, (int, float))})
    return {"cold_starts_ms": {group: sorted(all) for group, all in cold.items()}, "parts": parts}


def parsed(message):
    try:
        value = json.loads(message)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def metrics(session, resources, memory, since, calm):
    """Returns sums and percentiles of the metrics of a stack, by name."""
    wanted = {}

    def want(name, namespace, metric, statistic, **dimensions):
        wanted[name] = (namespace, metric, statistic, dimensions)

    for logical in memory:
        function = {"FunctionName": resources[logical]}
        for metric in ("Invocations", "Errors", "Throttles", "Duration"):
            want(f"{logical} {metric}", "AWS/Lambda", metric, "Sum", **function)
        want(f"{logical} most at once", "AWS/Lambda", "ConcurrentExecutions", "Maximum", **function)
    if deliver := resources.get("DeliverFunction"):
        for share in ("p10", "p90"):
            want(f"queue {share}", "AWS/Lambda", "AsyncEventAge", share, FunctionName=deliver)
    for logical in ("SubscriptionsTable", "AlertsTable"):
        if table := resources.get(logical):
            for units in ("ConsumedReadCapacityUnits", "ConsumedWriteCapacityUnits"):
                want(f"{logical} {units}", "AWS/DynamoDB", units, "Sum", TableName=table)
            want(f"{logical} ThrottledRequests", "AWS/DynamoDB", "ThrottledRequests", "Sum", TableName=table)
    if api := resources.get("WebSocketApi"):
        for metric in ("ConnectCount", "MessageCount", "ClientError", "ExecutionError", "IntegrationError"):
            want(metric, "AWS/ApiGateway", metric, "Sum", ApiId=api)
    for logical, group in resources.items():
        if logical.endswith("Logs") and group.startswith("/aws/lambda"):
            want(f"{logical} IncomingBytes", "AWS/Logs", "IncomingBytes", "Sum", LogGroupName=group)
    cloudwatch = session.client("cloudwatch")
    # Metrics of the last minute may still be written.
    found = fetched(cloudwatch, wanted, since, time.time() + PERIOD_SECS)
    if calm and (table := resources.get("SubscriptionsTable")):
        query = {"TableName": table, "Operation": "Query"}
        wanted = {"page": ("AWS/DynamoDB", "SuccessfulRequestLatency", "Average", query)}
        found |= fetched(cloudwatch, wanted, *calm)
    return found


def fetched(cloudwatch, wanted, since, until):
    """Returns one value for each metric that has any."""
    names = list(wanted)
    start, end = (datetime.fromtimestamp(moment, timezone.utc) for moment in (since, until))
    values = {}
    for at in range(0, len(names), QUERIES_MAX):
        queries = []
        for number, name in enumerate(names[at : at + QUERIES_MAX]):
            namespace, metric, statistic, dimensions = wanted[name]
            listed = [{"Name": key, "Value": value} for key, value in dimensions.items()]
            metric = {"Namespace": namespace, "MetricName": metric, "Dimensions": listed}
            stat = {"Metric": metric, "Period": PERIOD_SECS, "Stat": statistic}
            queries.append({"Id": f"m{at + number}", "MetricStat": stat})
        pages = cloudwatch.get_paginator("get_metric_data").paginate(
            MetricDataQueries=queries, StartTime=start, EndTime=end
        )
        for page in pages:
            for result in page["MetricDataResults"]:
                values.setdefault(names[int(result["Id"][1:])], []).extend(result["Values"])
    return {name: total(wanted[name][2], found) for name, found in values.items() if found}


def total(statistic, values):
    """Returns one value for all periods: a sum, the largest, or the median of averages and percentiles."""
    if statistic == "Sum":
        return sum(values)
    return max(values) if statistic == "Maximum" else sorted(values)[len(values) // 2]

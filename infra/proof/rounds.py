"""A round: clients connect from functions, get alerts, and leave."""

import collections
import json
import math
import time
import urllib.error
import urllib.request

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest

import plan

# The region of all clients. It has no other subscribers and no earlier alerts.
REGION = "PROOF"
POLL_SECS = 1
PAUSE_SECS = 3
# Bound of a request, in seconds.
REQUEST_SECS_MAX = 30


class Board:
    """The table in which functions report."""

    def __init__(self, session, table):
        self.client, self.table = session.client("dynamodb"), table

    def reports(self, round_name):
        """Returns the reports of a round, by function."""
        found = {}
        for page in self.client.get_paginator("scan").paginate(TableName=self.table, ConsistentRead=True):
            for item in page["Items"]:
                name, _, index = item["name"]["S"].rpartition("/")
                if name == round_name and index != "over":
                    found[int(index)] = json.loads(item["said"]["S"])
        return found

    def end(self, round_name):
        """Tells all functions of a round to end."""
        self.client.put_item(TableName=self.table, Item={"name": {"S": f"{round_name}/over"}})


def published(session, address, body):
    """Publishes with a signed request. Returns the answer, and how long it took in seconds."""
    request = AWSRequest("POST", address, data=json.dumps(body), headers={"content-type": "application/json"})
    SigV4Auth(session.get_credentials(), "execute-api", session.region_name).add_auth(request)
    sent = urllib.request.Request(request.url, request.data.encode(), dict(request.headers), method="POST")
    started = time.monotonic()
    try:
        with urllib.request.urlopen(sent, timeout=REQUEST_SECS_MAX) as answer:
            return json.load(answer), time.monotonic() - started
    except urllib.error.HTTPError as error:
        text = error.read().decode(errors="replace")
        raise RuntimeError(f"publishing was answered with {error.code}: {text}") from None


def until(condition, secs):
    """Waits for a condition, for at most `secs`. Returns whether it holds."""
    deadline = time.monotonic() + secs
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECS)
    return True


def performed(cloud, board, addresses, each):
    """Performs a round. Returns what came of it, as a JSON object."""
    name = f"{each.clients}-{time.time_ns()}"
    start_at = time.time() + plan.START_SECS
    life = each.life_secs - each.close_secs
    for index in range(each.functions):
        event = {
            "round": name,
            "index": index,
            "functions": each.functions,
            # As even as possible, and together as many as the round has.
            "clients": (each.clients - index + each.functions - 1) // each.functions,
            "connects_per_sec": each.connects_per_sec,
            "closes_per_sec": each.connects_per_sec * plan.CLOSES_PER_CONNECT,
            "start_at": start_at,
            "until": time.time() + life,
            "url": f"{addresses.sockets}?region={REGION}&format=viral_alert",
        }
        cloud.start_clients(event)

    def said(field):
        return sum(report[field] for report in board.reports(name).values())

    until(lambda: said("connected") >= each.clients, plan.START_SECS + each.ramp_secs + plan.SETTLE_SECS)
    cloud.say(f"{said('open'):,} of {each.clients:,} clients are connected after {time.time() - start_at:.0f} s")
    alerts, calm_from = [], time.time()
    for number in range(each.alerts):
        time.sleep(PAUSE_SECS)
        expected = said("open")
        video = {"id": f"proof-{number}", "title": "A measured alert", "thumbnail": "", "score": 97}
        answer, secs = published(cloud.session, addresses.publish, {"region": REGION, "video": video})
        alert = answer["id"]

        def arrived():
            return sum(report["alerts"].get(alert, 0) for report in board.reports(name).values())

        until(lambda: arrived() >= expected, each.alert_secs - PAUSE_SECS)
        alerts.append({"id": alert, "expected": expected, "publish_ms": round(secs * 1_000)})
        cloud.say(f"alert {number + 1}: {arrived():,} of {expected:,} frames")
    board.end(name)
    # While nobody connects or leaves, the tables serve only fan-outs.
    calm = {"calm_from": calm_from, "calm_until": time.time()}
    end_secs = each.close_secs + plan.END_SECS
    until(lambda: all(report.get("last") for report in board.reports(name).values()), end_secs)
    return summarized(each, alerts, board.reports(name)) | calm


def summarized(each, alerts, reports):
    """Returns the figures of a round from the last reports of its functions."""
    refused = collections.Counter()
    for report in reports.values():
        refused.update(report["refused"])
    for alert in alerts:
        frames = sorted(
            latency for report in reports.values() for latency in report.get("latencies", {}).get(alert["id"], [])
        )
        alert["frames"] = len(frames)
        if frames:
            alert |= {name: percentile(frames, share) for name, share in SHARES.items()}
            # Of the time in which frames came: what was sent in it, of what the quota allows.
            alert["per_sec"] = round(len(frames) / max((frames[-1] - frames[0]) / 1_000, 0.001))
    return {
        "clients": each.clients,
        "functions": each.functions,
        "connected": sum(report["connected"] for report in reports.values()),
        "lost": sum(report["lost"] for report in reports.values()),
        "duplicates": sum(report["duplicates"] for report in reports.values()),
        "unreported": each.functions - sum(1 for report in reports.values() if report.get("last")),
        "refused": dict(refused),
        "socket_secs": sum(report.get("socket_secs", 0) for report in reports.values()),
        "alerts": alerts,
    }


# What is kept of the latencies of an alert, in milliseconds.
SHARES = {"first_ms": 0.0, "half_ms": 0.5, "p99_ms": 0.99, "last_ms": 1.0}


def percentile(ordered, share):
    """Returns the smallest value below or at which lies this share of the values."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]

"""Publishes the top video of two regions: one by event, and one by invocation, which returns the result."""

import json
import os

import boto3

events = boto3.client("events")
lambda_ = boto3.client("lambda")


def handler(event, _context):
    """Runs on a schedule. Lambda retries a failed run with the same event, so its id makes publications idempotent."""
    by_event, by_invocation = (publication(region, event["id"]) for region in ("PL", "DE"))
    entry = {
        "Source": os.environ["SCORER_SOURCE"],
        "DetailType": "Video Went Viral",
        "Detail": json.dumps(by_event),
    }
    # The call succeeds even if EventBridge rejects an entry.
    put = events.put_events(Entries=[entry])
    if put["FailedEntryCount"]:
        raise RuntimeError(f"EventBridge rejected the event: {put['Entries']}")
    answer = lambda_.invoke(FunctionName=os.environ["PUBLISH_FUNCTION"], Payload=json.dumps(by_invocation))
    result = json.load(answer["Payload"])
    if answer.get("FunctionError") or "error" in result:
        raise RuntimeError(f"publish failed: {result}")
    return result


def publication(region, run):
    video = {"id": f"top-{region}", "title": f"The top video of {region}", "score": 97}
    return {"region": region, "id": f"{run}-{region}", "video": video}

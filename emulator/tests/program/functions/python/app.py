"""Every way in which a handler of Python may end, chosen by the message."""

import json
import os
import urllib.request
import ssl


def answer(value):
    return {"statusCode": 200, "body": json.dumps(value)}


def handler(event, context):
    body, request = event["body"], event["requestContext"]
    if body == "throw":
        raise ValueError("thrown")
    if body == "exit":
        os._exit(3)
    if body == "context":
        remaining = context.get_remaining_time_in_millis() > 0
        return answer([context.function_name, context.memory_limit_in_mb, context.invoked_function_arn, remaining])
    if body in ("post", "post elsewhere", "post to the domain"):
        region = os.environ["AWS_REGION"] if body == "post" else "us-gov-west-1"
        host = f"{request['apiId']}.execute-api.{region}.amazonaws.com"
        if body == "post to the domain":
            host = request["domainName"]
        url = f"https://{host}/dev/@connections/{urllib.request.quote(request['connectionId'])}"
        headers = {"authorization": "AWS4-HMAC-SHA256 unchecked"}
        trust = ssl.create_default_context(cafile=os.environ["AWS_CA_BUNDLE"])
        with urllib.request.urlopen(urllib.request.Request(url, b"posted", headers), context=trust) as response:
            return answer(response.status)
    return answer(body)

"""Runs functions of app.py: a line with an event in, a line with the result or the exception out."""

import json
import sys

import app

for line in sys.stdin:
    request = json.loads(line)
    try:
        answer = {"result": getattr(app, request["name"])(request["event"], None)}
    except Exception as error:
        answer = {"error": str(error)}
    print(json.dumps({"id": request["id"], **answer}), flush=True)

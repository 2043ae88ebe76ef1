"""Architect's sandbox, which reads an app.arc and starts a process for each invocation."""

import json

from emulator import REGION, SUITE, TOKEN, Emulator, Program, Running, free_ports, fresh, npm_ci

PACKAGES = SUITE / "emulators/architect"
ROUTES = ["connect", "disconnect", "default", "one-way", "two-way", "half-way", "slow", "brief", "mock"]
# Method and path of each route of the HTTP API.
HTTP_ROUTES = {
    "item": ("get", "/items/:id"),
    "any-item": ("any", "/items/:id"),
    "new-item": ("get", "/items/new"),
    "add-item": ("post", "/items"),
    "file": ("get", "/files/:name"),
    "any-file": ("any", "/files/*"),
    "short-item": ("get", "/short-item"),
}
# The timeout of template.yaml's functions, in seconds.
TIMEOUT_SECS = {"brief": 2, "short-item": 2}

APP = """@app
conformance

@ws
{routes}

@http
{http_routes}

@aws
runtime python3.13
timeout 29
"""

# Architect has no authorizers, whose context carries the observer from $connect to later events. So a file per
# connection does. It has no route responses either: functions answer by a post, as its documentation shows. sandbox
# hands no variables on, so the functions find @connections by what is written here.
FUNCTION = """import os
import pathlib
import sys

os.environ.update({variables})
sys.path.insert(0, {functions})
import app

OBSERVERS = pathlib.Path({observers})
lowered = app.lowered


def handler(event, context):
    context = event["requestContext"]
    kept = OBSERVERS / context["connectionId"].replace("/", "_")
    if context["eventType"] == "CONNECT":
        kept.write_text(lowered(event).get("x-observer", ""))
    app.lowered = lambda event: {{**lowered(event), "x-observer": kept.read_text()}}
    returned = app.handle(event, None)
    answers = {route!r} in ("default", "two-way") and isinstance(returned, dict) and "body" in returned
    if answers and context["eventType"] == "MESSAGE":
        app.post(context["connectionId"], returned["body"])
    return returned
"""


HTTP_FUNCTION = """import os
import sys

os.environ.update({variables})
sys.path.insert(0, {functions})
import app


def handler(event, context):
    return app.handle(event, None)
"""


class Architect(Emulator):
    name = "Architect sandbox"
    home = "https://www.npmjs.com/package/@architect/sandbox"
    unsupported = {
        "authorizer": "Architect has no authorizers",
        "AWS_IAM": "Architect has no AWS_IAM",
        "services": "Architect has no integrations with services",
        "throttling": "Architect has no throttles",
        "MOCK": "Architect has no MOCK integrations",
        "rest-api": "Architect has no REST APIs any more",
        "payload version 1.0": "Architect has payload version 2.0 only",
        "CORS": "app.arc has no CORS for HTTP APIs",
        "$default of an HTTP API": "app.arc has no $default for HTTP APIs",
        "a slash at the end of a path counts": "app.arc has no $default for HTTP APIs",
        "a two-way route answers": "Architect has no route responses",
        "a two-way route whose": "Architect has no route responses",
        "a response selection expression alone": "Architect has no route responses",
        "a number selects the route": "a name in app.arc cannot begin with a digit",
        "than its integration may": "app.arc has no timeout for each integration",
        "integration that is too slow": "app.arc has no timeout for each integration",
    }

    @property
    def version(self):
        packages = json.loads((PACKAGES / "package-lock.json").read_text())["packages"]
        return packages["node_modules/@architect/sandbox"]["version"]

    def install(self):
        npm_ci(PACKAGES, self.directory)

    def start(self, parameters):
        # The route selection expression is always $request.body.action, and there always is a $default.
        if parameters:
            return None
        http, internal = free_ports(2)
        management = f"http://127.0.0.1:{internal}/_arc/ws"
        credentials = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
        credentials |= {"AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION}
        written = dict(
            variables={"AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI": management, "TOKEN": TOKEN, **credentials},
            functions=repr(str(SUITE / "functions")),
            observers=repr(str(fresh(self.directory / "observers"))),
        )
        app = fresh(self.directory / "app")
        http_routes = (
            f"{path}\n  method {method}\n  src src/http/{name}" for name, (method, path) in HTTP_ROUTES.items()
        )
        text = APP.format(routes="\n".join(ROUTES), http_routes="\n".join(http_routes))
        (app / "app.arc").write_text(text)
        functions = {f"ws/{route}": FUNCTION.format(route=route, **written) for route in ROUTES}
        functions |= {f"http/{name}": HTTP_FUNCTION.format(**written) for name in HTTP_ROUTES}
        for name, function in functions.items():
            folder = app / "src" / name
            folder.mkdir(parents=True)
            (folder / "lambda.py").write_text(function)
            if timeout := TIMEOUT_SECS.get(folder.name):
                (folder / "config.arc").write_text(f"@aws\ntimeout {timeout}\n")
        command = [self.directory / "node_modules/.bin/sandbox", "--port", http, "--host", "127.0.0.1"]
        program = Program(command, app, {"ARC_INTERNAL_PORT": str(internal), **credentials})
        return Running(program, f"ws://127.0.0.1:{http}", management, f"http://127.0.0.1:{http}")

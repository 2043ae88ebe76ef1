"""serverless-offline, under osls, a fork of the Serverless Framework that needs no account."""

import json
import shutil

import yaml

from emulator import PYTHON, REGION, STAGE, SUITE, TOKEN, Emulator, Program, Running, free_ports, fresh, npm_ci

PACKAGES = SUITE / "emulators/serverless_offline"


class ServerlessOffline(Emulator):
    name = "serverless-offline"
    home = "https://www.npmjs.com/package/serverless-offline"
    unsupported = {
        "MOCK": "serverless.yml has no MOCK integrations for WebSockets",
        "a response selection expression alone": "serverless.yml adds a route response to every selection expression",
        "than its integration may": "serverless.yml has no timeout for each integration",
        "integration that is too slow": "serverless.yml has no timeout for each integration",
        "AWS_IAM": "serverless.yml has no AWS_IAM for WebSockets",
        "services": "serverless.yml has no integrations with services for WebSockets",
        "throttling": "serverless.yml has no throttles for WebSockets",
    }

    @property
    def version(self):
        packages = json.loads((PACKAGES / "package-lock.json").read_text())["packages"]
        return packages["node_modules/serverless-offline"]["version"]

    def install(self):
        npm_ci(PACKAGES, self.directory)

    def start(self, parameters):
        service = yaml.safe_load((SUITE / "serverless.yml").read_text())
        for name, value in parameters.items():
            if name == "Selection":
                service["provider"]["websocketsApiRouteSelectionExpression"] = value
            elif (name, value) == ("DefaultRoute", "absent"):
                events = service["functions"]["handle"]["events"]
                of_default = ("$default", "*")
                events[:] = [event for event in events if route(event) not in of_default]
            else:
                return None
        service["provider"]["runtime"] = "nodejs20.x"
        service["provider"]["environment"]["PYTHON"] = str(PYTHON / "python3")
        for function in service["functions"].values():
            function["handler"] = function["handler"].replace("app.", "bridge.")
        (self.directory / "serverless.yml").write_text(yaml.safe_dump(service, sort_keys=False))
        functions = fresh(self.directory / "functions")
        for source in (PACKAGES / "bridge.mjs", PACKAGES / "host.py", SUITE / "functions/app.py"):
            shutil.copy(source, functions)
        http, sockets, functions = free_ports(3)
        management, api = (f"http://127.0.0.1:{port}" for port in (sockets, http))
        ports = ["--httpPort", http, "--websocketPort", sockets, "--lambdaPort", functions]
        env = {
            "CONFORMANCE_TOKEN": TOKEN,
            "CONFORMANCE_MANAGEMENT": management,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": REGION,
            "SLS_TELEMETRY_DISABLED": "1",
            "SLS_NOTIFICATIONS_MODE": "off",
        }
        command = ["node_modules/.bin/serverless", "offline", "start", "--host", "127.0.0.1", *ports]
        program = Program(command, self.directory, env)
        return Running(program, f"ws://127.0.0.1:{sockets}", management, api, f"{api}/{STAGE}")


def route(event):
    """The route of a WebSocket or HTTP API's event."""
    return event["websocket"]["route"] if "websocket" in event else event.get("httpApi")

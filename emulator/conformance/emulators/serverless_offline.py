"""serverless-offline, under osls, a fork of the Serverless Framework that needs no account."""

import json
import shutil

import yaml

from emulator import PYTHON, REGION, SUITE, TOKEN, Emulator, Program, Running, free_ports, fresh, npm_ci

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
                events[:] = [event for event in events if event["websocket"]["route"] != "$default"]
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
        management = f"http://127.0.0.1:{sockets}"
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
        return Running(Program(command, self.directory, env), f"ws://127.0.0.1:{sockets}", management)

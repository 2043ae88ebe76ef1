"""apigw-local, the emulator of this repository."""

import shlex
import tomllib

from emulator import REGION, ROOT, SUITE, TOKEN, Emulator, Program, Running, fresh


class ApigwLocal(Emulator):
    name = "apigw-local"

    def __init__(self, programs):
        super().__init__()
        self.program = programs / "apigw-local"

    @property
    def version(self):
        return tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]

    def start(self, parameters):
        directory = fresh(self.directory)
        variables = directory / "variables"
        command = [self.program, "--template", SUITE / "template.yaml", "--env-file", variables]
        command += ["--ws-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--check-signatures", "--throttles"]
        for name, value in {"Token": TOKEN, **parameters}.items():
            command += ["--parameter", f"{name}={value}"]
        program = Program(command, directory, {"AWS_REGION": REGION})
        url = program.wait_for("apigw-local", lambda: program.said("ready ")).split()[1]
        http_api, rest_api = (program.said(f"# the {kind} ").split()[-1] for kind in ("HTTP API", "REST API"))
        words = shlex.split(variables.read_text(), comments=True)
        given = dict(word.split("=", 1) for word in words if word != "export")
        return Running(
            program,
            url,
            given["AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI"],
            http_api,
            rest_api,
            given["AWS_REGION"],
            given["AWS_ACCESS_KEY_ID"],
            given["AWS_SECRET_ACCESS_KEY"],
        )

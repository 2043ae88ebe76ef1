"""Runs the suite and its load against an emulator."""

import json
import subprocess
from dataclasses import dataclass

import yaml

from emulator import REGION, SUITE, TOKEN, NotReady

# How long a case waits for anything, in seconds: longer than the 10 seconds of the $connect integration.
WAIT_SECS = 13
# The same under load, where functions wait for each other.
LOAD_WAIT_SECS = 120
# Bound of a run of the suite, and of one under load, in seconds.
RUN_SECS_MAX = 1800


class AnyTag(yaml.SafeLoader):
    """Reads cases without knowing their tags."""


AnyTag.add_multi_constructor("!", lambda loader, suffix, node: None)


@dataclass(frozen=True)
class Case:
    name: str
    file: str
    slow: bool
    # The parameters of the template that it needs, sorted.
    parameters: tuple

    @property
    def key(self):
        return (self.file, self.name)


def all_cases():
    """Every case of the suite."""
    return [
        Case(case["name"], path.stem, case.get("slow", False), tuple(sorted(case.get("parameters", {}).items())))
        for path in sorted((SUITE / "cases").glob("*.yaml"))
        for case in yaml.load(path.read_text(), Loader=AnyTag)
    ]


def why_unsupported(emulator, case):
    """Why an emulator cannot try a case, if so."""
    return next((why for text, why in emulator.unsupported.items() if text in case.name or text in case.file), None)


class Suite:
    def __init__(self, programs):
        self.program = programs / "conformance"

    def client(self, running, options):
        """The command that runs against an emulator, and its environment."""
        command = [*running.prefix, self.program, "--url", running.url, "--management", running.management]
        for flag, address in (("--http-api", running.http_api), ("--rest-api", running.rest_api)):
            command += [flag, address] if address else []
        command += ["--region", running.region, "--cases", SUITE / "cases", *options]
        env = {"AWS_ACCESS_KEY_ID": running.key, "AWS_SECRET_ACCESS_KEY": running.secret, "AWS_REGION": REGION}
        return list(map(str, command)), {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "CONFORMANCE_TOKEN": TOKEN, **env}

    def json(self, running, options):
        command, env = self.client(running, options)
        ran = subprocess.run(command, env=env, capture_output=True, text=True, timeout=RUN_SECS_MAX)
        # 1 says that a case failed.
        if ran.returncode not in (0, 1) or not ran.stdout:
            raise NotReady(f"{' '.join(command)} failed: {ran.stderr.strip()}")
        return json.loads(ran.stdout)

    def cases(self, emulator, running, parameters, cases):
        """The outcome of each of these cases in a deployment with these parameters, by file and name."""
        options = ["--format", "json", "--wait", WAIT_SECS]
        for name, value in parameters:
            options += ["--parameter", f"{name}={value}"]
        wanted = {case.key for case in cases if not why_unsupported(emulator, case)}
        if any(case.slow for case in cases):
            options += ["--slow", *(option for case in cases for option in ("--only", case.name))]
        elif parameters:
            options += [option for case in cases for option in ("--only", case.name)]
        for text in emulator.unsupported:
            options += ["--skip", text]
        ran = self.json(running, options)["cases"] if wanted else []
        outcomes = {(case["file"], case["name"]): case for case in ran if case["outcome"] != "skipped"}
        if missing := wanted - outcomes.keys():
            raise NotReady(f"{emulator.name} did not run {sorted(missing)}")
        return {key: outcomes[key] for key in wanted}

    def load(self, running, sockets):
        """Connects clients, and posts alerts to all of them."""
        return self.json(running, ["--load", sockets, "--wait", LOAD_WAIT_SECS])

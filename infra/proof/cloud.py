"""What a proof runs in an account: commands of this checkout, and their stacks."""

import json
import os
import re
import secrets
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

from removal import PREFIX, TAG

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "infra"))
import sam  # noqa: E402

CONFORMANCE = "emulator/conformance"
# How long a command that is told to end may take, in seconds.
END_SECS_MAX = 20
# How long a case of the conformance suite waits for anything, in seconds.
CASE_SECS = 20


class Failed(Exception):
    """A command failed. The message has the end of its output."""


@dataclass(frozen=True)
class Addresses:
    """Where the service is."""

    sockets: str
    publish: str


@dataclass(frozen=True)
class SuiteAddresses:
    """Where the APIs of the conformance suite are."""

    sockets: str
    management: str
    http_api: str
    rest_api: str

    def options(self):
        """Returns what the suite is told of them."""
        options = ["--url", self.sockets, "--management", self.management]
        return [*options, "--http-api", self.http_api, "--rest-api", self.rest_api]


class AnyTag(yaml.SafeLoader):
    """Reads cases and templates without knowing their tags."""


AnyTag.add_multi_constructor("!", lambda loader, suffix, node: None)


class Cloud:
    """An AWS account. Every stack begins with the name of the proof and has its tag."""

    def __init__(self, session, name, journal, say, root=ROOT):
        self.session, self.name, self.journal, self.say, self.root = session, name, journal, say, root
        self.log = journal.directory / f"{name}.log"
        # The function that holds clients.
        self.crowd = None

    # --- Commands -----------------------------------------------------------------------------------------------------

    def run(self, *command, env=None, allowed=(0,)):
        """Runs a command in a session of its own, so that Ctrl-C reaches only the proof. Returns its output."""
        self.say(shlex.join(map(str, command)))
        with open(self.log, "a") as log:
            log.write(f"\n$ {shlex.join(map(str, command))}\n")
        child = subprocess.Popen(
            list(map(str, command)),
            cwd=self.root,
            env=os.environ | self.variables() | (env or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            pass_fds=[self.journal.inherited],
        )
        try:
            output, _ = child.communicate()
        except BaseException:
            self.end(child)
            raise
        with open(self.log, "a") as log:
            log.write(output)
        if child.returncode not in allowed:
            end = "\n".join(output.splitlines()[-30:])
            raise Failed(f"{shlex.join(map(str, command))} failed with {child.returncode}:\n{end}")
        return output

    def end(self, child):
        """Ends a command and everything that it has started."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(child.pid, number)
            except ProcessLookupError:
                pass
            try:
                child.wait(END_SECS_MAX)
                return
            except subprocess.TimeoutExpired:
                continue

    def variables(self):
        """Returns credentials and region for commands that read no profiles, fresh for each command."""
        frozen = self.session.get_credentials().get_frozen_credentials()
        variables = {"AWS_ACCESS_KEY_ID": frozen.access_key, "AWS_SECRET_ACCESS_KEY": frozen.secret_key}
        if frozen.token:
            variables["AWS_SESSION_TOKEN"] = frozen.token
        region = self.session.region_name
        return variables | {"AWS_REGION": region, "AWS_DEFAULT_REGION": region, "PYTHONDONTWRITEBYTECODE": "1"}

    def outputs(self, stack):
        (description,) = self.session.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
        return {output["OutputKey"]: output["OutputValue"] for output in description.get("Outputs", [])}

    def resources(self, stack):
        """Returns the physical ids of a stack's resources, by logical id."""
        pages = self.session.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=stack)
        summaries = (summary for page in pages for summary in page["StackResourceSummaries"])
        return {summary["LogicalResourceId"]: summary["PhysicalResourceId"] for summary in summaries}

    def sam_deploy(self, template, suffix, parameters=()):
        """Deploys a template of this checkout that needs no build."""
        stack = self.name + suffix
        options = ["--config-file", str(self.root / "samconfig.toml"), "--stack-name", stack, "--s3-prefix", stack]
        options += ["--tags", "application=viral-alerts", f"{TAG}={self.name}"]
        if parameters:
            options += ["--parameter-overrides", *(sam.quoted(name, value) for name, value in parameters)]
        self.run("sam", "deploy", "--template-file", template, *options)
        return stack

    # --- The service --------------------------------------------------------------------------------------------------

    def deploy(self, push_rate):
        """Deploys the service as anybody does."""
        parameters = f"PushRate={push_rate:.0f} LogRetentionDays=1"
        self.run("make", "deploy", f"STACK={self.name}", f"TAGS={TAG}={self.name}", f"PARAMETERS={parameters}")

    def addresses(self):
        outputs = self.outputs(self.name)
        return Addresses(outputs["WebSocketUrl"], outputs["PublishUrl"])

    def smoke(self, addresses):
        """Runs the smoke tests. Returns the outcome of each."""
        target = f"{addresses.sockets},{addresses.publish}"
        return smoke_outcomes(self.run(ROOT / "tests/run", "--target", target, allowed=(0, 1, 101)))

    def delete(self):
        """Deletes the service as anybody does."""
        self.run("make", "delete", f"STACK={self.name}")

    # --- The conformance suite ----------------------------------------------------------------------------------------

    def variants(self):
        """Returns the parameters of the deployments that the cases need, the default ones first."""
        found = []
        for path in sorted((ROOT / CONFORMANCE / "cases").glob("*.yaml")):
            for case in yaml.load(path.read_text(), Loader=AnyTag):
                parameters = case.get("parameters", {})
                if parameters not in found:
                    found.append(parameters)
        return sorted(found, key=len)

    def deploy_conformance(self, parameters, token):
        """Deploys the suite's APIs, or changes them. Returns their addresses."""
        # All of them, because a stack keeps the values that are not named.
        template = self.conformance_template()
        declared = yaml.load(Path(template).read_text(), Loader=AnyTag)["Parameters"]
        values = {name: each["Default"] for name, each in declared.items() if "Default" in each}
        values |= {"Token": token, **parameters}
        outputs = self.outputs(self.sam_deploy(template, "-conformance", values.items()))
        return SuiteAddresses(*(outputs[name] for name in ("Url", "Management", "HttpApi", "RestApi")))

    def conformance_template(self):
        return self.root / CONFORMANCE / "template.yaml"

    def conformance_program(self):
        return ["cargo", "run", "--quiet", "--locked", "-p", "conformance", "--"]

    def conformance(self, slow):
        """Runs the suite against each deployment that it needs. Returns its cases, without what was skipped."""
        token, cases = secrets.token_hex(16), {}
        for parameters in self.variants():
            addresses = self.deploy_conformance(parameters, token)
            options = [*addresses.options(), "--region", self.session.region_name]
            options += [f"--parameter={name}={value}" for name, value in parameters.items()]
            options += ["--format", "json", "--wait", str(CASE_SECS), *(["--slow"] if slow else [])]
            command = [*self.conformance_program(), *options]
            # 1 says that a case failed.
            printed = self.run(*command, env={"CONFORMANCE_TOKEN": token}, allowed=(0, 1))
            for case in json.loads(printed[printed.index("{") :])["cases"]:
                if case["outcome"] != "skipped" or (case["file"], case["name"]) not in cases:
                    cases[case["file"], case["name"]] = case
        return list(cases.values())

    # --- The clients --------------------------------------------------------------------------------------------------

    def deploy_clients(self):
        """Deploys the functions that hold clients. Returns the name of the board."""
        outputs = self.outputs(self.sam_deploy("infra/proof/clients.yaml", "-clients"))
        self.crowd = outputs["CrowdFunctionName"]
        return outputs["Board"]

    def start_clients(self, event):
        """Starts a function that holds clients, and does not wait for it."""
        functions = self.session.client("lambda")
        answer = functions.invoke(FunctionName=self.crowd, InvocationType="Event", Payload=json.dumps(event))
        if answer["StatusCode"] != 202:
            raise Failed(f"Lambda answered {answer['StatusCode']} to the invocation of {self.crowd}")


def smoke_outcomes(printed):
    """Returns the outcome of each smoke test, by its name, from what cargo printed."""
    return dict(re.findall(r"^test (\S+) \.\.\. (ok|FAILED|ignored)", printed, re.MULTILINE))


def new_name():
    """Returns a name that no other stack has."""
    return PREFIX + secrets.token_hex(3)


def now():
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())

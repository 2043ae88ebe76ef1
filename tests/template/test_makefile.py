"""What `make` asks sam to do, with a sam that only writes down how it is called."""

import json
import os
import shutil
import subprocess
import tempfile
import tomllib
import unittest
from pathlib import Path

import policy
from samcli.cli.types import CfnParameterOverridesType
from samtranslator.yaml_helper import yaml_parse

RECORDER = """#!/usr/bin/env python3
import json, os, sys
region = os.environ.get("AWS_DEFAULT_REGION")
with open(os.environ["RECORD"], "a") as record:
    print(json.dumps({"command": sys.argv[1], "options": sys.argv[2:], "region": region, "stdin": sys.stdin.read()}), file=record)
"""


# Of the tools. It fails, as a check of what make is about to do, where a test says so.
PYTHON = """#!/bin/sh
[ "$*" = "infra/in_use.py ${USED-}" ] && exit 1
exit 0
"""


class Make(unittest.TestCase):
    def setUp(self):
        self.directory = Path(self.enterContext(tempfile.TemporaryDirectory()))
        tools = self.directory / "target/tools"
        for place in (tools / "bin", self.directory / "tests"):
            place.mkdir(parents=True)
        shutil.copy(policy.ROOT / "Makefile", self.directory)
        (self.directory / "tests/requirements.txt").touch()
        (tools / "requirements.txt").touch()
        for program, text in [("sam", RECORDER), ("python", PYTHON)]:
            (tools / "bin" / program).write_text(text)
            (tools / "bin" / program).chmod(0o755)

    def make(self, *arguments, fails=False, **variables):
        """The calls of sam, and what make prints."""
        record = self.directory / "record"
        record.write_text("")
        env = {"PATH": os.environ["PATH"], "RECORD": str(record), **variables}
        made = subprocess.run(
            ["make", "--silent", *arguments], cwd=self.directory, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        self.assertEqual(made.returncode != 0, fails, made.stderr)
        return [json.loads(line) for line in record.read_text().splitlines()], made.stdout

    def option(self, call, name):
        return call["options"][call["options"].index(name) + 1] if name in call["options"] else None

    def parameters(self, call):
        """The values that sam reads of a call."""
        if "--parameter-overrides" not in call["options"]:
            return {}
        words = call["options"][call["options"].index("--parameter-overrides") + 1 :]
        return CfnParameterOverridesType().convert(tuple(words), None, None)

    def test_each_stack_has_its_artifacts_under_its_own_name(self):
        for arguments, name in [(["deploy"], "viral-alerts"), (["deploy", "STACK=next"], "next")]:
            (_, deploy), _ = self.make(*arguments)
            self.assertEqual((deploy["command"], self.option(deploy, "--stack-name")), ("deploy", name))
            self.assertEqual(self.option(deploy, "--s3-prefix"), name)
        for target, stack in [("account", "api-gateway-logs"), ("domain", "viral-alerts-domain")]:
            (deploy,), _ = self.make(target)
            self.assertEqual([self.option(deploy, name) for name in ("--stack-name", "--s3-prefix")], [stack, stack])
        # sam delete reads the prefix of a stack from its template, unless this section names one for all.
        settings = tomllib.loads((policy.ROOT / "samconfig.toml").read_text())["default"]
        self.assertNotIn("s3_prefix", {**settings["global"]["parameters"], **settings["deploy"]["parameters"]})

    def test_resources_have_a_tag(self):
        settings = tomllib.loads((policy.ROOT / "samconfig.toml").read_text())["default"]["deploy"]["parameters"]
        self.assertEqual(settings["tags"], "application=viral-alerts")

    def test_deleting_asks_nothing_and_says_what_is_left(self):
        (call,), printed = self.make("delete", "STACK=next")
        self.assertEqual((call["command"], call["stdin"]), ("delete", ""))
        self.assertEqual(call["options"], ["--no-prompts", "--stack-name", "next"])
        self.assertIn("Left: the stack aws-sam-cli-managed-default", printed)

    def test_a_stack_that_another_one_uses_keeps_its_artifacts(self):
        calls, _ = self.make("delete", "STACK=next", fails=True, USED="next")
        self.assertEqual(calls, [])
        (call,), _ = self.make("delete", "STACK=next", USED="another")
        self.assertEqual(call["command"], "delete")

    def test_parameters_may_be_cleared_and_have_spaces(self):
        given = "FeedUrl= ScoringSchedule='rate(1 minute)' DefaultRegion=ALL TokenIssuer=\"\" JwksUrl=https://a.example/keys?a=b"
        (build, deploy), _ = self.make("deploy", f"PARAMETERS={given}")
        expected = {
            "FeedUrl": "",
            "ScoringSchedule": "rate(1 minute)",
            "DefaultRegion": "ALL",
            "TokenIssuer": "",
            "JwksUrl": "https://a.example/keys?a=b",
        }
        self.assertEqual([self.parameters(build), self.parameters(deploy)], [expected, expected])
        (build, deploy), _ = self.make("deploy")
        self.assertEqual([self.parameters(build), self.parameters(deploy)], [{}, {}])

    def test_parameters_may_come_from_a_file(self):
        file = self.directory / "production.yaml"
        file.write_text("FeedUrl:\nScoringSchedule: rate(1 minute)\n")
        (_, deploy), _ = self.make("deploy", f"PARAMETERS=file://{file}")
        self.assertEqual(self.parameters(deploy), {"FeedUrl": "", "ScoringSchedule": "rate(1 minute)"})

    def test_domain_names_are_led_to_a_stack_and_stay_what_they_were(self):
        (call,), _ = self.make("domain", "STACK=next")
        self.assertEqual(self.parameters(call), {"Stack": "next"})
        names = "WebSocketDomainName=sockets.example.com HttpDomainName=alerts.example.com"
        (call,), _ = self.make("domain", f"PARAMETERS={names}")
        expected = {"WebSocketDomainName": "sockets.example.com", "HttpDomainName": "alerts.example.com", "Stack": "viral-alerts"}
        self.assertEqual(self.parameters(call), expected)

    def test_a_region_that_is_only_in_the_profile_is_not_hidden(self):
        def region(**variables):
            return self.make("delete", **variables)[0][0]["region"]

        self.assertIsNone(region())
        self.assertIsNone(region(AWS_REGION=""))
        self.assertEqual(region(AWS_REGION="eu-west-1"), "eu-west-1")
        self.assertEqual(region(AWS_REGION="eu-west-1", AWS_DEFAULT_REGION="eu-west-2"), "eu-west-2")

    def test_a_domain_imports_what_a_stack_exports(self):
        domain = yaml_parse((policy.ROOT / "infra/domain.yaml").read_text())
        exports = {output["Export"]["Name"]["Fn::Sub"] for output in policy.transformed()["Outputs"].values() if "Export" in output}
        for name in policy.of_type(domain["Resources"], "AWS::ApiGatewayV2::DomainName").values():
            (settings,) = name["DomainNameConfigurations"]
            self.assertEqual((settings["EndpointType"], settings["IpAddressType"]), ("REGIONAL", "dualstack"))
        mappings = policy.of_type(domain["Resources"], "AWS::ApiGatewayV2::ApiMapping").values()
        imports = [value["Fn::ImportValue"]["Fn::Sub"] for mapping in mappings for value in mapping.values() if "Fn::ImportValue" in value]
        self.assertEqual({text.replace("${Stack}", "${AWS::StackName}") for text in imports}, exports)


if __name__ == "__main__":
    unittest.main()

"""What `make` asks sam to do, with a sam that only writes down how it is called."""

import json
import os
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
import unittest
from pathlib import Path

import policy
from samcli.cli.types import CfnParameterOverridesType
from samtranslator.yaml_helper import yaml_parse

sys.path.append(str(policy.ROOT / "infra"))
import sam

RECORDER = """#!/usr/bin/env python3
import json, os, sys
region = os.environ.get("AWS_DEFAULT_REGION")
with open(os.environ["RECORD"], "a") as record:
    print(json.dumps({"command": sys.argv[1], "options": sys.argv[2:], "region": region, "stdin": sys.stdin.read()}), file=record)
"""


# Of the tools. The check before a stack is deleted asks AWS: here it fails where a test says so.
PYTHON = """#!/bin/sh
[ "$1" = infra/in_use.py ] || exec python3 "$@"
[ "$2" != "${USED-}" ]
"""

# What somebody writes after Name= in PARAMETERS, and the value that arrives.
VALUES = [
    ("", ""),
    ("''", ""),
    ("https://f.example/x?a=1&b=2", "https://f.example/x?a=1&b=2"),
    ("'https://f.example/x?a=1&b=2'", "https://f.example/x?a=1&b=2"),
    ("a;b", "a;b"),
    ("https://f.example/#part", "https://f.example/#part"),
    ("'a #b'", "a #b"),
    ("'cron(0/5 * * * ? *)'", "cron(0/5 * * * ? *)"),
    ("*", "*"),
    ("/*", "/*"),
    ("~", "~"),
    ("$HOME", "$HOME"),
    ("$$", "$$"),
    ("$(id)", "$(id)"),
    ("$(", "$("),
    ("'$(shell echo expanded)'", "$(shell echo expanded)"),
    ("'$(error make expands)'", "$(error make expands)"),
    ("`id`", "`id`"),
    ("'say \"hi\" x'", 'say "hi" x'),
    ("'\"'", '"'),
    ("'\"whole\"'", '"whole"'),
    ("it\\'s", "it's"),
    ('"it\'s"', "it's"),
    ("\"'whole'\"", "'whole'"),
    ("'a\\b'", "a\\b"),
    ("'a\\ b'", "a\\ b"),
    ("'a\\\\'", "a\\\\"),
    ("'a\\\\\"b'", 'a\\\\"b'),
    ("'ParameterKey=DefaultRegion,ParameterValue=ALL'", "ParameterKey=DefaultRegion,ParameterValue=ALL"),
    ("'a DefaultRegion=ALL'", "a DefaultRegion=ALL"),
    ("'  both ends  '", "  both ends  "),
    ("'two\nlines'", "two\nlines"),
    ("a,b", "a,b"),
    ("|<>(){}[]!?%^", "|<>(){}[]!?%^"),
    ("--guided", "--guided"),
    ("żółć", "żółć"),
]

# What is refused, and what the message says of it.
REFUSED = [
    ("DefaultRegion", "invalid word `DefaultRegion`"),
    ("FeedUrl=a b", "invalid word `b`"),
    ("DefaultRegion=ALL #FeedUrl=x", "invalid word `#FeedUrl=x`"),
    ("DefaultRegion=ALL # later", "invalid word `#`"),
    ("DefaultRegion=ALL && id", "invalid word `&&`"),
    ("DefaultRegion=ALL ;id", "invalid word `;id`"),
    ("=ALL", "invalid word `=ALL`"),
    ("''", "invalid word ``"),
    ("Default-Region=ALL", "invalid word `Default-Region=ALL`"),
    ("--guided", "invalid word `--guided`"),
    ("ParameterKey=FeedUrl,ParameterValue=x", "unknown parameter `ParameterKey`"),
    ("'\"FeedUrl\"=x'", "invalid word `\"FeedUrl\"=x`"),
    ("FeedURL=x", "did you mean FeedUrl?"),
    ("Type=x", "unknown parameter `Type`"),
    ("DefaultRegion=ALL DefaultRegion=PL", "`DefaultRegion` already has a value"),
    ("FeedUrl='a b", "no closing quotation"),
    ("FeedUrl=a\\", "no escaped character"),
    ("FeedUrl='a\\'", "cannot read the value of FeedUrl"),
    ("FeedUrl='a\\\"b'", "cannot read the value of FeedUrl"),
]


class Make(unittest.TestCase):
    def setUp(self):
        self.directory = Path(self.enterContext(tempfile.TemporaryDirectory()))
        tools = self.directory / "target/tools"
        for place in (tools / "bin", self.directory / "tests", self.directory / "infra"):
            place.mkdir(parents=True)
        for name in ("Makefile", "template.yaml", "infra/sam.py", "infra/domain.yaml"):
            shutil.copy(policy.ROOT / name, self.directory / name)
        (self.directory / "tests/requirements.txt").touch()
        (tools / "requirements.txt").touch()
        for program, text in [("sam", RECORDER), ("python", PYTHON)]:
            (tools / "bin" / program).write_text(text)
            (tools / "bin" / program).chmod(0o755)

    def run_make(self, *arguments, **variables):
        """How make ended, and the calls of sam."""
        record = self.directory / "record"
        record.write_text("")
        env = {"PATH": os.environ["PATH"], "RECORD": str(record), **variables}
        made = subprocess.run(
            ["make", "--silent", *arguments], cwd=self.directory, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        return made, [json.loads(line) for line in record.read_text().splitlines()]

    def make(self, *arguments, fails=False, **variables):
        """The calls of sam, and what make prints."""
        made, calls = self.run_make(*arguments, **variables)
        self.assertEqual(made.returncode != 0, fails, made.stderr)
        return calls, made.stdout

    def refused(self, *arguments):
        """The one line in which make refuses to run sam."""
        made, calls = self.run_make(*arguments)
        self.assertEqual((calls, made.stdout), ([], ""), made.stderr)
        message, end = made.stderr.splitlines()
        self.assertIn("Error 2", end)
        return message

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

    def test_every_value_arrives_as_it_was_written(self):
        for written, value in VALUES:
            given = f"DefaultRegion=ALL FeedUrl={written} LogLevel=debug"
            expected = {"DefaultRegion": "ALL", "FeedUrl": value, "LogLevel": "debug"}
            with self.subTest(written):
                (build, deploy), _ = self.make("deploy", f"PARAMETERS={given}")
                self.assertEqual([self.parameters(build), self.parameters(deploy)], [expected, expected])
                (_, deploy), _ = self.make("deploy", PARAMETERS=given)
                self.assertEqual(self.parameters(deploy), expected)

    def test_what_sam_would_skip_is_refused_before_it_runs(self):
        for given, problem in REFUSED:
            with self.subTest(given):
                message = self.refused("deploy", f"PARAMETERS={given}")
                self.assertTrue(message.startswith("PARAMETERS for template.yaml: "), message)
                self.assertIn(problem, message)
        for given, problem in [("FeedUrl=", "unknown parameter `FeedUrl`"), ("Stack=next", "`Stack` already has a value")]:
            message = self.refused("domain", f"PARAMETERS={given}")
            self.assertTrue(message.startswith("PARAMETERS for infra/domain.yaml: "), message)
            self.assertIn(problem, message)

    def test_sam_reads_any_value_unchanged_or_it_is_refused(self):
        drawn = random.Random(1)
        refused = 0
        for _ in range(20_000):
            value = "".join(drawn.choices("""ab\\\\"' =,;&#$*\n""", k=drawn.randrange(12)))
            try:
                words = sam.overrides(f"FeedUrl={shlex.quote(value)} LogLevel=debug", [], ["FeedUrl", "LogLevel"])
            except sam.Invalid:
                refused += 1
                self.assertRegex(value, r"""\\(["\n]|\Z)""")
                continue
            read = CfnParameterOverridesType().convert(tuple(words), None, None)
            self.assertEqual(read, {"FeedUrl": value, "LogLevel": "debug"})
        self.assertLess(refused, 10_000)

    def test_parameters_are_those_of_the_template(self):
        for template in ("template.yaml", "infra/domain.yaml"):
            text = (policy.ROOT / template).read_text()
            self.assertEqual(sam.declared(text), list(yaml_parse(text)["Parameters"]))
        self.assertEqual(sam.declared("Resources:\n  Queue:\n    Type: AWS::SQS::Queue\n"), [])

    def test_parameters_may_come_from_a_file(self):
        file = self.directory / "production.yaml"
        file.write_text("FeedUrl:\nScoringSchedule: rate(1 minute)\n")
        (_, deploy), _ = self.make("deploy", f"PARAMETERS=file://{file}")
        self.assertEqual(self.parameters(deploy), {"FeedUrl": "", "ScoringSchedule": "rate(1 minute)"})
        spaced = file.rename(self.directory / "of production.yaml")
        (_, deploy), _ = self.make("deploy", f"PARAMETERS='file://{spaced}' FeedUrl=https://f.example")
        self.assertEqual(self.parameters(deploy), {"FeedUrl": "https://f.example", "ScoringSchedule": "rate(1 minute)"})

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

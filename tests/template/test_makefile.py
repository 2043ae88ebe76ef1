"""`make` calls sam with the right options. A program in place of sam only records its calls."""

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
import event_api
import sam

RECORDER = """#!/usr/bin/env python3
import json, os, sys
region = os.environ.get("AWS_DEFAULT_REGION")
call = {"command": sys.argv[1], "options": sys.argv[2:], "region": region, "stdin": sys.stdin.read()}
with open(os.environ["RECORD"], "a") as record:
    print(json.dumps(call), file=record)
"""

# Stands in for the tools' Python. The check before a deletion would ask AWS: here it fails for the stack in USED. Who
# is to be forgotten is only printed.
PYTHON = """#!/bin/sh
[ "$1" != infra/forget.py ] || exec printf '%s %s' "$2" "${FORGET_USER-nobody}"
[ "$1" = infra/in_use.py ] || exec python3 "$@"
[ "$2" != "${USED-}" ]
"""

# A value as it is written after Name= in PARAMETERS, and the value that sam gets.
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

# PARAMETERS that are rejected, and a part of the message.
REJECTED = [
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


def without_events(value):
    """A part of the template as it is where the condition HasEvents is false."""
    if isinstance(value, dict):
        if value.get("Fn::If", [None])[0] == "HasEvents":
            return without_events(value["Fn::If"][2])
        return {name: without_events(part) for name, part in value.items()}
    return [without_events(part) for part in value] if isinstance(value, list) else value


class Make(unittest.TestCase):
    def setUp(self):
        self.directory = Path(self.enterContext(tempfile.TemporaryDirectory()))
        tools = self.directory / "target/tools"
        for place in (tools / "bin", self.directory / "tests", self.directory / "infra"):
            place.mkdir(parents=True)
        for name in ("Makefile", "template.yaml", "infra/sam.py", "infra/event_api.py", "infra/domain.yaml"):
            shutil.copy(policy.ROOT / name, self.directory / name)
        (self.directory / "tests/requirements.txt").touch()
        (tools / "requirements.txt").touch()
        for program, text in [("sam", RECORDER), ("python", PYTHON)]:
            (tools / "bin" / program).write_text(text)
            (tools / "bin" / program).chmod(0o755)

    def run_make(self, *arguments, **variables):
        """Runs make and returns its result and the calls of sam."""
        record = self.directory / "record"
        record.write_text("")
        env = {"PATH": os.environ["PATH"], "RECORD": str(record), "AWS_REGION": "eu-central-1", **variables}
        made = subprocess.run(
            ["make", "--silent", *arguments],
            cwd=self.directory,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        return made, [json.loads(line) for line in record.read_text().splitlines()]

    def make(self, *arguments, fails=False, **variables):
        """Returns the calls of sam and the output of make."""
        made, calls = self.run_make(*arguments, **variables)
        self.assertEqual(made.returncode != 0, fails, made.stderr)
        return calls, made.stdout

    def rejection(self, *arguments):
        """Returns the line with which make rejects PARAMETERS before it runs sam."""
        made, calls = self.run_make(*arguments)
        self.assertEqual((calls, made.stdout), ([], ""), made.stderr)
        message, end = made.stderr.splitlines()
        self.assertIn("Error 2", end)
        return message

    def option(self, call, name):
        return call["options"][call["options"].index(name) + 1] if name in call["options"] else None

    def parameters(self, call):
        """Returns the values of parameters as sam reads them from a call."""
        if "--parameter-overrides" not in call["options"]:
            return {}
        words = call["options"][call["options"].index("--parameter-overrides") + 1 :]
        return CfnParameterOverridesType().convert(tuple(words), None, None)

    def test_the_artifacts_of_a_stack_are_under_its_name(self):
        for arguments, name in [(["deploy"], "viral-alerts"), (["deploy", "STACK=next"], "next")]:
            (_, deploy), _ = self.make(*arguments)
            self.assertEqual((deploy["command"], self.option(deploy, "--stack-name")), ("deploy", name))
            self.assertEqual(self.option(deploy, "--s3-prefix"), name)
        for target, stack in [("account", "api-gateway-logs"), ("domain", "viral-alerts-domain")]:
            (deploy,), _ = self.make(target)
            self.assertEqual([self.option(deploy, name) for name in ("--stack-name", "--s3-prefix")], [stack, stack])
        # A prefix in this section would be that of every stack, and `sam delete` would use it.
        settings = tomllib.loads((policy.ROOT / "samconfig.toml").read_text())["default"]
        self.assertNotIn("s3_prefix", {**settings["global"]["parameters"], **settings["deploy"]["parameters"]})

    def test_names_of_stacks_and_buckets_reach_sam_unchanged(self):
        def options(call, *names):
            return [self.option(call, name) for name in names]

        for name in ("next", "a b;id", "it's \"$(id)\" `id` $$ *"):
            with self.subTest(name):
                (_, deploy), _ = self.make("deploy", f"STACK={name}")
                self.assertEqual(options(deploy, "--stack-name", "--s3-prefix"), [name, name])
                (_, package), _ = self.make("package", STACK=name, BUCKET=name)
                self.assertEqual(options(package, "--s3-bucket", "--s3-prefix"), [name, name])
                (delete,), printed = self.make("delete", f"STACK={name}")
                self.assertEqual(self.option(delete, "--stack-name"), name)
                self.assertTrue(printed.startswith(f"{name} is deleted, "), printed)
                (domain,), _ = self.make("domain", f"DOMAIN_STACK={name}")
                self.assertEqual(options(domain, "--stack-name", "--s3-prefix"), [name, name])
                self.assertEqual(self.make("forget", f"STACK={name}"), ([], f"{name} nobody"))

    def test_a_package_for_other_tools_is_in_the_bucket_that_is_named_or_in_that_of_sam(self):
        (build, package), _ = self.make("package", "PARAMETERS=Architecture=x86_64", "BUCKET=artifacts", "STACK=next")
        self.assertEqual(self.parameters(build), {"Architecture": "x86_64"})
        named = ["--s3-bucket", "artifacts", "--s3-prefix", "next", "--output-template-file", "packaged.yaml"]
        self.assertEqual((package["command"], package["options"]), ("package", named))
        (_, package), _ = self.make("package")
        self.assertEqual(package["options"][0], "--resolve-s3")

    def test_resources_have_a_tag(self):
        settings = tomllib.loads((policy.ROOT / "samconfig.toml").read_text())["default"]["deploy"]["parameters"]
        self.assertEqual(settings["tags"], "application=viral-alerts")

    def test_deleting_asks_nothing_and_prints_what_remains(self):
        (call,), printed = self.make("delete", "STACK=next")
        self.assertEqual((call["command"], call["stdin"]), ("delete", ""))
        self.assertEqual(call["options"], ["--no-prompts", "--stack-name", "next"])
        self.assertIn("Two things are left: the stack aws-sam-cli-managed-default", " ".join(printed.split()))

    def test_a_stack_that_another_stack_uses_keeps_its_artifacts(self):
        calls, _ = self.make("delete", "STACK=next", fails=True, USED="next")
        self.assertEqual(calls, [])
        (call,), _ = self.make("delete", "STACK=next", USED="another")
        self.assertEqual(call["command"], "delete")

    def test_a_value_can_be_empty_or_have_spaces(self):
        given = "FeedUrl= ScoringSchedule='rate(1 minute)' DefaultRegion=ALL TokenIssuer=\"\" JwksUrl=https://a/?a=b"
        (build, deploy), _ = self.make("deploy", f"PARAMETERS={given}")
        expected = {
            "FeedUrl": "",
            "ScoringSchedule": "rate(1 minute)",
            "DefaultRegion": "ALL",
            "TokenIssuer": "",
            "JwksUrl": "https://a/?a=b",
        }
        self.assertEqual([self.parameters(build), self.parameters(deploy)], [expected, expected])
        (build, deploy), _ = self.make("deploy")
        self.assertEqual([self.parameters(build), self.parameters(deploy)], [{}, {}])

    def test_sam_gets_every_value_unchanged(self):
        for written, value in VALUES:
            given = f"DefaultRegion=ALL FeedUrl={written} LogLevel=debug"
            expected = {"DefaultRegion": "ALL", "FeedUrl": value, "LogLevel": "debug"}
            with self.subTest(written):
                (build, deploy), _ = self.make("deploy", f"PARAMETERS={given}")
                self.assertEqual([self.parameters(build), self.parameters(deploy)], [expected, expected])
                (_, deploy), _ = self.make("deploy", PARAMETERS=given)
                self.assertEqual(self.parameters(deploy), expected)

    def test_words_that_sam_would_skip_are_rejected_before_it_runs(self):
        for given, problem in REJECTED:
            with self.subTest(given):
                message = self.rejection("deploy", f"PARAMETERS={given}")
                self.assertTrue(message.startswith("PARAMETERS for template.yaml: "), message)
                self.assertIn(problem, message)
        for given, problem in [
            ("FeedUrl=", "unknown parameter `FeedUrl`"),
            ("Stack=next", "`Stack` already has a value"),
        ]:
            message = self.rejection("domain", f"PARAMETERS={given}")
            self.assertTrue(message.startswith("PARAMETERS for infra/domain.yaml: "), message)
            self.assertIn(problem, message)

    def test_any_value_reaches_sam_unchanged_or_is_rejected(self):
        drawn = random.Random(1)
        rejected = 0
        for _ in range(20_000):
            value = "".join(drawn.choices("""ab\\\\"' =,;&#$*\n""", k=drawn.randrange(12)))
            try:
                words = sam.overrides(f"FeedUrl={shlex.quote(value)} LogLevel=debug", [], ["FeedUrl", "LogLevel"])
            except sam.Invalid:
                rejected += 1
                self.assertRegex(value, r"""\\(["\n]|\Z)""")
                continue
            read = CfnParameterOverridesType().convert(tuple(words), None, None)
            self.assertEqual(read, {"FeedUrl": value, "LogLevel": "debug"})
        self.assertLess(rejected, 10_000)

    def test_the_parameters_of_a_template_are_found(self):
        for template in ("template.yaml", "infra/domain.yaml"):
            text = (policy.ROOT / template).read_text()
            self.assertEqual(sam.declared(text), list(policy.parsed(template)["Parameters"]))
        self.assertEqual(sam.declared("Resources:\n  Queue:\n    Type: AWS::SQS::Queue\n"), [])

    def test_values_can_come_from_a_file(self):
        file = self.directory / "production.yaml"
        file.write_text("FeedUrl:\nScoringSchedule: rate(1 minute)\n")
        (_, deploy), _ = self.make("deploy", f"PARAMETERS=file://{file}")
        self.assertEqual(self.parameters(deploy), {"FeedUrl": "", "ScoringSchedule": "rate(1 minute)"})
        spaced = file.rename(self.directory / "of production.yaml")
        (_, deploy), _ = self.make("deploy", f"PARAMETERS='file://{spaced}' FeedUrl=https://f.example")
        expected = {"FeedUrl": "https://f.example", "ScoringSchedule": "rate(1 minute)"}
        self.assertEqual(self.parameters(deploy), expected)

    def test_domain_names_are_mapped_to_a_stack_and_do_not_change(self):
        (call,), _ = self.make("domain", "STACK=next")
        self.assertEqual(self.parameters(call), {"Stack": "next"})
        names = "WebSocketDomainName=sockets.example.com HttpDomainName=alerts.example.com"
        (call,), _ = self.make("domain", f"PARAMETERS={names}")
        expected = {
            "WebSocketDomainName": "sockets.example.com",
            "HttpDomainName": "alerts.example.com",
            "Stack": "viral-alerts",
        }
        self.assertEqual(self.parameters(call), expected)

    def test_an_empty_region_does_not_hide_that_of_the_profile(self):
        def region(**variables):
            return self.make("delete", **variables)[0][0]["region"]

        self.assertIsNone(region(AWS_REGION=""))
        self.assertEqual(region(AWS_REGION="eu-west-1"), "eu-west-1")
        self.assertEqual(region(AWS_REGION="eu-west-1", AWS_DEFAULT_REGION="eu-west-2"), "eu-west-2")

    def test_the_template_of_a_region_without_event_apis_has_none(self):
        for target in ("deploy", "package"):
            calls, printed = self.make(target, AWS_REGION="us-gov-west-1")
            self.assertEqual(self.option(calls[0], "--template-file"), str(event_api.WITHOUT))
            self.assertIn("us-gov-west-1 has no Event APIs", printed)
            calls, printed = self.make(target, AWS_REGION="eu-west-1")
            self.assertEqual((self.option(calls[0], "--template-file"), printed), (None, ""))
        profile = self.directory / "config"
        for region, template in {"us-gov-west-1": str(event_api.WITHOUT), "eu-west-1": None}.items():
            profile.write_text(f"[default]\nregion = {region}\n")
            (build, _), _ = self.make("deploy", AWS_REGION="", AWS_CONFIG_FILE=str(profile))
            self.assertEqual(self.option(build, "--template-file"), template)
        # Whether sam needs a region is up to sam.
        (build, _), _ = self.make("deploy", AWS_REGION="", AWS_CONFIG_FILE="/dev/null")
        self.assertIsNone(self.option(build, "--template-file"))

    def test_cloudformation_knows_everything_in_the_template_of_such_a_region(self):
        listed = (policy.ROOT / "tests/outside/lint.txt").read_text().splitlines()
        lacking = {line.split("'")[3] for line in listed}
        self.assertEqual(event_api.LACKING, lacking)
        self.make("deploy", AWS_REGION=min(lacking))
        template = self.directory / event_api.WITHOUT
        # Beside the sources that its paths name, as cfn-lint looks at nothing else there.
        linted = subprocess.run(
            ["cfn-lint", "--regions", *sorted(lacking), "--template", template], capture_output=True, text=True
        )
        self.assertEqual((linted.stdout, linted.returncode), ("", 0))

    def test_what_does_not_need_an_event_api_is_the_same_in_the_template_of_such_a_region(self):
        text = (policy.ROOT / "template.yaml").read_text()
        whole, other = yaml_parse(text), yaml_parse(event_api.without(text))
        gone = {name for name, resource in whole["Resources"].items() if resource.get("Condition") == "HasEvents"}
        self.assertGreater(len(gone), 3)
        self.assertEqual(whole["Resources"].keys() - gone, other["Resources"].keys())
        self.assertEqual(whole["Outputs"].keys() - {"EventsUrl"}, other["Outputs"].keys())
        self.assertEqual(other["Parameters"]["Delivery"]["AllowedValues"], ["gateway"])
        for part in ("Parameters", "Conditions", "Globals", "Metadata"):
            changed = {name for name, value in whole.get(part, {}).items() if other[part][name] != value}
            self.assertEqual(changed, {"Delivery"} if part == "Parameters" else set())
        # With Delivery=gateway each function has the same variables and each role the same permissions.
        self.assertNotIn('["HasEvents"', json.dumps(other["Resources"]))
        for name, resource in other["Resources"].items():
            self.assertEqual(resource, without_events(whole["Resources"][name]), name)

    def test_the_user_to_be_forgotten_is_the_one_of_the_command_line_whatever_it_contains(self):
        # Whoever is logged in is not meant.
        self.assertEqual(self.make("forget", USER="root"), ([], "viral-alerts nobody"))
        for _, sub in VALUES:
            if sub and not sub.startswith(" "):
                with self.subTest(sub):
                    self.assertEqual(self.make("forget", f"USER={sub}", "STACK=next", USER="root"), ([], f"next {sub}"))

    def test_the_stack_of_domain_names_imports_exactly_the_exports(self):
        domain = policy.parsed("infra/domain.yaml")
        outputs = policy.parsed("template.yaml")["Outputs"].values()
        exports = {output["Export"]["Name"]["Fn::Sub"] for output in outputs if "Export" in output}
        for name in policy.of_type(domain["Resources"], "AWS::ApiGatewayV2::DomainName").values():
            (settings,) = name["DomainNameConfigurations"]
            self.assertEqual((settings["EndpointType"], settings["IpAddressType"]), ("REGIONAL", "dualstack"))
        mappings = policy.of_type(domain["Resources"], "AWS::ApiGatewayV2::ApiMapping").values()
        values = [value for mapping in mappings for value in mapping.values()]
        imports = [value["Fn::ImportValue"]["Fn::Sub"] for value in values if "Fn::ImportValue" in value]
        self.assertEqual({name.replace("${Stack}", "${AWS::StackName}") for name in imports}, exports)


if __name__ == "__main__":
    unittest.main()

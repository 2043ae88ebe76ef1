"""Deploys two stacks of one account and a publisher into ministack, uses them, and deletes them."""

import asyncio
import contextlib
import importlib.metadata
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import unittest
import urllib.error
import urllib.request
from pathlib import Path
from unittest import mock

import boto3
import websockets
from boto3.dynamodb.conditions import Key
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import ClientError, WaiterError
from emulator import GAPS, REGION, ROOT, WAIT_MAX, Checkout, Ministack, wait
from moto import mock_aws
from shell_blocks import shell_blocks

sys.path.append(str(ROOT / "infra"))
import forget  # noqa: E402

STACKS = ("viral-alerts", "viral-alerts-next")
DETAIL_TYPE = "Video Went Viral"
# Bound of a run of the smoke tests, in seconds. The first one may compile them.
SMOKE_MAX = 1800


def publication(region, key):
    return {"region": region, "id": key, "video": {"id": key, "title": "Hello", "thumbnail": "", "score": 97}}


class Stacks(unittest.TestCase):
    """The tests run in the order of their numbers. A user with only the policy of infra/deployer.yaml deploys."""

    @classmethod
    def setUpClass(cls):
        directory = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.emulator = Ministack(directory)
        cls.addClassCleanup(cls.emulator.stop)
        (directory / "checkout").mkdir()
        cls.checkout = Checkout(directory / "checkout", cls.emulator)
        cls.addresses = {}
        cls.checkout.make("account")
        cls.emulator.allow_artifacts_without_tls()
        cls.deployer = cls.emulator.deployer()
        for stack in STACKS:
            # So that tests on the first stack are sent what is theirs alone.
            parameters = ["PARAMETERS=FallbackToEveryone=false"] if stack == STACKS[0] else []
            cls.checkout.make("deploy", f"STACK={stack}", *parameters, session=cls.deployer)
            cls.addresses[stack] = cls.emulator.complete(stack)

    def alert_after(self, stack, region, act):
        """Calls `act` while a client is subscribed, and returns the client's alert and the result of `act`."""
        (alert,), result = asyncio.run(self.frames(stack, region, act, 1))
        return alert, result

    async def frames(self, stack, region, act, count):
        sockets, _ = self.addresses[stack]
        async with websockets.connect(f"{sockets}?region={region}", open_timeout=WAIT_MAX) as socket:
            result = await asyncio.to_thread(act)
            return [json.loads(await asyncio.wait_for(socket.recv(), WAIT_MAX)) for _ in range(count)], result

    def alerts(self, stack, region):
        _, http = self.addresses[stack]
        with urllib.request.urlopen(f"{http}/alerts?region={region}", timeout=WAIT_MAX) as answer:
            return json.load(answer)["alerts"]

    def publish(self, stack, body, session):
        """Publishes with a signed request and returns the status."""
        _, http = self.addresses[stack]
        headers = {"content-type": "application/json"}
        request = AWSRequest("POST", f"{http}/publish", data=json.dumps(body), headers=headers)
        SigV4Auth(session.get_credentials(), "execute-api", REGION).add_auth(request)
        request = urllib.request.Request(request.url, request.data.encode(), dict(request.headers), method="POST")
        try:
            with urllib.request.urlopen(request, timeout=WAIT_MAX) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    def put_event(self, source, body, session=None):
        entry = {"Source": source, "DetailType": DETAIL_TYPE, "Detail": json.dumps(body)}
        self.assertEqual(self.emulator.client("events", session).put_events(Entries=[entry])["FailedEntryCount"], 0)

    def test_00_ministack_lacks_everything_that_is_left_out_for_it(self):
        self.assertEqual(importlib.metadata.version("ministack"), GAPS["version"])
        cloudformation = self.emulator.client("cloudformation")
        resources = {f"Resource{number}": {"Type": kind} for number, kind in enumerate(GAPS["types"])}
        with self.assertRaisesRegex(ClientError, "Unrecognized resource types") as caught:
            cloudformation.create_stack(StackName="types", TemplateBody=json.dumps({"Resources": resources}))
        self.assertEqual(set(re.findall(r"AWS::\w+::\w+", str(caught.exception))), set(GAPS["types"]))
        for kind, refused in GAPS["properties"].items():
            body = json.dumps({"Resources": {"Resource": {"Type": kind, "Properties": refused["example"]}}})
            cloudformation.create_stack(StackName="properties", TemplateBody=body)
            waiter = cloudformation.get_waiter("stack_create_complete")
            with self.assertRaises(WaiterError):
                waiter.wait(StackName="properties", WaiterConfig={"Delay": 1})
            events = cloudformation.describe_stack_events(StackName="properties")["StackEvents"]
            reasons = [event.get("ResourceStatusReason", "") for event in events]
            self.assertTrue(any(f"{kind} Properties.{refused['name']}" in reason for reason in reasons), reasons)
        for action, key in GAPS["condition_keys"].items():
            condition = {"StringEquals": {key: "allowed"}}
            statement = {"Effect": "Allow", "Action": action, "Resource": "*", "Condition": condition}
            document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
            policy = self.emulator.client("iam").create_policy(PolicyName="condition", PolicyDocument=document)
            user = self.emulator.user("conditional", policy["Policy"]["Arn"])
            with self.assertRaisesRegex(ClientError, "AccessDenied"):
                self.put_event("allowed", {}, user)

    def test_01_a_stack_receives_only_its_own_events(self):
        for stack in STACKS:
            body = publication("PL", f"event-{stack}")
            source = self.emulator.outputs(stack)["ScorerSource"]
            self.assertEqual(source, f"viral-alerts.scorer.{stack}")
            alert, _ = self.alert_after(stack, "PL", lambda: self.put_event(source, body))
            self.assertEqual(alert["video_id"], f"event-{stack}")
        for stack in STACKS:
            self.assertEqual([alert["video"]["id"] for alert in self.alerts(stack, "PL")], [f"event-{stack}"])

    def test_02_a_publisher_can_publish_in_all_three_ways_and_only_to_its_own_stack(self):
        own, other = STACKS
        session = self.emulator.user("publisher", self.emulator.outputs(own)["PublisherPolicyArn"])
        stranger = self.emulator.user("stranger")
        body = publication("DE", "http")
        self.assertEqual(self.publish(own, body, stranger), 403)
        alert, status = self.alert_after(own, "DE", lambda: self.publish(own, body, session))
        self.assertEqual((status, alert["video_id"]), (200, "http"))
        self.assertEqual(self.publish(other, body, session), 403)
        self.put_event(self.emulator.outputs(own)["ScorerSource"], publication("DE", "event"), session)
        functions = self.emulator.client("lambda", session)
        payload = json.dumps(publication("DE", "invocation"))
        answer = functions.invoke(FunctionName=self.emulator.outputs(own)["PublishFunctionName"], Payload=payload)
        self.assertTrue(json.load(answer["Payload"])["published"])
        with self.assertRaisesRegex(ClientError, "AccessDenied"):
            functions.invoke(FunctionName=self.emulator.outputs(other)["PublishFunctionName"], Payload=payload)
        self.assertEqual(self.alerts(other, "DE"), [])

    def test_03_another_stack_can_publish_with_the_same_policy(self):
        stack = STACKS[1]
        outputs = self.emulator.outputs(stack)
        names = ("ScorerSource", "PublishFunctionName", "PublisherPolicyArn")
        self.checkout.publisher("publisher", **{name: outputs[name] for name in names})
        function = self.emulator.resources("publisher")["PublisherFunction"]

        def run():
            answer = self.emulator.client("lambda").invoke(FunctionName=function, Payload=json.dumps({"id": "run-1"}))
            return answer.get("FunctionError"), json.load(answer["Payload"])

        # DE has no subscribers, so its alert goes to every connection.
        alerts, (error, result) = asyncio.run(self.frames(stack, "PL", run, 2))
        self.assertEqual((error, result.get("region"), result.get("published")), (None, "DE", True), result)
        self.assertEqual(sorted(alert["video_id"] for alert in alerts), ["top-DE", "top-PL"])
        self.assertIn("top-DE", [alert["video"]["id"] for alert in self.alerts(stack, "DE")])
        self.assertNotIn("top-PL", [alert["video"]["id"] for alert in self.alerts(STACKS[0], "PL")])

    def test_04_a_statement_that_is_taken_out_of_a_role_is_missed(self):
        sockets, _ = self.addresses[STACKS[0]]

        async def connects():
            try:
                async with websockets.connect(f"{sockets}?region=PL", open_timeout=WAIT_MAX):
                    return True
            except websockets.InvalidStatus:
                return False

        self.assertTrue(asyncio.run(connects()))
        with self.without("ConnectFunctionRole", "connect", "dynamodb:PutItem"):
            self.assertFalse(asyncio.run(connects()))
        self.assertTrue(asyncio.run(connects()))

        publisher = self.emulator.session()
        logs = self.emulator.client("logs")
        group = self.emulator.resources(STACKS[0])["DeliverLogs"]

        def refused():
            events = logs.filter_log_events(logGroupName=group)["events"]
            return any("Refused" in event["message"] or "AccessDenied" in event["message"] for event in events)

        def publish_and_wait():
            self.assertEqual(self.publish(STACKS[0], publication("NL", "refused"), publisher), 200)
            wait("a refused push", refused)

        def publish_after():
            with self.without("DeliverFunctionRole", "deliver", "execute-api:ManageConnections"):
                publish_and_wait()
            self.publish(STACKS[0], publication("NL", "allowed"), publisher)

        self.assertFalse(refused())
        alert, _ = self.alert_after(STACKS[0], "NL", publish_after)
        self.assertEqual(alert["video_id"], "allowed")

    @contextlib.contextmanager
    def without(self, role, policy, action):
        """Takes the statement that allows an action out of a policy of a role, and puts it back."""
        iam, name = self.emulator.client("iam"), self.emulator.resources(STACKS[0])[role]
        document = iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]
        left = [statement for statement in document["Statement"] if action not in statement["Action"]]
        self.assertEqual(len(left), len(document["Statement"]) - 1)
        put = {"RoleName": name, "PolicyName": policy}
        iam.put_role_policy(**put, PolicyDocument=json.dumps({**document, "Statement": left}))
        try:
            yield
        finally:
            iam.put_role_policy(**put, PolicyDocument=json.dumps(document))

    def test_06_the_commands_of_the_page_on_sam_work(self):
        ((invoke, logs),) = shell_blocks("docs/sam.md")["A stack"]
        region = f"export AWS_DEFAULT_REGION={REGION}; "
        (self.checkout.directory / "events").symlink_to(ROOT / "events")
        alert, printed = self.alert_after(STACKS[0], "PL", lambda: self.checkout.run("bash", "-c", region + invoke))
        self.assertEqual((alert["video_id"], json.loads(printed)["published"]), ("dQw4w9WgXcQ", True))
        self.assertIn("alert published", self.checkout.run("bash", "-c", region + logs))

    def test_05_deployed_functions_have_no_variable_that_is_for_sam_local(self):
        functions = self.emulator.client("lambda")
        for name, physical in self.emulator.resources(STACKS[0]).items():
            if name.endswith("Function"):
                configuration = functions.get_function_configuration(FunctionName=physical)
                self.assertNotIn("AWS_ENDPOINT_URL", configuration["Environment"]["Variables"], name)

    def test_07_the_smoke_tests_pass(self):
        missing = GAPS["smoke"]
        tests = (ROOT / "tests/smoke.txt").read_text().split()
        self.assertLessEqual(set(missing), set(tests))
        self.smoke([test for test in tests if test not in missing])
        for test in missing:
            failed = rf"(?m)^    {test}\n(.*\n)*test result: FAILED"
            with self.assertRaisesRegex(AssertionError, failed, msg=f"{test} does not fail by now"):
                self.smoke([test])

    def smoke(self, tests):
        sockets, http = self.addresses[STACKS[0]]
        target = {"E2E_TARGET": f"{sockets},{http}/publish", "AWS_REGION": REGION, "RUST_BACKTRACE": "0"}
        target |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
        command = ["cargo", "test", "--quiet", "--workspace", "--test", "e2e", "--locked", "--", "--exact", *tests]
        env = {**os.environ, **target}
        ran = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=SMOKE_MAX)
        self.assertEqual(ran.returncode, 0, ran.stdout[-4000:] + ran.stderr[-4000:])
        self.assertIn(f"{len(tests)} passed", ran.stdout)

    def test_08_domain_names_map_to_one_stack_and_then_to_the_other(self):
        names = {"WebSocketDomainName": "sockets.example.com", "HttpDomainName": "alerts.example.com"}
        given = {**names, "CertificateArn": f"arn:aws:acm:{REGION}:000000000000:certificate/1"}
        parameters = " ".join(f"{name}={value}" for name, value in given.items())
        for stack, more in [(STACKS[1], [f"PARAMETERS={parameters}"]), (STACKS[0], [])]:
            self.checkout.make("domain", f"STACK={stack}", *more, session=self.deployer)
            resources, gateway = self.emulator.resources(stack), self.emulator.client("apigatewayv2")
            mappings = [gateway.get_api_mappings(DomainName=name)["Items"] for name in names.values()]
            mapped = [(mapping["ApiId"], mapping["Stage"]) for (mapping,) in mappings]
            self.assertEqual(mapped, [(resources["WebSocketApi"], "prod"), (resources["HttpApi"], "$default")])
        outputs = self.emulator.outputs("viral-alerts-domain")
        self.assertEqual(outputs["WebSocketUrl"], "wss://sockets.example.com")
        with self.assertRaisesRegex(AssertionError, "cannot delete viral-alerts: viral-alerts-domain uses it"):
            self.checkout.make("delete", f"STACK={STACKS[0]}", session=self.deployer)
        self.checkout.make("delete", "STACK=viral-alerts-domain", session=self.deployer)

    def test_09_a_user_is_forgotten_with_the_documented_permissions_and_without_any_of_them_is_not(self):
        stack = STACKS[0]
        resources = self.emulator.resources(stack)
        tables = [resources[name] for name in ("SubscriptionsTable", "AlertsTable")]
        tables.append(f"{tables[0]}/index/by_connection")
        place = f"{REGION}:000000000000"
        allowed_on = {
            "cloudformation": [f"arn:aws:cloudformation:{place}:stack/{stack}/*"],
            "dynamodb": [f"arn:aws:dynamodb:{place}:table/{table}" for table in tables],
            "execute-api": [f"arn:aws:execute-api:{place}:{resources['WebSocketApi']}/prod/DELETE/@connections/*"],
        }
        operations = (ROOT / "docs/operations.md").read_text()
        documented = re.search(r"\*\*Permissions to \[forget.*?\n\n\*\*", operations, re.DOTALL)[0]
        actions = re.findall(r"`([a-z-]+:[A-Z]\w+)`", documented)
        self.assertEqual({action.split(":")[0] for action in actions}, set(allowed_on))
        for number, missing in enumerate([*actions, None]):
            given = [action for action in actions if action != missing]
            statements = [
                {"Effect": "Allow", "Action": action, "Resource": allowed_on[action.split(":")[0]]} for action in given
            ]
            document = json.dumps({"Version": "2012-10-17", "Statement": statements})
            policy = self.emulator.client("iam").create_policy(PolicyName=f"forgets-{number}", PolicyDocument=document)
            session = self.emulator.user(f"forgets-{number}", policy["Policy"]["Arn"])
            code, printed = asyncio.run(self.outcome(stack, f"user-{number}", session, is_forgotten=missing is None))
            with self.subTest(missing):
                # Tokens are off in this stack, so that it has no other connection of the user is not known.
                self.assertEqual(code, 1, printed)
                expected = "AccessDenied" if missing else "closed connections: 1, deleted items of theirs: 3"
                self.assertIn(expected, printed)

    async def outcome(self, stack, sub, session, is_forgotten):
        """Forgets a user of one connection, who has a seat. Returns the exit code and what was printed."""
        region = f"FORGET-{sub[-1]}".upper()
        database = self.emulator.session().resource("dynamodb", endpoint_url=self.emulator.url)
        table = database.Table(self.emulator.resources(stack)["SubscriptionsTable"])
        seat = {"audience": forget.seats_of(sub), "slot": "seat#0001"}
        sockets, _ = self.addresses[stack]
        management = {forget.MANAGEMENT: sockets.replace("ws://", "http://")}
        async with websockets.connect(f"{sockets}?region={region}", open_timeout=WAIT_MAX) as socket:
            (item,) = table.query(KeyConditionExpression=Key("audience").eq(region))["Items"]
            table.put_item(Item={**seat, "connection_id": item["connection_id"]})
            printed = io.StringIO()
            with (
                mock.patch.dict(os.environ, AWS_ENDPOINT_URL=self.emulator.url),
                contextlib.redirect_stdout(printed),
                contextlib.redirect_stderr(printed),
            ):
                code = await asyncio.to_thread(forget.main, [stack], {"FORGET_USER": sub, **management}, session)
            if is_forgotten:
                await asyncio.wait_for(socket.wait_closed(), WAIT_MAX)
                self.assertNotIn("Item", table.get_item(Key=seat))
                self.assertEqual(table.query(KeyConditionExpression=Key("audience").eq(region))["Items"], [])
        return code, printed.getvalue()

    def test_10_a_deleted_stack_leaves_the_artifacts_of_the_other_stack(self):
        stays, goes = STACKS
        before = self.emulator.artifacts(stays)
        self.assertTrue(before and self.emulator.artifacts(goes))
        printed = self.checkout.make("delete", f"STACK={goes}", session=self.deployer)
        self.assertIn("aws-sam-cli-managed-default with its bucket", printed)
        self.assertFalse(self.emulator.exists(goes))
        self.assertEqual((self.emulator.artifacts(stays), self.emulator.artifacts(goes)), (before, set()))
        source = self.emulator.outputs(stays)["ScorerSource"]
        alert, _ = self.alert_after(stays, "FR", lambda: self.put_event(source, publication("FR", "after")))
        self.assertEqual(alert["video_id"], "after")

    def test_11_deleting_the_last_stack_leaves_only_the_bucket_of_sam(self):
        stack = STACKS[0]
        groups = self.emulator.client("logs")
        self.checkout.make("delete", f"STACK={stack}", session=self.deployer)
        self.assertFalse(self.emulator.exists(stack))
        self.assertTrue(self.emulator.exists("aws-sam-cli-managed-default"))
        left = groups.describe_log_groups(logGroupNamePrefix=f"/aws/lambda/{stack}/")["logGroups"]
        self.assertEqual([group["logGroupName"] for group in left], [])

    def test_12_moto_reads_the_permissions_of_who_deploys_alike(self):
        def policy(iam, arn):
            version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
            document = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]
            return re.sub(r":\d{12}:", ":ACCOUNT:", json.dumps(document, sort_keys=True))

        ours = policy(self.emulator.client("iam"), self.emulator.outputs("permissions")["DeployerPolicyArn"])
        with mock_aws():
            iam, cloudformation = (boto3.client(name, region_name=REGION) for name in ("iam", "cloudformation"))
            template = (ROOT / "infra/deployer.yaml").read_text()
            cloudformation.create_stack(StackName="one", TemplateBody=template, Capabilities=["CAPABILITY_IAM"])
            (output,) = cloudformation.describe_stacks(StackName="one")["Stacks"][0]["Outputs"]
            self.assertEqual(policy(iam, output["OutputValue"]), ours)


if __name__ == "__main__":
    unittest.main()

"""Deploys two stacks of one account and a publisher into ministack, uses them, and deletes them."""

import asyncio
import json
import tempfile
import unittest
import urllib.error
import urllib.request
from pathlib import Path

import websockets
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import ClientError
from emulator import REGION, WAIT_MAX, Checkout, Ministack

STACKS = ("viral-alerts", "viral-alerts-next")
DETAIL_TYPE = "Video Went Viral"


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
            cls.checkout.make("deploy", f"STACK={stack}", session=cls.deployer)
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

    def test_1_a_stack_receives_only_its_own_events(self):
        for stack in STACKS:
            body = publication("PL", f"event-{stack}")
            source = self.emulator.outputs(stack)["ScorerSource"]
            self.assertEqual(source, f"viral-alerts.scorer.{stack}")
            alert, _ = self.alert_after(stack, "PL", lambda: self.put_event(source, body))
            self.assertEqual(alert["video_id"], f"event-{stack}")
        for stack in STACKS:
            self.assertEqual([alert["video"]["id"] for alert in self.alerts(stack, "PL")], [f"event-{stack}"])

    def test_2_a_publisher_can_publish_in_all_three_ways_and_only_to_its_own_stack(self):
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

    def test_3_another_stack_can_publish_with_the_same_policy(self):
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

    def test_4_domain_names_map_to_one_stack_and_then_to_the_other(self):
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

    def test_5_a_deleted_stack_leaves_the_artifacts_of_the_other_stack(self):
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

    def test_6_deleting_the_last_stack_leaves_only_the_bucket_of_sam(self):
        stack = STACKS[0]
        groups = self.emulator.client("logs")
        self.checkout.make("delete", f"STACK={stack}", session=self.deployer)
        self.assertFalse(self.emulator.exists(stack))
        self.assertTrue(self.emulator.exists("aws-sam-cli-managed-default"))
        left = groups.describe_log_groups(logGroupNamePrefix=f"/aws/lambda/{stack}/")["logGroups"]
        self.assertEqual([group["logGroupName"] for group in left], [])


if __name__ == "__main__":
    unittest.main()

"""Connects our client to an Event API of ministack that asks our authorizer. Others wrote its protocol."""

import base64
import hmac
import http.client
import http.server
import io
import json
import queue
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.parse
import zipfile
from pathlib import Path

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from emulator import GAPS, REGION, ROOT, WAIT_MAX, Ministack

EPOCH = 1795000000000
SECRET = "a secret of at least thirty-two bytes"
# Asks the service's authorizer, except about signatures, see gaps.yaml.
ASKS = """
import json

import boto3


def handler(event, context):
    asked = event["requestContext"]
    if asked["operation"] == "EVENT_PUBLISH" and event["authorizationToken"].startswith("AWS4-HMAC-SHA256 "):
        return {"isAuthorized": asked["channel"] != "/alerts/FR", "ttlOverride": 0}
    answer = boto3.client("lambda").invoke(FunctionName="authorize", Payload=json.dumps(event))
    return json.load(answer["Payload"])
"""


def frame(region, seq):
    video = {"id": f"v{seq}", "title": "Łódź <&'> 🎬", "thumbnail": "", "score": 97}
    return {"type": "viral_alert", "region": region, "epoch": EPOCH, "seq": seq, "id": f"{region}{seq}", "video": video}


def removal(region, seq):
    return {"type": "alert_removed", "region": region, "epoch": EPOCH, "seq": seq, "id": f"{region}{seq}"}


def token(*regions):
    """Returns a token that allows these regions."""
    claims = {"exp": int(time.time()) + 600, "regions": regions}
    parts = [base64url(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims)]
    signature = hmac.digest(SECRET.encode(), ".".join(parts).encode(), "sha256")
    return ".".join([*parts, base64url(signature)])


def base64url(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def base_36(number):
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    return (base_36(number // 36) if number >= 36 else "") + digits[number % 36]


class Log(http.server.ThreadingHTTPServer):
    """The service's `GET /alerts` (docs/protocol.md) of some regions, whose alerts are numbered from 1 on."""

    daemon_threads = True

    def __init__(self, events):
        self.events, self.alerts = events, {}
        super().__init__(("127.0.0.1", 0), Reader)

    def add(self, alert):
        self.alerts.setdefault(alert["region"], []).append(alert)

    def answer(self, region, after=None):
        regions = sorted(self.alerts) if region == "ALL" else region.split(",")
        ends = {name: len(self.alerts.get(name, [])) for name in regions}
        read = {}
        for part in (after or "").split("_"):
            if part:
                name, epoch, seq = part.split(".")[:3]
                read[name] = int(seq) if int(epoch, 36) == EPOCH else 0
        begin = {name: read.get(name, 0 if region == "ALL" else end) for name, end in ends.items()}
        alerts = [alert for name in regions if after for alert in self.alerts.get(name, [])[begin[name] :]]
        positions = {name: {"epoch": EPOCH if end else 0, "seq": end} for name, end in ends.items()}
        cursor = "_".join(f"{name}.{base_36(EPOCH)}.{base_36(end)}" for name, end in ends.items() if end) or "_"
        answer = {"alerts": alerts, "positions": positions, "after": cursor, "more": False, "recovered": True}
        return answer | {"events": self.events}


class Reader(http.server.BaseHTTPRequestHandler):
    def do_GET(self):  # noqa: N802
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
        allowed = self.allowed()
        if "*" in allowed or allowed >= set(query["region"].split(",")):
            status, answer = 200, self.server.answer(query["region"], query.get("after"))
        else:
            status, answer = 403, {"error": {"code": "forbidden", "message": "no", "retryable": False}}
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def allowed(self):
        """The regions of the token, which is believed here. Without a token all are allowed."""
        _, _, text = self.headers.get("Authorization", "").partition("Bearer ")
        return set(json.loads(base64.urlsafe_b64decode(f"{text.split('.')[1]}=="))["regions"] if text else "*")

    def log_message(self, *_):
        pass


class Client:
    """Our client in a process of its own, with its events in the order in which they came."""

    def __init__(self, http_url, regions, **options):
        # Nothing listens there, so that whatever arrives came over the Event API or from the log.
        options |= {"url": "ws://127.0.0.1:9/prod", "httpUrl": http_url, "regions": regions}
        command = ["node", Path(__file__).parent / "follow.mjs", json.dumps(options)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.events = queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.events.put(json.loads(line))
        self.events.put({"event": "ended"})

    def next(self, *kinds):
        """Returns the next event of one of these kinds."""
        while True:
            event = self.events.get(timeout=WAIT_MAX)
            kind = event.pop("event")
            if kind in kinds:
                return kind, event
            if kind in ("ended", "gap", "error"):
                raise AssertionError(f"the client reports {kind}: {event}")

    def stop(self):
        self.process.kill()
        self.process.wait(WAIT_MAX)
        self.process.stdout.close()


class Events(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        directory = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.emulator = Ministack(directory)
        cls.addClassCleanup(cls.emulator.stop)
        appsync = cls.emulator.client("appsync")
        # As template.yaml has it.
        cls.api = appsync.create_api(
            name="viral-alerts",
            eventConfig={
                "authProviders": [
                    {"authType": "AWS_LAMBDA", "lambdaAuthorizerConfig": {"authorizerUri": cls.authorizer(directory)}},
                    {"authType": "AWS_IAM"},
                ],
                "connectionAuthModes": [{"authType": "AWS_LAMBDA"}],
                "defaultPublishAuthModes": [{"authType": "AWS_IAM"}],
                "defaultSubscribeAuthModes": [{"authType": "AWS_LAMBDA"}],
            },
        )["api"]
        appsync.create_channel_namespace(apiId=cls.api["apiId"], name="alerts")
        url = f"ws://{cls.api['dns']['REALTIME']}/event/realtime"
        cls.events = {"url": url, "host": cls.api["dns"]["HTTP"], "share": 100}

    @classmethod
    def authorizer(cls, directory):
        """Creates the service's authorizer and the one that asks it. Returns the ARN of the latter."""
        cls.emulator.client("ssm").put_parameter(Name="/token", Value=SECRET, Type="SecureString")
        program = directory / "bootstrap"
        subprocess.run(["strip", "-o", program, ROOT / "target/debug/authorize"], check=True)
        variables = {"AUTHORIZATION": "optional", "TOKEN_SECRET_PARAMETER": "/token"}
        variables |= dict.fromkeys(("TOKEN_ISSUER", "TOKEN_AUDIENCE", "JWKS_URL"), "")
        cls.function("authorize", "provided.al2023", "bootstrap", program.read_bytes(), "ssm:GetParameter", variables)
        return cls.function("asks", "python3.12", "index.py", ASKS.encode(), "lambda:InvokeFunction", {})

    @classmethod
    def function(cls, name, runtime, file, text, action, variables):
        """Creates a function whose role allows this action, and returns its ARN."""
        code = io.BytesIO()
        with zipfile.ZipFile(code, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.writestr(file, text)
        iam, statement = cls.emulator.client("iam"), {"Effect": "Allow", "Action": action, "Resource": "*"}
        trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        policy, trusts = (json.dumps({"Version": "2012-10-17", "Statement": [one]}) for one in (statement, trust))
        role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trusts)["Role"]
        iam.put_role_policy(RoleName=name, PolicyName=name, PolicyDocument=policy)
        return cls.emulator.client("lambda").create_function(
            FunctionName=name,
            Runtime=runtime,
            Handler="index.handler",
            Role=role["Arn"],
            Code={"ZipFile": code.getvalue()},
            Timeout=10,
            Environment={"Variables": variables},
        )["FunctionArn"]

    def setUp(self):
        self.log = Log(self.events)
        threading.Thread(target=self.log.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        self.addCleanup(self.log.server_close)
        self.addCleanup(self.log.shutdown)
        # Before anybody follows the region.
        self.log.add(frame("PL", 1))

    def client(self, *regions, **options):
        client = Client(f"http://127.0.0.1:{self.log.server_port}", regions, **options)
        self.addCleanup(client.stop)
        return client

    def publish(self, *frames, session=None, token=None):
        """Publishes as deliver does, or with a token. Returns the status and the answer."""
        texts = [json.dumps(one, ensure_ascii=False, separators=(",", ":")) for one in frames]
        body = json.dumps({"channel": f"/alerts/{frames[0]['region']}", "events": texts}).encode()
        host = self.events["host"]
        request = AWSRequest("POST", f"http://{host}/event", {"Content-Type": "application/json"}, body)
        credentials = (session or self.emulator.session()).get_credentials()
        if token:
            request.headers["Authorization"] = token
        else:
            SigV4Auth(credentials, "appsync", REGION).add_auth(request)
        connection = http.client.HTTPConnection(self.emulator.address, timeout=WAIT_MAX)
        self.addCleanup(connection.close)
        connection.request("POST", "/event", body, {**dict(request.headers), "Host": host})
        response = connection.getresponse()
        return response.status, json.loads(response.read())

    def published(self, *frames):
        status, answer = self.publish(*frames)
        self.assertEqual((status, answer["failed"], len(answer["successful"])), (200, [], len(frames)), answer)

    def test_alerts_come_once_and_in_order_although_some_are_lost_or_repeated(self):
        one, everything = self.client("PL", token=token("PL")), self.client("ALL")
        for client in (one, everything):
            self.assertEqual(client.next("state")[1], {"state": "open", "transport": "websocket"})
        second, third, fourth, fifth = (frame("PL", seq) for seq in (2, 3, 4, 5))
        # It is not in the log yet, so it arrives by its channel and by the wildcard.
        self.published(second)
        for client in (one, everything):
            self.assertEqual(client.next("alert"), ("alert", second))
        for alert in (second, third, fourth, fifth, frame("DE", 1), frame("DE", 2)):
            self.log.add(alert)
        # The third is in the log alone.
        self.published(second, fifth, fourth, fourth)
        self.published(frame("DE", 2), frame("DE", 1))
        told = [one.next("alert") for _ in range(3)]
        self.assertEqual(told, [("alert", alert) for alert in (third, fourth, fifth)])
        # What is not for the client is published there too.
        self.published(removal("PL", 5), {"region": "PL", "type": "other"}, frame("PL", 6))
        self.assertEqual(one.next("alert", "removed"), ("removed", removal("PL", 5)))
        self.assertEqual(one.next("alert", "removed"), ("alert", frame("PL", 6)))
        told = [everything.next("alert", "removed") for _ in range(7)]
        in_region = [(kind, detail) for kind, detail in told if detail["region"] == "PL"]
        expected = [("alert", alert) for alert in (third, fourth, fifth)]
        self.assertEqual(in_region, [*expected, ("removed", removal("PL", 5)), ("alert", frame("PL", 6))])
        in_region = [(kind, detail) for kind, detail in told if detail["region"] == "DE"]
        self.assertEqual(in_region, [("alert", frame("DE", 1)), ("alert", frame("DE", 2))])

    def test_a_refused_channel_stops_only_itself(self):
        client = self.client("PL", "DE", token=token("PL"))
        self.assertEqual(client.next("subscribed")[1]["region"], "PL")
        _, error = client.next("error")
        self.assertEqual((error["code"], error["terminal"]), ("forbidden", False))
        self.published(frame("DE", 1), frame("DE", 2))
        self.published(frame("PL", 2))
        self.assertEqual(client.next("alert"), ("alert", frame("PL", 2)))

    def test_all_regions_take_a_token_that_allows_all(self):
        client = self.client("PL", "ALL", token=token("PL"))
        self.assertEqual(client.next("error")[1]["code"], "forbidden")
        self.assertEqual(client.next("subscribed")[1]["region"], "PL")
        self.assertEqual(self.client("ALL", token=token("*")).next("subscribed")[1]["region"], "ALL")

    def test_an_invalid_token_opens_nothing(self):
        self.assertEqual(self.client("PL", token=f"{token('PL')}x").next("state")[1]["state"], "waiting")

    def test_clients_may_not_publish(self):
        for text in ("anonymous", token("*")):
            status, answer = self.publish(frame("PL", 1), token=text)
            self.assertEqual((status, answer["errors"][0]["errorType"]), (401, "UnauthorizedException"))

    def test_a_wrong_signature_may_not_publish(self):
        key = self.emulator.user("publisher").get_credentials().access_key
        self.assertEqual(self.publish(frame("PL", 1), session=self.emulator.session(key, "wrong"))[0], 403)

    def test_what_ministack_decides_otherwise_than_aws(self):
        # AWS asks the authorizer of the mode of the operation alone.
        self.assertIn("authorizer", GAPS["events"])
        self.assertEqual(self.publish(frame("FR", 1))[0], 401)
        # AWS checks appsync:EventPublish.
        self.assertIn("permissions", GAPS["events"])
        self.assertEqual(self.publish(frame("PL", 1), session=self.emulator.user("nobody"))[0], 200)


if __name__ == "__main__":
    unittest.main()

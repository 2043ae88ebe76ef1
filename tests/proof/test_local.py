"""A round of `make proof` against local mode, over TLS and without a deployment. `CLIENTS` says how many clients."""

import os
import re
import subprocess
import sys
import tempfile
import unittest
import urllib.request
from pathlib import Path
from unittest import mock

import boto3

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "infra/proof"))

import plan  # noqa: E402
import rounds  # noqa: E402
from cloud import Addresses  # noqa: E402

PRICES = plan.prices_of("us-east-1")
ACCOUNT = plan.Account(concurrency=1_000, requests_per_sec=10_000, connections_per_sec=500)
BOARD = "board"


def certificate(directory):
    """Makes a certificate for this machine. Returns the file with it, and the one with its key."""
    files = directory / "certificate.pem", directory / "key.pem"
    options = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    options += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    options += ["-out", files[0], "-keyout", files[1]]
    subprocess.run(["openssl", "req", *options], check=True, capture_output=True)
    return files


class LocalMode:
    """Local mode on free ports with TLS, and functions of the clients as programs."""

    def __init__(self, tls_certificate, tls_key):
        program = [ROOT / "target/debug/viral-alerts-local", "--ws-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0"]
        program += ["--tls-cert", tls_certificate, "--tls-key", tls_key]
        self.process = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for line in self.process.stdout:
            if ready := re.match(r"ready (wss:\S+) (https:\S+)", line):
                break
        else:
            raise AssertionError("local mode ended without being ready")
        sockets, self.http = ready.groups()
        with urllib.request.urlopen(f"{self.http}inspector/env", timeout=30) as answer:
            self.variables = dict(re.findall(r"^export (\w+)=(.*)$", answer.read().decode(), re.MULTILINE))
        self.addresses = Addresses(sockets, f"{self.http}publish")
        self.functions = []
        self.session = boto3.Session(
            aws_access_key_id=self.variables["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.variables["AWS_SECRET_ACCESS_KEY"],
            region_name=self.variables["AWS_REGION"],
        )

    def start_clients(self, event):
        code = f"import crowd; crowd.handler({event!r}, None)"
        env = os.environ | self.variables | {"BOARD": BOARD, "PYTHONPATH": str(ROOT / "infra/proof/clients")}
        env["AWS_DEFAULT_REGION"] = self.variables["AWS_REGION"]
        self.functions.append(subprocess.Popen([sys.executable, "-B", "-c", code], env=env))

    def say(self, text):
        print(text, flush=True)

    def stop(self):
        for function in self.functions:
            function.terminate()
            function.wait()
        self.process.terminate()
        self.process.stdout.close()
        self.process.wait()


class Local(unittest.TestCase):
    def test_every_client_gets_every_alert(self):
        files = certificate(Path(self.enterContext(tempfile.TemporaryDirectory())))
        self.enterContext(mock.patch.dict(os.environ, {"SSL_CERT_FILE": str(files[0])}))
        local = LocalMode(*files)
        self.addCleanup(local.stop)
        os.environ["AWS_ENDPOINT_URL_DYNAMODB"] = local.variables["AWS_ENDPOINT_URL_DYNAMODB"]
        local.session.client("dynamodb").create_table(
            TableName=BOARD,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": "name", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "name", "KeyType": "HASH"}],
        )
        board = rounds.Board(local.session, BOARD)
        # Enough for two functions, so that they have to share the schedule.
        wanted = int(os.environ.get("CLIENTS", plan.CLIENTS_PER_FUNCTION + 100))
        (each,) = plan.planned(ACCOUNT, PRICES, [wanted], 3).rounds
        found = rounds.performed(local, board, local.addresses, each)
        print(found)
        counts = (found["connected"], found["lost"], found["duplicates"], found["refused"], found["unreported"])
        self.assertEqual(counts, (wanted, 0, 0, {}, 0))
        for alert in found["alerts"]:
            self.assertEqual((alert["expected"], alert["frames"]), (wanted, wanted))
            self.assertLessEqual(alert["first_ms"], alert["last_ms"])


if __name__ == "__main__":
    unittest.main()

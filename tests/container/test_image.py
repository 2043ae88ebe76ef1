"""The image of apigw-local: made as a release makes it, loaded, and used as its documentation says."""

import contextlib
import http.server
import json
import os
import platform
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.request
from pathlib import Path

from websockets.sync.client import connect

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tests"))
import docker_daemon  # noqa: E402

# What an image may have, in bytes.
IMAGE_MAX = 30_000_000
# Bound of each wait, in seconds.
WAIT_MAX = 60
PLATFORM = {"x86_64": "linux-x64", "aarch64": "linux-arm64"}[platform.machine()]


def docker(*arguments, **options):
    """Runs a command of Docker, and returns what it printed."""
    ended = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=WAIT_MAX, **options)
    if ended.returncode != 0:
        raise AssertionError(f"docker {arguments} ended with {ended.returncode}: {ended.stderr}")
    return ended.stdout.strip()


def made(directory):
    """Makes the image as a file."""
    notices = Image.directory / "NOTICES"
    with notices.open("w") as file:
        target = {"linux-x64": "x86_64-unknown-linux-gnu", "linux-arm64": "aarch64-unknown-linux-gnu"}[PLATFORM]
        subprocess.run([ROOT / "packaging/notices.py", target], check=True, stdout=file)
    command = [sys.executable, "-B", ROOT / "packaging/build.py", "image", "--binary", os.environ["PROGRAM"]]
    command += ["--notices", notices, "--platform", PLATFORM, "--out", directory]
    return Path(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip())


class Lambda(http.server.BaseHTTPRequestHandler):
    """A Lambda Invoke API whose functions answer with the body of their event, and a server for GET."""

    def do_GET(self):
        self.answer(b"a page")

    def do_POST(self):
        event = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.answer(json.dumps({"statusCode": 200, "body": event["body"]}).encode())

    def answer(self, body):
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving(context=None):
    """Serves Lambda on every address of this machine, with TLS if there is a context for it. Yields its port."""
    with http.server.ThreadingHTTPServer(("0.0.0.0", 0), Lambda) as server:
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def self_signed(directory):
    """Makes a certificate for the machine of containers, and returns its file and what serves with it."""
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-addext", "subjectAltName=DNS:host.docker.internal", "-addext", "basicConstraints=CA:FALSE"]
    command += ["-subj", "/CN=test", "-days", "1"]
    subprocess.run([*command, "-out", certificate, "-keyout", key], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return certificate, context


class Image(unittest.TestCase):
    directory = file = tag = None

    @contextlib.contextmanager
    def running(self, *flags, options=()):
        """Runs the image on a directory with the template. Yields its name, and the addresses of both listeners."""
        mounted = [f"--volume={Path(__file__).parent}:/app:ro", "--add-host=host.docker.internal:host-gateway"]
        published = ["--publish=127.0.0.1::8765", "--publish=127.0.0.1::8766"]
        name = docker("run", "--detach", *mounted, *published, *options, self.tag, *flags)
        try:
            deadline = time.monotonic() + WAIT_MAX
            state = "{{.State.Status}}, {{.State.Health.Status}}"
            while (now := docker("inspect", f"--format={state}", name)) != "running, healthy":
                self.assertTrue(now.startswith("running") and time.monotonic() < deadline, f"{now}: {self.log(name)}")
                # Docker has no way to wait for it.
                time.sleep(0.1)
            yield name, *(docker("port", name, port).splitlines()[0] for port in ("8765", "8766"))
        finally:
            docker("rm", "--force", name)

    def log(self, name):
        return subprocess.run(["docker", "logs", name], capture_output=True, text=True, timeout=WAIT_MAX).stderr

    def test_it_is_small(self):
        self.assertLess(self.file.stat().st_size, IMAGE_MAX)
        self.assertLess(int(docker("image", "inspect", "--format={{.Size}}", self.tag)), IMAGE_MAX)

    def test_it_says_what_it_is(self):
        labels = json.loads(docker("image", "inspect", "--format={{json .Config.Labels}}", self.tag))
        version = labels["org.opencontainers.image.version"]
        self.assertEqual(docker("run", "--rm", self.tag, "--version"), f"apigw-local {version}")

    def test_functions_answer_behind_it_and_it_ends_when_it_is_stopped(self):
        with serving() as port:
            endpoint = f"http://host.docker.internal:{port}"
            with self.running(f"--parameter=Server={endpoint}", f"--lambda-endpoint={endpoint}") as (name, ws, http):
                with connect(f"ws://{ws}/dev") as client:
                    client.send('{"action": "echo", "text": "here"}')
                    self.assertEqual(json.loads(client.recv(WAIT_MAX))["text"], "here")
                with urllib.request.urlopen(f"http://{http}/", timeout=WAIT_MAX) as page:
                    self.assertEqual(page.read(), b"a page")
                docker("stop", "--time=30", name)
                self.assertEqual(docker("inspect", "--format={{.State.ExitCode}}", name), "0")

    def test_it_trusts_the_authorities_of_the_system_and_those_that_are_named(self):
        certificate, context = self_signed(self.directory)
        with serving(context) as port:
            flags = [f"--parameter=Server=https://host.docker.internal:{port}", "--lambda-endpoint=http://localhost:1"]
            with self.running(*flags) as (name, _, http):
                with self.assertRaises(urllib.error.HTTPError):
                    urllib.request.urlopen(f"http://{http}/", timeout=WAIT_MAX)
                self.assertIn("UnknownIssuer", self.log(name))
            named = [f"--volume={certificate}:/certificate.pem:ro", "--env=SSL_CERT_FILE=/certificate.pem"]
            with self.running(*flags, options=named) as (_, _, http):
                with urllib.request.urlopen(f"http://{http}/", timeout=WAIT_MAX) as page:
                    self.assertEqual(page.read(), b"a page")


def main():
    with tempfile.TemporaryDirectory() as directory, docker_daemon.started() as without_docker:
        if without_docker:
            print(f"skipped: {without_docker}")
            return
        Image.directory = Path(directory)
        # A release keeps what is tested.
        Image.file = made(Path(os.environ.get("OUT", directory)))
        # As everybody gets it: from the file, with nothing of the build at hand.
        tag = Image.file.name.removeprefix("apigw-local-").removesuffix(".image.tar")
        docker("image", "rm", "--force", f"apigw-local:{tag}")
        Image.tag = docker("load", f"--input={Image.file}").removeprefix("Loaded image: ")
        try:
            unittest.main(verbosity=2)
        finally:
            docker("image", "rm", "--force", Image.tag)


if __name__ == "__main__":
    main()

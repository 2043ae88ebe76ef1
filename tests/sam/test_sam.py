"""Runs the commands of docs/sam.md."""

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path

import docker
from samtranslator.yaml_helper import yaml_parse

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from built import lay_out  # noqa: E402
from shell_blocks import shell_blocks  # noqa: E402

# Bound of every wait, in seconds.
WAIT_MAX = 60

# What stands for cargo, which would compile.
CARGO = f"""#!/bin/bash
case "$*" in
  "run -- "*) exec {ROOT}/target/debug/viral-alerts-local "${{@:3}}" ;;
  # So cargo-lambda runs a function.
  "run "*--bin*) while [ "$1" != --bin ]; do shift; done; exec "{ROOT}/target/debug/$2" ;;
  "lambda "*) exec {ROOT}/target/tools/bin/cargo-lambda "$@" ;;
  *) HOME={Path.home()} exec {shutil.which("cargo")} "$@" ;;
esac
"""

# The image of `docker.py`, instead of Lambda's.
SAM_CONFIG = f"""version = 0.1
[default.local_invoke.parameters]
skip_pull_image = true
invoke_image = ["{docker.IMAGE}"]
[default.local_start_lambda.parameters]
skip_pull_image = true
invoke_image = ["{docker.IMAGE}"]
[default.local_start_api.parameters]
skip_pull_image = true
invoke_image = ["{docker.IMAGE}"]
"""


class Program:
    """A command that runs until it is interrupted."""

    def __init__(self, command, directory, env):
        self.command = command
        self.process = subprocess.Popen(
            ["bash", "-c", command], cwd=directory, env=env, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            # What a shell starts in the background ignores it, and so would all that it starts.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        self.printed, self.lines = [], queue.Queue()
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def wait_for(self, text):
        """Waits for a line with a text, and returns it."""
        deadline = time.monotonic() + WAIT_MAX
        while True:
            try:
                line = self.lines.get(timeout=max(0, deadline - time.monotonic()))
            except queue.Empty:
                line = None
            if line is None:
                printed = "".join(self.printed)[-4000:]
                raise AssertionError(f"`{self.command}` did not print {text!r} in {WAIT_MAX} s\n{printed}")
            self.printed.append(line)
            if text in line:
                return line

    def stop(self):
        """Interrupts it as Ctrl-C does, and waits for its end."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGINT)
        try:
            self.process.wait(WAIT_MAX)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise
        finally:
            self.reader.join(WAIT_MAX)
            self.process.stdin.close()
            self.process.stdout.close()


@contextlib.contextmanager
def checkout():
    """A directory with the repository, in which cargo compiles nothing and sam takes the image of the tests."""
    with tempfile.TemporaryDirectory() as directory:
        directory = Path(directory)
        for place in ("bin", "home", "target", "tmp"):
            (directory / place).mkdir(parents=True)
        for path in ROOT.iterdir():
            if path.name not in (".aws-sam", ".git", "samconfig.toml", "target"):
                (directory / path.name).symlink_to(path)
        (directory / "bin/cargo").write_text(CARGO)
        (directory / "bin/cargo").chmod(0o755)
        (directory / "bin/apigw-local").symlink_to(ROOT / "target/debug/apigw-local")
        (directory / "samconfig.toml").write_text(SAM_CONFIG)
        lay_out(yaml_parse((ROOT / "template.yaml").read_text()), directory)
        yield directory


class Page(unittest.TestCase):
    page = shell_blocks("docs/sam.md")
    # Set before the tests run.
    directory = without_docker = None
    ran = set()

    @classmethod
    def setUpClass(cls):
        paths = [cls.directory / "bin", ROOT / "target/tools/bin", os.environ["PATH"]]
        cls.env = {
            **os.environ,
            "PATH": ":".join(map(str, paths)),
            "HOME": str(cls.directory / "home"),
            "TMPDIR": str(cls.directory / "tmp"),
            "SAM_CLI_TELEMETRY": "0",
            "AWS_DEFAULT_REGION": "eu-central-1",
        }

    def require_docker(self):
        if self.without_docker:
            self.skipTest(self.without_docker)

    def run_command(self, command):
        """Runs a command to its end, and returns what it printed."""
        ran = subprocess.run(
            ["bash", "-c", self.here(command)], cwd=self.directory, env=self.env, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=WAIT_MAX,
        )  # fmt: skip
        self.assertEqual(ran.returncode, 0, f"{command}\n{ran.stdout}\n{ran.stderr}")
        return ran.stdout

    def start(self, command, ready):
        """Starts a command that goes on until the end of the test, and waits for a text."""
        program = Program(self.here(command), self.directory, self.env)
        self.addCleanup(program.stop)
        program.wait_for(ready)
        return program

    def here(self, command):
        self.ran.add(command)
        return command.replace("Architecture=x86_64", f"Architecture={docker.processor()}")

    def blocks(self, heading, *counts):
        """Returns all commands under a heading, after a look at how many each block has."""
        blocks = self.page[heading]
        self.assertEqual([len(block) for block in blocks], list(counts), heading)
        return [command for block in blocks for command in block]

    def test_1_a_function_in_a_container_publishes_to_the_sockets_of_the_emulator(self):
        self.require_docker()
        emulator, socket, invoke = self.blocks("One function in a container", 1, 1, 1)
        self.start(emulator, "ready ws://127.0.0.1:8765/")
        client = self.start(socket, "Connected to")
        printed = self.run_command(invoke)
        self.assertEqual(json.loads(printed.splitlines()[-1])["statusCode"], 200, printed)
        self.assertIn('"video_id":"dQw4w9WgXcQ"', client.wait_for('"event":"new_trending"'))
        self.assertEqual(docker.containers(), [])

    def test_2_sockets_reach_functions_in_containers(self):
        self.require_docker()
        emulator, functions, socket, publish = self.blocks("WebSockets in front of SAM's containers", 1, 1, 1, 1)
        self.start(emulator, "ready ws://127.0.0.1:8765/")
        functions = self.start(functions, "Running on http://127.0.0.1:3001")
        client = self.start(socket, "Connected to")
        self.assertTrue(json.loads(self.run_command(publish))["published"])
        self.assertIn('"video_id":"v1"', client.wait_for('"event":"new_trending"'))
        functions.stop()
        self.assertEqual(docker.containers(), [], "sam stops warm containers at its end")

    def test_3_the_http_api_runs_alone(self):
        self.require_docker()
        emulator = self.page["One function in a container"][0][0]
        api, publish, read = self.blocks("The HTTP API alone", 1, 2)
        self.start(emulator, "ready ")
        self.start(api, "Running on http://127.0.0.1:3000")
        self.assertTrue(json.loads(self.run_command(publish))["published"])
        self.assertEqual([alert["video"]["id"] for alert in json.loads(self.run_command(read))["alerts"]], ["v2"])

    def test_4_without_docker_functions_run_in_cargo_lambda(self):
        emulator, watch, invoke, of_emulator = self.blocks("Without Docker", 1, 1, 1, 1)
        self.start(emulator, "ready ")
        self.start(watch, "127.0.0.1:9000")
        self.assertEqual(json.loads(self.run_command(invoke))["statusCode"], 200)
        self.assertEqual(json.loads(self.run_command(of_emulator))["statusCode"], 200)

    def test_5_no_command_is_left_out(self):
        self.require_docker()
        elsewhere = ["Before you begin", "A stack"]
        commands = {
            command for heading, blocks in self.page.items() if heading not in elsewhere
            for block in blocks for command in block
        }  # fmt: skip
        self.assertEqual(commands - self.ran, set())


if __name__ == "__main__":
    # A first process of a PID namespace ignores it otherwise.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with checkout() as Page.directory, docker.started() as Page.without_docker:
        unittest.main(verbosity=2)

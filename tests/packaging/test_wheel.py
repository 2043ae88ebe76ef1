"""The wheel for PyPI: installed without network, on a machine without Rust, with its fixture for pytest."""

import re
import signal
import socket
import tarfile
import textwrap
import time
import tomllib
import unittest
import zipfile

from packages import (
    OTHERS,
    PLATFORM,
    ROOT,
    activated,
    build,
    build_program,
    environment,
    environment_with_wheel,
    made,
    notices,
    other,
    run,
    virtual_environment,
    work,
)

TEMPLATE = ROOT / "examples/pytest/template.yaml"
# From nothing installed to an emulator that is ready, in seconds.
READY_MAX = 10


def pytest(name, test, settings="", status=0):
    """Runs one file of tests in a directory of its own, and returns what pytest printed."""
    directory = work() / name
    directory.mkdir()
    (directory / "test_it.py").write_text(test)
    (directory / "pytest.ini").write_text(f"[pytest]\n{settings}")
    command = [virtual_environment() / "bin/python", "-B", "-m", "pytest", "-p", "no:cacheprovider"]
    return run(*command, cwd=directory, env=environment(), status=status)


class Wheel(unittest.TestCase):
    def test_from_nothing_to_ready_in_under_ten_seconds(self):
        made()
        began = time.monotonic()
        environment_with_wheel(work() / "new")
        script = f"""
            import apigw_local

            with apigw_local.start({str(TEMPLATE)!r}, args=["--quotas"]) as emulator:
                print(emulator.ws_url)
                emulator.reset()
        """
        printed = run(work() / "new/bin/python", "-c", textwrap.dedent(script), cwd=work(), env=environment())
        self.assertRegex(printed, r"ws://127\.0\.0\.1:\d+/dev\n")
        self.assertLess(time.monotonic() - began, READY_MAX)

    def test_the_program_is_in_the_path_of_its_environment(self):
        output = run(virtual_environment() / "bin/apigw-local", "--version", cwd=work(), env=environment())
        self.assertRegex(output, r"^apigw-local \d+\.\d+\.\d+\n$")

    def test_each_test_has_the_addresses_and_an_emulator_as_it_was_at_the_start(self):
        test = """
            import os, urllib.request
            import boto3, pytest
            from websockets.sync.client import connect

            opened = []

            @pytest.mark.parametrize("turn", [1, 2])
            def test_it(apigw_local, turn):
                assert apigw_local.ws_url.startswith("ws://") and apigw_local.http_url.startswith("http://")
                assert apigw_local.env.items() <= os.environ.items()
                table = boto3.resource("dynamodb").Table(os.environ["CONNECTIONS_TABLE"])
                assert table.scan()["Count"] == 0
                opened.append(connect(apigw_local.ws_url))
                assert table.scan()["Count"] == 1

            def test_the_variables_are_those_of_tests_with_the_fixture_only():
                assert "APIGW_LOCAL_WS_URL" not in os.environ
        """
        output = pytest("each", textwrap.dedent(test), f"apigw_local_template = {TEMPLATE}\n")
        self.assertIn("3 passed", output)

    def test_an_emulator_that_does_not_start_fails_the_test_with_its_reason(self):
        test = "def test_it(apigw_local): pass\n"
        output = pytest("nothing", test, status=1)
        self.assertIn("apigw-local ended with 1, and said why on stderr", output)
        self.assertIn("error: no template in", output)

    def test_further_flags_are_read_as_a_shell_reads_them(self):
        test = "def test_it(apigw_local): pass\n"
        settings = f"apigw_local_template = {TEMPLATE}\napigw_local_args = --idle-timeout '2 parsecs'\n"
        self.assertIn("invalid value '2 parsecs' for '--idle-timeout", pytest("flags", test, settings, status=1))

    def test_what_functions_log_stands_under_the_test_that_fails(self):
        test = """
            import json
            from websockets.sync.client import connect

            def test_it(apigw_local):
                with connect(apigw_local.ws_url) as socket:
                    socket.send(json.dumps({"action": "send", "no": "text"}))
                    assert json.loads(socket.recv(20))["message"] != "Internal server error"
        """
        output = pytest("logs", textwrap.dedent(test), f"apigw_local_template = {TEMPLATE}\n", status=1)
        self.assertIn("KeyError: 'text'", output)

    def test_one_that_runs_already_is_used_and_goes_on(self):
        test = """
            import os

            def test_it(apigw_local):
                assert apigw_local.http_url == os.environ["HTTP_URL"].rstrip("/")
        """
        directory = work() / "exec"
        directory.mkdir()
        (directory / "test_it.py").write_text(textwrap.dedent(test))
        tested = "HTTP_URL=$APIGW_LOCAL_HTTP_URL python -B -m pytest -p no:cacheprovider"
        script = f"{tested} && apigw-local env --http-addr ${{APIGW_LOCAL_HTTP_URL#http://}}"
        command = ["apigw-local", "exec", "--template", TEMPLATE, "--", "sh", "-c", script]
        output = run(*command, cwd=directory, env=activated())
        self.assertIn("1 passed", output)
        self.assertIn("export APIGW_LOCAL_WS_URL=", output)

    def test_the_emulator_ends_with_its_tests_also_where_these_are_killed(self):
        script = f"""
            import os
            import signal
            import apigw_local

            print(apigw_local.start({str(TEMPLATE)!r}).http_url, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        """
        command = [virtual_environment() / "bin/python", "-c", textwrap.dedent(script)]
        printed = run(*command, cwd=work(), env=environment(), status=-signal.SIGKILL)
        # All that had the pipe of this test have ended, or it would not have been read to its end.
        with self.assertRaises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", int(printed.strip().rsplit(":", 1)[1])))

    def test_a_start_that_is_interrupted_leaves_nothing(self):
        test = f"""
            import subprocess
            import apigw_local, pytest

            started = []

            class Noted(subprocess.Popen):
                def __init__(self, *arguments, **named):
                    super().__init__(*arguments, **named)
                    started.append(self)

            def interrupted(*_):
                raise KeyboardInterrupt

            def test_it(monkeypatch):
                monkeypatch.setattr(subprocess, "Popen", Noted)
                monkeypatch.setattr(apigw_local, "Emulator", interrupted)
                with pytest.raises(KeyboardInterrupt):
                    apigw_local.start({str(TEMPLATE)!r})
                (process,) = started
                assert process.returncode is not None and process.stdin.closed and process.stdout.closed
        """
        self.assertIn("1 passed", pytest("interrupted", textwrap.dedent(test)))

    def test_a_reset_that_fails_says_why(self):
        test = """
            import http.server, threading
            import pytest
            import apigw_local

            class Refuses(http.server.BaseHTTPRequestHandler):
                def answer(self, status, body):
                    self.send_response(status)
                    self.end_headers()
                    self.wfile.write(body)

                def do_GET(self):
                    self.answer(200, b"export APIGW_LOCAL_WS_URL=ws://here")

                def do_POST(self):
                    self.answer(503, b'{"message": "connections have not ended"}')

            def test_it():
                with http.server.HTTPServer(("127.0.0.1", 0), Refuses) as server:
                    threading.Thread(target=server.serve_forever, daemon=True).start()
                    emulator = apigw_local.Emulator(f"http://127.0.0.1:{server.server_port}")
                    with pytest.raises(apigw_local.EmulatorError, match="503.*connections have not ended"):
                        emulator.reset()
                    server.shutdown()
        """
        self.assertIn("1 passed", pytest("reset", textwrap.dedent(test)))


class Building(unittest.TestCase):
    def test_the_same_program_makes_the_same_wheel(self):
        wheels = []
        for name in ("once", "again"):
            out = work() / name
            build_program("darwin-arm64", other("darwin-arm64"), out)
            wheels.append(next(out.glob("*.whl")).read_bytes())
        self.assertEqual(*wheels)

    def test_a_wheel_names_the_glibc_that_its_program_needs(self):
        binary = work() / "needs"
        binary.write_bytes(OTHERS["linux-x64"] + b"\0GLIBC_2.4\0GLIBC_2.31\0GLIBC_2.9\0")
        printed = build_program("linux-x64", binary, work() / "named")
        self.assertIn("-py3-none-manylinux_2_31_x86_64.whl\n", printed)

    def test_an_image_needs_a_program_without_libraries(self):
        given = ["--binary", ROOT / "target/debug/apigw-local", "--notices", notices(), "--platform", PLATFORM]
        printed = build("image", *given, "--out", work() / "image", status=1)
        self.assertIn("needs libraries: build it for Linux with RUSTFLAGS", printed)

    def test_a_program_for_another_platform_is_refused(self):
        for binary in (other("darwin-arm64"), other("linux-arm64"), ROOT / "README.md"):
            printed = build_program("linux-x64", binary, work() / "wrong", status=1)
            self.assertIn("error: the binary is not for linux-x64: expected", printed)

    def test_every_package_has_the_licences_and_the_notices_of_what_its_program_contains(self):
        for path in made().glob("apigw_local-*.whl"):
            with zipfile.ZipFile(path) as wheel:
                names = {name.split("/licenses/")[1] for name in wheel.namelist() if "/licenses/" in name}
            self.assertEqual(names, {"LICENSE-APACHE", "LICENSE-MIT", "NOTICES"}, path)
        programs = [path for path in made().glob("apigw-local-*-*.tgz")]
        self.assertEqual(len(programs), len(OTHERS))
        for path in programs:
            with tarfile.open(path) as package:
                self.assertLessEqual({f"package/{name}" for name in names}, set(package.getnames()), path)

    def test_the_notices_name_what_is_in_the_program_and_nothing_else(self):
        crates, *texts = notices().read_text().split("\n" + "-" * 100 + "\n")
        named = re.findall(r"^(\S+) \S+: .+$", crates.split("\n\n")[-1], re.MULTILINE)
        self.assertLessEqual({"hyper", "libmimalloc-sys", "libsqlite3-sys", "ring", "tokio"}, set(named))
        # Ours, a macro, what builds others, and what only tests and the functions use.
        self.assertEqual({"clock", "velocity", "serde_derive", "cc", "aws-sdk-dynamodb"} & set(named), set())
        owners = {owner for text in texts for owner in text.split(":", 1)[0].split(", ")}
        self.assertEqual(owners, set(named))

    def test_only_the_tag_of_the_version_is_released_and_only_from_its_repository(self):
        about = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]
        version, repository = about["version"], about["repository"].removeprefix("https://github.com/")
        build("check", "--tag", f"v{version}", "--repository", repository)
        wrong_tag = build("check", "--tag", "v9.9.9", "--repository", repository, status=1)
        self.assertIn(f"error: the tag v9.9.9 is not the version of Cargo.toml: expected v{version}", wrong_tag)
        elsewhere = build("check", "--tag", f"v{version}", "--repository", "someone/else", status=1)
        self.assertIn("is not where this runs: expected https://github.com/someone/else", elsewhere)


if __name__ == "__main__":
    unittest.main()

"""The packages for npm: installed from a registry that has nothing else, on a machine without Rust."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import threading
import time
import unittest

from packages import PLATFORM, ROOT, WAIT_MAX, application, made, npm_environment, project, run, work

# What the issue of a release promises, in seconds: from nothing installed to an emulator that is ready.
READY_MAX = 10

PROGRAM = "node_modules/.bin/apigw-local"
LAUNCHER = "node_modules/apigw-local/apigw-local.js"
TEMPLATE = ROOT / "examples/vitest/template.yaml"

# A command whose clean-up after a signal takes as long as whoever else gets the signal needs to pass it on. A shell
# runs a trap at once only in `wait`.
CLEANS_UP = """
trap 'sleep 0.5; echo cleaned up; exit 3' HUP QUIT TERM
echo running
while :; do sleep 120 >/dev/null & wait; done
"""


@contextlib.contextmanager
def launched(*arguments, directory=None):
    """The launcher, in a group of its own of which nothing is left."""
    directory = directory or application()
    kept = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True, "start_new_session": True}
    command = [directory / PROGRAM, *arguments]
    with subprocess.Popen(command, cwd=directory, env=npm_environment(), **kept) as launcher:
        late = threading.Timer(WAIT_MAX, os.killpg, (launcher.pid, signal.SIGKILL))
        late.start()
        try:
            yield launcher
        finally:
            late.cancel()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(launcher.pid, signal.SIGKILL)


def launched_where(script="", directory=None, **process):
    """What the launcher says on another machine, after `script`, where Node.js' `process` has these values."""
    said = [f"Object.defineProperty(process, '{name}', {{ value: '{value}' }})" for name, value in process.items()]
    script = "; ".join([*said, script, f"require('./{LAUNCHER}')"])
    return run("node", "--eval", script, cwd=directory or application(), env=npm_environment(), status=1)


class Npm(unittest.TestCase):
    def test_from_nothing_to_ready_in_under_ten_seconds(self):
        made()
        directory = project("new")
        began = time.monotonic()
        run("npm", "install", "--save-dev", "apigw-local", cwd=directory, env=npm_environment())
        with launched("--template", TEMPLATE, "--ws-addr", "0", "--http-addr", "0", directory=directory) as launcher:
            self.assertTrue(any(line.startswith("ready ws://") for line in launcher.stdout))
            self.assertLess(time.monotonic() - began, READY_MAX)
            # To the launcher alone, which has to pass it on.
            launcher.send_signal(signal.SIGTERM)
            self.assertEqual(launcher.wait(), 0)

    def test_only_the_package_of_this_platform_is_installed(self):
        installed = {path.name for path in (application() / "node_modules").glob("apigw-local*")}
        self.assertEqual(installed, {"apigw-local", f"apigw-local-{PLATFORM}"})

    def test_npx_runs_it_where_nothing_is_installed(self):
        directory = project("npx")
        output = run("npx", "--yes", "apigw-local", "--version", cwd=directory, env=npm_environment())
        self.assertRegex(output, r"^apigw-local \d+\.\d+\.\d+\n$")

    def test_the_status_of_a_command_is_that_of_the_launcher(self):
        execute = [application() / PROGRAM, "exec", "--template", TEMPLATE, "--", "sh", "-c"]
        for script, status in {"exit 7": 7, "kill -9 $$": 128 + signal.SIGKILL}.items():
            run(*execute, script, cwd=application(), env=npm_environment(), status=status)

    def test_a_program_that_is_killed_counts_as_killed(self):
        script = "kill -9 $(ps -o ppid= -p $$)"
        execute = [application() / PROGRAM, "exec", "--template", TEMPLATE, "--", "sh", "-c", script]
        run(*execute, cwd=application(), env=npm_environment(), status=128 + signal.SIGKILL)

    def test_a_signal_to_the_launcher_or_to_the_whole_group_lets_the_command_clean_up(self):
        # A terminal sends SIGHUP to a group when it is closed, and SIGQUIT for Ctrl-\; `timeout` sends SIGTERM.
        for sent in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
            for send in (os.kill, os.killpg):
                command = ["exec", "--template", TEMPLATE, "--", "sh", "-c", CLEANS_UP]
                with self.subTest(f"{send.__name__} {sent.name}"), launched(*command) as launcher:
                    self.assertEqual(launcher.stdout.readline(), "running\n")
                    send(launcher.pid, sent)
                    self.assertEqual(launcher.stdout.read(), "cleaned up\n")
                    self.assertEqual(launcher.wait(), 3)

    def test_a_signal_that_ends_the_launcher_reaches_the_command_too(self):
        for sent in (signal.SIGUSR1, signal.SIGUSR2):
            command = ["exec", "--template", TEMPLATE, "--", "sh", "-c", "echo running; exec sleep 120"]
            with self.subTest(sent.name), launched(*command) as launcher:
                self.assertEqual(launcher.stdout.readline(), "running\n")
                launcher.send_signal(sent)
                self.assertEqual(launcher.stdout.read(), "")
                self.assertEqual(launcher.wait(), 128 + sent)

    def test_without_optional_dependencies_it_says_what_to_install(self):
        directory = project("omitted")
        run("npm", "install", "--omit=optional", "apigw-local", cwd=directory, env=npm_environment())
        output = run(directory / PROGRAM, "--version", cwd=directory, env=npm_environment(), status=1)
        self.assertIn(f"the package apigw-local-{PLATFORM} is not installed. Install again without --omit", output)

    def test_a_platform_without_a_program_is_named_with_those_that_have_one(self):
        windows = launched_where(platform="win32")
        self.assertIn("apigw-local: there is no program for win32-", windows)
        self.assertIn("only for linux-x64, linux-arm64, darwin-arm64. Run it in WSL.", windows)
        sparc = launched_where(platform="linux", arch="sparc")
        self.assertRegex(sparc, r"there is no program for linux-sparc, .* Build it with Rust: https://\S+\n")

    def test_where_there_is_no_glibc_it_says_so(self):
        shutil.copytree(application() / "node_modules/apigw-local", work() / "musl/node_modules/apigw-local")
        without_glibc = "process.report.getReport = () => ({ header: {} })"
        output = launched_where(without_glibc, work() / "musl", platform="linux", arch="x64")
        self.assertIn("the program needs glibc", output)

    def test_all_packages_have_one_version_and_the_launcher_asks_for_exactly_that(self):
        manifest = json.loads((application() / "node_modules/apigw-local/package.json").read_text())
        self.assertEqual(set(manifest["optionalDependencies"].values()), {manifest["version"]})
        names = {f"{name}-{manifest['version']}.tgz" for name in ["apigw-local", *manifest["optionalDependencies"]]}
        self.assertEqual({path.name for path in made().glob("apigw-local-*.tgz")}, names)


if __name__ == "__main__":
    unittest.main()

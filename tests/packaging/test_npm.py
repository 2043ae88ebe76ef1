"""The packages for npm: installed from a registry that has nothing else, on a machine without Rust."""

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


def launched_where(condition):
    """What the launcher says on another machine."""
    script = f"{condition}; require('./{LAUNCHER}')"
    return run("node", "--eval", script, cwd=application(), env=npm_environment(), status=1)


class Npm(unittest.TestCase):
    def test_from_nothing_to_ready_in_under_ten_seconds(self):
        made()
        directory = project("new")
        began = time.monotonic()
        run("npm", "install", "--save-dev", "apigw-local", cwd=directory, env=npm_environment())
        command = [directory / PROGRAM, "--template", TEMPLATE, "--ws-addr", "0", "--http-addr", "0"]
        kept = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True, "start_new_session": True}
        with subprocess.Popen(command, cwd=directory, env=npm_environment(), **kept) as launcher:
            late = threading.Timer(WAIT_MAX, lambda: os.killpg(launcher.pid, signal.SIGKILL))
            late.start()
            try:
                self.assertTrue(any(line.startswith("ready ws://") for line in launcher.stdout))
                self.assertLess(time.monotonic() - began, READY_MAX)
            finally:
                # To the launcher alone, which has to pass it on.
                launcher.send_signal(signal.SIGTERM)
            self.assertEqual(launcher.wait(), 0)
            late.cancel()

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

    def test_without_optional_dependencies_it_says_what_to_install(self):
        directory = project("omitted")
        run("npm", "install", "--omit=optional", "apigw-local", cwd=directory, env=npm_environment())
        output = run(directory / PROGRAM, "--version", cwd=directory, env=npm_environment(), status=1)
        self.assertIn(f"the package apigw-local-{PLATFORM} is not installed. Install again without --omit", output)

    def test_a_platform_without_a_program_is_named_with_those_that_have_one(self):
        windows = launched_where("Object.defineProperty(process, 'platform', { value: 'win32' })")
        self.assertIn("apigw-local: there is no program for win32-", windows)
        self.assertIn("only for linux-x64, linux-arm64, darwin-arm64. Run it in WSL.", windows)
        sparc = launched_where("Object.defineProperty(process, 'arch', { value: 'sparc' })")
        self.assertRegex(sparc, r"there is no program for linux-sparc, .* Build it with Rust: https://\S+\n")

    def test_where_there_is_no_glibc_it_says_so(self):
        shutil.copytree(application() / "node_modules/apigw-local", work() / "musl/node_modules/apigw-local")
        script = f"process.report.getReport = () => ({{ header: {{}} }}); require('./{LAUNCHER}')"
        output = run("node", "--eval", script, cwd=work() / "musl", env=npm_environment(), status=1)
        self.assertIn("the program needs glibc", output)

    def test_all_packages_have_one_version_and_the_launcher_asks_for_exactly_that(self):
        manifest = json.loads((application() / "node_modules/apigw-local/package.json").read_text())
        self.assertEqual(set(manifest["optionalDependencies"].values()), {manifest["version"]})
        names = {f"{name}-{manifest['version']}.tgz" for name in ["apigw-local", *manifest["optionalDependencies"]]}
        self.assertEqual({path.name for path in made().glob("apigw-local-*.tgz")}, names)


if __name__ == "__main__":
    unittest.main()

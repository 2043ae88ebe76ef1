"""The action for GitHub: its script, as a step of a workflow runs it, and the example of such a workflow."""

import functools
import http.server
import os
import pathlib
import re
import shutil
import threading
import unittest

from packages import ACTION, PLATFORM, ROOT, VERSION, environment, made, run, work

# The only step of the action.
(COMMAND,) = re.findall(r"^ +run: (.*)$", (ROOT / "action.yml").read_text(), re.MULTILINE)
EXAMPLE = ROOT / "examples/github"
# As GitHub calls them.
SYSTEM, PROCESSOR = {
    "linux-x64": ("Linux", "X64"),
    "linux-arm64": ("Linux", "ARM64"),
    "darwin-arm64": ("macOS", "ARM64"),
}[PLATFORM]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


class Action(unittest.TestCase):
    def step(self, name, status=0, **variables):
        """Runs the script, and returns what it printed and the file with further paths."""
        directory = work() / f"action-{name}"
        directory.mkdir()
        paths = directory / "paths"
        paths.touch()
        runner = {"RUNNER_OS": SYSTEM, "RUNNER_ARCH": PROCESSOR, "RUNNER_TEMP": directory, "GITHUB_PATH": paths}
        runner["GITHUB_ACTION_PATH"] = ROOT
        given = {key: str(value) for key, value in {**runner, **variables}.items()}
        return run("bash", "-c", COMMAND, cwd=directory, env=environment(**given), status=status), paths.read_text()

    def releases(self):
        """Serves the packages as the releases of a repository do, and returns the address."""
        folder = work() / "releases" / f"v{VERSION}"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(made() / f"apigw-local-{PLATFORM}-{VERSION}.tgz", folder)
        handler = functools.partial(Quiet, directory=folder.parent)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return f"http://127.0.0.1:{server.server_port}"

    def test_the_steps_that_follow_find_the_program(self):
        releases = self.releases()
        printed, paths = self.step("installs", APIGW_LOCAL_RELEASES=releases)
        self.assertEqual(printed, f"apigw-local {VERSION}\n")
        (directory,) = [pathlib.Path(line) for line in paths.splitlines()]
        self.assertEqual([path.name for path in directory.iterdir()], ["apigw-local"])
        printed, paths = self.step("unreleased", status=1, APIGW_LOCAL_RELEASES=releases, VERSION="9.9.9")
        address = f"{releases}/v9.9.9/apigw-local-{PLATFORM}-9.9.9.tgz"
        self.assertIn(f"::error::cannot download {address}: is 9.9.9 a released version?", printed)
        self.assertEqual(paths, "")

    def test_the_example_tests_the_project_that_init_begins_with(self):
        workflow = (EXAMPLE / ".github/workflows/test.yml").read_text()
        *_, installs, tests = re.findall(r"^      - (\w+: .*)$", workflow, re.MULTILINE)
        self.assertEqual(installs, f"uses: {ACTION}")
        _, paths = self.step("example", APIGW_LOCAL_RELEASES=self.releases())
        path = os.pathsep.join([*paths.splitlines(), environment()["PATH"]])
        # Node.js 20 has WebSockets behind a flag, and 22 without.
        variables = environment(PATH=path, NODE_OPTIONS="--experimental-websocket")
        project = work() / "repository"
        run("apigw-local", "init", project, cwd=work(), env=variables)
        shutil.copytree(EXAMPLE, project, dirs_exist_ok=True)
        command = tests.removeprefix("run: ")
        self.assertRegex(run("bash", "-e", "-c", command, cwd=project, env=variables), r"(?m)^. pass 2$")
        # The step fails where a test does.
        handler = project / "src/app.mjs"
        handler.write_text(handler.read_text().replace("you said", "you did not say"))
        self.assertIn("you did not say: hello", run("bash", "-e", "-c", command, cwd=project, env=variables, status=1))

    def test_what_is_no_version_and_what_has_no_program_is_refused(self):
        printed, _ = self.step("version", status=1, VERSION="latest; rm -rf /")
        self.assertIn("::error::version latest; rm -rf /: expected three numbers", printed)
        printed, _ = self.step("windows", status=1, RUNNER_OS="Windows", RUNNER_ARCH="X64")
        self.assertIn("::error::apigw-local has no program for Windows on X64", printed)


if __name__ == "__main__":
    unittest.main()

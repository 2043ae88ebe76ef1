"""The action for GitHub: its script, as a step of a workflow runs it."""

import functools
import http.server
import pathlib
import shutil
import threading
import tomllib
import unittest

from packages import PLATFORM, ROOT, environment, made, run, work

SCRIPT = ROOT / "packaging/action/install.sh"
VERSION = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
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
        given = {key: str(value) for key, value in {**runner, **variables}.items()}
        return run("bash", SCRIPT, cwd=directory, env=environment(**given), status=status), paths.read_text()

    def releases(self):
        """Serves the packages as the releases of a repository do, and returns the address."""
        folder = work() / "releases" / f"v{VERSION}"
        folder.mkdir(parents=True)
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

    def test_what_is_no_version_and_what_has_no_program_is_refused(self):
        printed, _ = self.step("version", status=1, VERSION="latest; rm -rf /")
        self.assertIn("::error::version latest; rm -rf /: expected three numbers", printed)
        printed, _ = self.step("windows", status=1, RUNNER_OS="Windows", RUNNER_ARCH="X64")
        self.assertIn("::error::apigw-local has no program for Windows on X64", printed)


if __name__ == "__main__":
    unittest.main()

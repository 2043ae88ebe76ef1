"""Publishing to npm and to a registry of containers, with programs in their place that only record their calls."""

import os
import unittest

from packages import ROOT, run, work

VERSION = "0.1.0"

# `npm view` knows the packages in $PUBLISHED, and fails for others as npm does.
NPM = """#!/bin/sh
if [ "$1" = view ]; then
  case " $PUBLISHED " in *" $2 "*) echo "${2##*@}" ;; *) exit 1 ;; esac
else
  echo "$@" >>"$RECORD"
fi
"""


class Publish(unittest.TestCase):
    def setUp(self):
        self.directory = work() / self.id()
        self.directory.mkdir()
        (self.directory / "npm").write_text(NPM)
        (self.directory / "npm").chmod(0o755)
        self.dist = self.directory / "dist"
        self.dist.mkdir()
        for platform in ("-linux-x64", "-darwin-arm64", ""):
            (self.dist / f"apigw-local{platform}-{VERSION}.tgz").touch()
        (self.dist / f"viral-alerts-{VERSION}.tgz").touch()

    def publish(self, published="", status=0):
        """Runs the script. Returns what it printed, and the packages that npm was to publish."""
        record = self.directory / "record"
        record.write_text("")
        path = os.pathsep.join([str(self.directory), "/usr/bin", "/bin"])
        env = {"PATH": path, "RECORD": str(record), "PUBLISHED": published}
        printed = run(ROOT / "packaging/publish.sh", self.dist, VERSION, cwd=self.directory, env=env, status=status)
        prefix = f"publish --access public --provenance {self.dist}/"
        return printed, [line.removeprefix(prefix) for line in record.read_text().splitlines()]

    def test_the_launcher_comes_after_the_programs_that_it_asks_for(self):
        _, published = self.publish()
        programs = [f"apigw-local-darwin-arm64-{VERSION}.tgz", f"apigw-local-linux-x64-{VERSION}.tgz"]
        self.assertEqual(published, [*programs, f"apigw-local-{VERSION}.tgz", f"viral-alerts-{VERSION}.tgz"])

    def test_what_is_published_is_left_alone(self):
        printed, published = self.publish(f"apigw-local-linux-x64@{VERSION} apigw-local@0.0.9")
        self.assertIn(f"apigw-local-linux-x64 {VERSION} is published already", printed)
        self.assertEqual(len(published), 3)

    def test_a_package_that_is_missing_ends_it(self):
        (self.dist / f"apigw-local-{VERSION}.tgz").unlink()
        printed, published = self.publish(status=1)
        self.assertIn(f"error: {self.dist}/apigw-local-{VERSION}.tgz is missing", printed)
        self.assertEqual(len(published), 2)


class Push(unittest.TestCase):
    def setUp(self):
        self.directory = work() / self.id()
        self.directory.mkdir()
        (self.directory / "docker").write_text('#!/bin/sh\necho "$@" >>"$RECORD"\n')
        (self.directory / "docker").chmod(0o755)
        for platform in ("linux-x64", "linux-arm64"):
            (self.directory / f"apigw-local-{VERSION}-{platform}.image.tar").touch()

    def push(self, status=0):
        """Runs the script. Returns what it printed, and the calls of Docker."""
        record = self.directory / "record"
        record.write_text("")
        env = {"PATH": os.pathsep.join([str(self.directory), "/usr/bin", "/bin"]), "RECORD": str(record)}
        command = [ROOT / "packaging/push.sh", self.directory, "registry.example/somebody/apigw-local", VERSION]
        printed = run(*command, cwd=self.directory, env=env, status=status)
        return printed, record.read_text().splitlines()

    def test_the_name_without_a_platform_comes_when_both_images_are_there(self):
        _, calls = self.push()
        name = f"registry.example/somebody/apigw-local:{VERSION}"
        self.assertEqual([call.split()[0] for call in calls], [*["load", "tag", "push"] * 2, "buildx"])
        self.assertEqual(calls[2], f"push --quiet {name}-linux-x64")
        self.assertTrue(calls[-1].endswith(f" {name}-linux-x64 {name}-linux-arm64"), calls[-1])

    def test_without_one_of_them_it_fails_and_names_it(self):
        (self.directory / f"apigw-local-{VERSION}-linux-arm64.image.tar").unlink()
        printed, calls = self.push(status=1)
        self.assertIn(f"apigw-local-{VERSION}-linux-arm64.image.tar is missing", printed)
        self.assertNotIn("buildx", [call.split()[0] for call in calls])


if __name__ == "__main__":
    unittest.main()

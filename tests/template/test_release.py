"""Every package has the licences and the version of the workspace, and releases unwind on panic."""

import json
import subprocess
import tomllib
import unittest

from policy import ROOT

CARGO = tomllib.loads((ROOT / "Cargo.toml").read_text())
WORKSPACE = CARGO["workspace"]["package"]
LICENSE = "MIT OR Apache-2.0"


def tracked(pattern):
    """Returns the files in Git that match a pattern."""
    listed = subprocess.run(["git", "ls-files", pattern], cwd=ROOT, check=True, capture_output=True, text=True)
    return [ROOT / line for line in listed.stdout.splitlines()]


class Release(unittest.TestCase):
    def test_every_crate_has_the_version_and_the_licence_of_the_workspace(self):
        self.assertEqual(WORKSPACE["license"], LICENSE)
        crates = [manifest for manifest in tracked("*Cargo.toml") if manifest.parent != ROOT]
        self.assertGreater(len(crates), 10)
        for manifest in crates:
            package = tomllib.loads(manifest.read_text())["package"]
            with self.subTest(manifest):
                self.assertIn(package["version"], ({"workspace": True}, WORKSPACE["version"]))
                self.assertIn(package["license"], ({"workspace": True}, LICENSE))

    def test_the_browser_client_has_the_same_version_and_licences(self):
        package = json.loads((ROOT / "client/package.json").read_text())
        self.assertEqual((package["version"], package["license"]), (WORKSPACE["version"], LICENSE))
        for text in ("LICENSE-MIT", "LICENSE-APACHE"):
            self.assertEqual((ROOT / "client" / text).read_bytes(), (ROOT / text).read_bytes())

    def test_the_changelog_describes_the_version(self):
        self.assertIn(f"## {WORKSPACE['version']} - ", (ROOT / "CHANGELOG.md").read_text())

    def test_the_release_profile_leaves_no_default_to_cargo_lambda(self):
        """cargo-lambda's default aborts on panic, and a function that aborts reports no error to Lambda."""
        profile = CARGO["profile"]["release"]
        self.assertEqual(profile["panic"], "unwind")
        self.assertLessEqual({"codegen-units", "lto", "panic", "strip"}, profile.keys())


if __name__ == "__main__":
    unittest.main()

"""Every package of the repository carries the licence and the one version, which the changelog describes."""

import json
import pathlib
import subprocess
import tomllib
import unittest

ROOT = pathlib.Path(__file__).parents[2]
WORKSPACE = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]
LICENSE = "MIT OR Apache-2.0"


def tracked(pattern):
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

    def test_the_browser_client_has_the_same_version_licence_and_texts(self):
        package = json.loads((ROOT / "client/package.json").read_text())
        self.assertEqual((package["version"], package["license"]), (WORKSPACE["version"], LICENSE))
        for text in ("LICENSE-MIT", "LICENSE-APACHE"):
            self.assertEqual((ROOT / "client" / text).read_bytes(), (ROOT / text).read_bytes())

    def test_the_changelog_describes_the_version(self):
        self.assertIn(f"## {WORKSPACE['version']} - ", (ROOT / "CHANGELOG.md").read_text())

    def test_nothing_of_the_profile_is_left_to_cargo_lambda(self):
        """It aborts on panic where nothing is said, and a function that aborts reports no error to Lambda."""
        profile = tomllib.loads((ROOT / "Cargo.toml").read_text())["profile"]["release"]
        self.assertEqual(profile["panic"], "unwind")
        self.assertLessEqual({"codegen-units", "lto", "panic", "strip"}, profile.keys())


if __name__ == "__main__":
    unittest.main()

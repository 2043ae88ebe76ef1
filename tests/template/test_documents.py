"""Documents name exactly the outputs, parameters and log messages that exist."""

import re
import unittest

import log_lines
import policy


class Documents(unittest.TestCase):
    def test_every_output_that_a_document_names_exists(self):
        templates = (policy.parsed(path) for path in ("template.yaml", "infra/domain.yaml"))
        outputs = {output for template in templates for output in template["Outputs"]}
        named = set()
        for document in [policy.ROOT / "README.md", *(policy.ROOT / "docs").glob("*.md")]:
            text = " ".join(document.read_text().split())
            named |= set(re.findall(r"outputs? `(\w+)`", text))
        # Otherwise the pattern does not find them.
        self.assertGreaterEqual(named, {"DashboardUrl", "PublisherPolicyArn", "RecoverFunctionName", "ScorerSource"})
        self.assertEqual(named - outputs, set())

    def test_the_readme_has_the_prices_of_the_document_on_cost(self):
        def cells(path, begin):
            row = re.search(rf"^\| {re.escape(begin)}.*\|$", (policy.ROOT / path).read_text(), re.MULTILINE)
            return [cell.strip() for cell in row[0].strip("|").split("|")]

        columns = cells("README.md", "| Viral Alerts")
        half_an_hour, all_day = (cells("README.md", f"price for {of}") for of in ("100,000 pages", "the same"))
        rows = {"Viral Alerts": ["Viral Alerts", "Viral Alerts, Event API"]}
        for service in ("Viral Alerts", "AppSync Events", "Ably"):
            at = columns.index(service)
            prices = [re.findall(r"\$[\d,]*\d", row[at]) for row in (half_an_hour, all_day)]
            documented = [cells("docs/cost.md", f"{name} |")[1:] for name in rows.get(service, [service])]
            self.assertEqual(prices, [list(column) for column in zip(*documented)], service)

    def test_every_parameter_is_in_the_document_with_its_default(self):
        document = (policy.ROOT / "docs/operations.md").read_text()
        rows = dict(re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| ([^|]+) \|", document, re.MULTILINE))
        defaults = {name: default for names, default in rows.items() for name in re.findall(r"\w+", names)}
        for name, parameter in policy.parsed("template.yaml")["Parameters"].items():
            with self.subTest(name):
                self.assertEqual(defaults[name].strip("`"), str(parameter["Default"]) or "none")


class LogLines(unittest.TestCase):
    def test_documents_explain_exactly_the_warnings_and_errors_that_the_code_writes(self):
        functions = policy.ROOT.glob("functions/*/src")
        for document, *folders in [
            ("docs/operations.md", policy.ROOT / "shared/src", *functions),
            ("bridge/README.md", policy.ROOT / "bridge/src"),
        ]:
            with self.subTest(document):
                written = log_lines.written(*folders)
                explained = log_lines.explained((policy.ROOT / document).read_text())
                self.assertEqual(written - explained, set(), f"{document} has no row for these messages")
                self.assertEqual(explained - written, set(), f"{document} has a row for messages that are not written")

    def test_calls_on_one_or_several_lines_are_found_outside_of_tests(self):
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
        found = list(log_lines.calls(source))
        self.assertEqual(found[:2], [("error", "it failed"), ("warn", "not taken")])
        self.assertEqual([(level, message[:10]) for level, message in found[2:]], [("error", "no message")])

    def test_a_row_can_name_several_messages(self):
        document = """
| message | level | |
|---|---|---|
| `a`, `b: c` | warn | |
| `d` | info | |
| `e` | error | `f` |
"""
        self.assertEqual(log_lines.explained(document), {("warn", "a"), ("warn", "b: c"), ("error", "e")})


if __name__ == "__main__":
    unittest.main()

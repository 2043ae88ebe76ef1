"""The arithmetic of `make proof`, what it reads, and what it writes. tests/proof rehearses it as a whole."""

import ast
import copy
import json
import re
import sys
import tempfile
import unittest
from pathlib import Path

import policy

sys.path.append(str(policy.ROOT / "infra/proof"))
import cloud
import journal
import plan
import prove
import readings
import removal
import report
import rounds

PRICES = plan.prices_of("us-east-1")
ROOMY = plan.Account(concurrency=1_000, requests_per_sec=10_000, connections_per_sec=500)

# Lines as Lambda writes them. Source: Lambda developer guide, "Lambda Telemetry API Event schema reference".
STARTED = json.dumps(
    {
        "time": "2026-11-30T08:00:00.000Z",
        "type": "platform.report",
        "record": {
            "requestId": "1",
            "metrics": {"durationMs": 12.3, "billedDurationMs": 98, "initDurationMs": 85.1, "memorySizeMB": 256},
        },
    }
)
WARM = STARTED.replace(', "initDurationMs": 85.1', "")


def delivered(region, **fields):
    return json.dumps({"level": "INFO", "fields": {"message": "alert delivered", "region": region, **fields}})


class Plans(unittest.TestCase):
    def test_an_account_with_the_usual_quotas_gets_both_rounds_for_less_than_the_budget(self):
        planned = plan.planned(ROOMY, PRICES)
        self.assertEqual([each.clients for each in planned.rounds], [10_000, 100_000])
        self.assertEqual([each.alerts for each in planned.rounds], [plan.ALERTS] * 2)
        self.assertEqual(planned.left_out, ())
        self.assertLess(planned.ceiling, plan.BUDGET_USD)
        self.assertEqual(planned.ceiling, sum(planned.lines.values()))
        self.assertIn(f"they are ${planned.ceiling:.2f} together", (policy.ROOT / "infra/proof/README.md").read_text())
        # By hand: 110,000 pushes of five alerts, a fifth more for repetitions, and the suites.
        self.assertAlmostEqual(planned.lines["messages"], (550_000 * 1.2 + 50_000) * 1e-6)

    def test_clients_and_service_together_fit_into_the_account(self):
        for executions in (10, 50, 100, 500, 1_000, 3_000):
            with self.subTest(executions):
                for each in plan.planned(plan.Account(executions, 10_000, 500), PRICES).rounds:
                    self.assertLess(each.functions, executions)
                    self.assertLessEqual(each.clients, each.functions * plan.CLIENTS_PER_FUNCTION)
                    left = executions - each.functions
                    self.assertLessEqual(each.connects_per_sec * plan.CONNECT_SECS, left)
                    self.assertLessEqual(each.connects_per_sec, 500)
                    self.assertLessEqual(each.life_secs, plan.LIFE_SECS_MAX)

    def test_what_an_account_does_not_allow_is_said_and_the_most_that_it_allows_is_measured(self):
        planned = plan.planned(plan.Account(10, 10_000, 500), PRICES)
        self.assertEqual([each.clients for each in planned.rounds], [4 * plan.CLIENTS_PER_FUNCTION])
        self.assertEqual(len(planned.left_out), 2)
        self.assertIn("10,000 clients: Lambda runs 10 functions at once here", planned.left_out[0])
        self.assertEqual(plan.planned(plan.Account(6, 10_000, 500), PRICES).rounds, ())

    def test_clients_connect_no_faster_than_somebody_wants(self):
        (each,) = plan.planned(ROOMY, PRICES, [200], 1, connects_max=10).rounds
        self.assertEqual((each.connects_per_sec, each.ramp_secs), (10, 20))

    def test_a_round_that_takes_longer_than_a_function_lives_is_left_out(self):
        planned = plan.planned(plan.Account(1_000, 10_000, 100), PRICES)
        self.assertEqual([each.clients for each in planned.rounds], [10_000])
        self.assertIn("longer than the 870 s that a function lives", planned.left_out[0])
        # In a newer region an alert takes four times as long, so there are fewer.
        slow = plan.planned(plan.Account(1_000, 2_500, 500), PRICES).rounds[1]
        self.assertTrue(0 < slow.alerts <= plan.ALERTS)

    def test_no_plan_costs_more_than_the_budget(self):
        for clients in (1, 10_000, 200_000, 400_000, 800_000):
            for alerts in (1, 5, 1_000):
                planned = plan.planned(plan.Account(3_000, 100_000, 500_000), PRICES, (clients, 100_000), alerts)
                self.assertLessEqual(planned.ceiling, plan.BUDGET_USD)
        dear = {name: price * 10 for name, price in PRICES.items()}
        self.assertIn("over $5.00", " ".join(plan.planned(ROOMY, dear).left_out))

    def test_prices_of_another_region_have_to_be_accepted(self):
        with self.assertRaisesRegex(plan.UnknownPrices, "no prices for eu-central-1.*--prices-of us-east-1"):
            plan.prices_of("eu-central-1")

    def test_bounds_of_a_connection_hold_what_a_test_has_counted(self):
        document = (policy.ROOT / "docs/cost.md").read_text()
        rows = dict(re.findall(r"^\| ([^|]+) \| [^|]+ \| ([\d.]+ \| [\d.]+) \|$", document, re.MULTILINE))
        units = [[float(cell) for cell in rows[row].split(" | ")] for row in CONNECTION]
        reads, writes = map(sum, zip(*units))
        self.assertLessEqual(reads, plan.READS_PER_CONNECTION)
        self.assertLessEqual(writes, plan.WRITES_PER_CONNECTION)
        self.assertLessEqual(float(rows["an alert to 1000"].split(" | ")[0]) / 1_000, plan.READS_PER_PUSH)

    def test_the_functions_of_the_clients_are_as_the_plan_says(self):
        properties = policy.parsed("infra/proof/clients.yaml")["Resources"]["CrowdFunction"]["Properties"]
        self.assertEqual(properties["MemorySize"], plan.CLIENT_GB * 1_024)
        self.assertGreaterEqual(properties["Timeout"], plan.LIFE_SECS_MAX)
        self.assertEqual(properties["EventInvokeConfig"]["MaximumRetryAttempts"], 0)
        source = ast.parse((policy.ROOT / "infra/proof/clients/crowd.py").read_text())
        assigned = {node.targets[0].id: node.value for node in source.body if isinstance(node, ast.Assign)}
        self.assertEqual(assigned["REPORT_SECS"].value, plan.REPORT_SECS)


CONNECTION = ("connect with a region", "disconnect, with one region")


class Readings(unittest.TestCase):
    def test_cold_starts_and_parts_of_fan_outs_are_found_in_logs(self):
        lines = {
            "/aws/lambda/p/deliver": [
                STARTED.replace("85.1", "87.2"),
                STARTED,
                WARM,
                delivered(rounds.REGION, sent=9, post_p50_ms=11.5, lag_ms=80),
                delivered("T1", sent=1),
                "not JSON",
                "[]",
            ]
        }
        found = readings.from_lines(lines)
        self.assertEqual(found["cold_starts_ms"], {"/aws/lambda/p/deliver": [85.1, 87.2]})
        self.assertEqual(found["parts"], [{"sent": 9, "post_p50_ms": 11.5, "lag_ms": 80}])

    def test_smoke_outcomes_are_found_in_what_cargo_prints(self):
        printed = "running 2 tests\ntest rooms::an_echo ... ok\ntest bad_input::x ... FAILED\n\nfailures:\n"
        self.assertEqual(cloud.smoke_outcomes(printed), {"rooms::an_echo": "ok", "bad_input::x": "FAILED"})

    def test_percentiles_are_values_that_came(self):
        for count in (1, 2, 3, 100, 997):
            values = list(range(count))
            self.assertEqual(rounds.percentile(values, 0.0), 0)
            self.assertEqual(rounds.percentile(values, 1.0), count - 1)
        self.assertEqual(rounds.percentile(list(range(1, 101)), 0.99), 99)
        self.assertEqual(rounds.percentile([1, 2, 3], 0.5), 2)

    def test_a_round_is_summed_over_its_functions(self):
        shape = plan.Round(4, 3, 10.0, 1, 10)
        said = {"connected": 2, "lost": 0, "duplicates": 1, "refused": {"429": 1}, "last": True, "socket_secs": 30}
        reports = {
            0: {**said, "latencies": {"a": [30, 10]}},
            1: {**said, "latencies": {"a": [20], "b": [99]}},
            # Ended without its last report.
            2: {"connected": 0, "lost": 1, "duplicates": 0, "refused": {}, "alerts": {}},
        }
        found = rounds.summarized(shape, [{"id": "a", "expected": 4, "publish_ms": 5}], reports)
        self.assertEqual((found["connected"], found["lost"], found["unreported"]), (4, 1, 1))
        self.assertEqual((found["refused"], found["socket_secs"]), ({"429": 2}, 60))
        (alert,) = found["alerts"]
        self.assertEqual([alert[name] for name in ("frames", "first_ms", "half_ms", "last_ms")], [3, 10, 20, 30])
        self.assertEqual(alert["per_sec"], 150)


def case(source, name, outcome, **more):
    return {"source": source, "file": "frames", "name": name, "outcome": outcome, **more}


ALERT = {"id": "a", "expected": 100_000, "frames": 100_000, "first_ms": 310, "half_ms": 5_700, "p99_ms": 10_800}
RESULTS = {
    "at": "2026-11-30T08:00:00Z",
    "region": "us-east-1",
    "endpoint": None,
    "commit": "abc1234",
    "account": {"concurrency": 1_000, "requests_per_sec": 10_000.0, "connections_per_sec": 500.0},
    "left_out": ["1 client: because."],
    "ceiling": 2.96,
    "smoke": {"rooms::an_echo": "ok"},
    "conformance": [
        case("?", "a|b", "unconfirmed", step={"expected": "1|2", "got": "3"}),
        case("D", "c", "passed"),
        case("D", "d", "failed", step={"expected": "1", "got": "2"}),
    ],
    "rounds": [
        {
            "clients": 100_000,
            "functions": 112,
            "connected": 100_000,
            "lost": 0,
            "duplicates": 2,
            "unreported": 0,
            "refused": {"429": 3},
            "socket_secs": 30_000_000,
            "secs": 400.0,
            "alerts": [{**ALERT, "last_ms": 11_500, "per_sec": 8_700, "publish_ms": 120}],
        }
    ],
    "memory": {"DeliverFunction": 1_769, "ConnectFunction": 256},
    "groups": {"DeliverFunction": "/aws/lambda/p/deliver", "ConnectFunction": "/aws/lambda/p/connect"},
    "readings": {
        "metrics": {
            "DeliverFunction Invocations": 10.0,
            "DeliverFunction Duration": 100_000.0,
            "MessageCount": 100_000.0,
            "page": 6.0,
            "queue p10": 40.0,
            "queue p90": 90.0,
        },
        "cold_starts_ms": {"/aws/lambda/p/deliver": [80.0, 85.0, 99.0]},
        "parts": [{"sent": 100_000, "post_p50_ms": 12.0, "post_p99_ms": 60.0, "throttled": 5}],
    },
}


class Reports(unittest.TestCase):
    def test_the_document_has_every_figure_and_says_what_is_missing(self):
        text = report.written(RESULTS, PRICES)
        row = "| 100,000 | 100,000 | 3 | 0 | 1 | 100,000 of 100,000 | 2 | 310 ms | 5,700 ms | 10,800 ms | 11,500 ms "
        self.assertIn(row + "| 8,700 | 87 % | 120 ms |", text)
        row = "| Deliver | 10 | not measured | not measured | 10,000 ms | not measured | 3 | 85 ms | 99 ms |"
        self.assertIn(row, text)
        self.assertIn("| gateway_message | 100,000 | $0.1000 |", text)
        self.assertIn("| `PAGE_MS` | `(10.0, 30.0)` | `(3.5, 10.4)` |", text)
        self.assertIn("| `COLD_START` | `Duration::from_millis(120)` | `Duration::from_millis(85)` |", text)
        self.assertIn("| `QUEUE_MS` | `(50.0, 150.0)` | `(40.0, 90.0)` |", text)
        self.assertIn("| ? | frames: a\\|b | unconfirmed | expected 1\\|2, got 3 |", text)
        self.assertNotIn("| D | frames: c", text)
        self.assertNotIn("rehearsal", text)

    def test_a_proof_without_any_figure_is_still_a_document(self):
        results = copy.deepcopy(RESULTS)
        results["readings"] = {"metrics": {}, "cold_starts_ms": {}, "parts": []}
        results |= {"rounds": [], "conformance": [], "smoke": {}, "endpoint": "http://127.0.0.1:1"}
        text = report.written(results, PRICES)
        self.assertIn("A rehearsal at http://127.0.0.1:1, not AWS", " ".join(text.split()))
        self.assertNotIn("None |", text)

    def test_lines_are_short_and_tables_are_whole(self):
        for line in report.written(RESULTS, PRICES).split("\n"):
            if line.startswith("|"):
                self.assertTrue(line.endswith(" |"), line)
            else:
                self.assertLessEqual(len(line), 100)

    def test_every_function_of_the_template_has_memory(self):
        memory = prove.memory_of()
        self.assertEqual(memory["DeliverFunction"], 1_769)
        self.assertEqual(len(memory), len(list((policy.ROOT / "functions").glob("*/Cargo.toml"))))


class Removals(unittest.TestCase):
    def test_only_a_proof_is_ever_removed(self):
        self.assertRegex(cloud.new_name(), removal.NAME)
        for name in ("viral-alerts", "viral-alerts-proof-", "viral-alerts-proof-abc123-clients", ""):
            with self.assertRaisesRegex(removal.Left, "not the name of a proof"):
                removal.remove(None, name, True, print)


class Journals(unittest.TestCase):
    def test_two_proofs_do_not_run_at_once_and_what_is_written_is_read(self):
        with tempfile.TemporaryDirectory() as directory:
            with journal.Journal(Path(directory) / "new") as first:
                self.assertIsNone(first.read())
                first.write({"name": "a"})
                with self.assertRaisesRegex(journal.Busy, "wait for it to end"), journal.Journal(first.directory):
                    self.fail("both run")
            with journal.Journal(first.directory) as second:
                self.assertEqual(second.read(), {"name": "a"})
                second.clear()
                self.assertIsNone(second.read())


if __name__ == "__main__":
    unittest.main()

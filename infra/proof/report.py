"""Writes docs/measured.md from the results of a proof. It contains no account number and no address."""

import math
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
MEASURED = ROOT / "docs/measured.md"
ASSUMPTIONS = ROOT / "benches/examples/scale/assumptions.rs"

NOT_MEASURED = "not measured"
# Characters of a difference that the conformance suite has found.
DIFFERENCE_MAX = 300
OUTCOMES = ("passed", "failed", "unconfirmed", "known", "skipped")
# Longest time over the shortest one, in the assumptions POST_MS and PAGE_MS.
POST_SPREAD = 30.0 / 8.0
PAGE_SPREAD = 30.0 / 10.0

HEAD = """# Measured

What `make proof` has measured in an AWS account. It is written by that command; do not edit it.
{where}

What a proof cannot show: other regions and accounts; an audience that is spread over the world,
because the clients are functions in the same AWS region; clocks of two functions that differ by
some milliseconds, which is in every latency; browsers. Rows that say "{not_measured}" had no data.
"""


def written(results, prices):
    """Returns the document."""
    parts = [HEAD.format(where=where(results), not_measured=NOT_MEASURED)]
    if results["left_out"]:
        parts.append("## What was left out\n\n" + "\n".join(f"- {line}" for line in results["left_out"]) + "\n")
    parts += [latencies(results), functions(results), dollars(results, prices), constants(results)]
    parts += [suites(results)]
    return "\n".join(wrapped(part) for part in parts)


def table(head, rows):
    """Returns a table of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell_of(value) for value in line) + " |" for line in lines) + "\n"


def cell_of(value):
    return re.sub(r"\s+", " ", str(value)).replace("|", "\\|")


def wrapped(text, columns=98):
    """Breaks the lines of paragraphs and lists. Tables, headings and code stay as they are."""
    lines, is_code = [], False
    for line in text.split("\n"):
        is_code ^= line.startswith("```")
        indent = "  " if line.startswith("- ") else ""
        while len(line) > columns and not is_code and not line.startswith("|"):
            at = line.rfind(" ", len(indent) + 1, columns)
            if at < 0:
                break
            lines.append(line[:at])
            line = indent + line[at + 1 :]
        lines.append(line)
    return "\n".join(lines)


def number(value, unit=""):
    """Returns a number as it is read, or that there is none."""
    if value is None:
        return NOT_MEASURED
    text = f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:,.3g}"
    return f"{text}{unit}"


def where(results):
    account = results["account"]
    rehearsed = f"**A rehearsal at {results['endpoint']}, not AWS.** " if results["endpoint"] else ""
    return (
        f"{rehearsed}On {results['at']} in {results['region']}, at commit {results['commit']}. The account had "
        f"{number(account['concurrency'])} executions of Lambda at once, {number(account['requests_per_sec'])} "
        f"requests of API Gateway per second, and {number(account['connections_per_sec'])} new connections per second."
    )


def latencies(results):
    head = ["clients", "connected", "refused handshakes", "lost", "alert", "frames", "repeated", "first", "half"]
    head += ["99 %", "last", "frames per second", "quota used", "answer to the publisher"]
    quota = results["account"]["requests_per_sec"]
    rows = []
    for each in results["rounds"]:
        for position, alert in enumerate(each["alerts"], 1):
            rate = alert.get("per_sec")
            rows.append(
                [
                    number(each["clients"]),
                    number(each["connected"]),
                    number(sum(each["refused"].values())),
                    number(each["lost"]),
                    position,
                    f"{number(alert['frames'])} of {number(alert['expected'])}",
                    number(each["duplicates"]) if position == 1 else "",
                    *(number(alert.get(name), " ms") for name in ("first_ms", "half_ms", "p99_ms", "last_ms")),
                    number(rate),
                    number(100 * rate / quota, " %") if rate and quota else NOT_MEASURED,
                    number(alert["publish_ms"], " ms"),
                ]
            )
    text = "## From publication to the last frame\n\nTimes count from the commit of the alert to its arrival in a "
    text += "client. The first alert of a round finds no function of the fan-out running.\n\n" + table(head, rows)
    statuses = sorted({status for each in results["rounds"] for status in each["refused"]})
    if statuses:
        text += f"\nStatuses of refused handshakes: {', '.join(statuses)} (0: no answer).\n"
    unreported = sum(each["unreported"] for each in results["rounds"])
    if unreported:
        text += f"\n{unreported} functions did not report at their end; what their clients got is missing above.\n"
    return text


def functions(results):
    figures, cold = results["readings"]["metrics"], results["readings"]["cold_starts_ms"]
    head = ["function", "invocations", "errors", "throttles", "mean", "most at once"]
    head += ["cold starts", "median", "longest"]
    rows = []
    for logical in results["memory"]:
        count = figures.get(f"{logical} Invocations")
        starts = cold.get(results["groups"].get(logical), [])
        mean = figures[f"{logical} Duration"] / count if count and f"{logical} Duration" in figures else None
        rows.append(
            [
                logical.removesuffix("Function"),
                *(number(figures.get(f"{logical} {what}")) for what in ("Invocations", "Errors", "Throttles")),
                number(mean, " ms"),
                number(figures.get(f"{logical} most at once")),
                number(len(starts)) if starts else NOT_MEASURED,
                number(median(starts), " ms"),
                number(starts[-1] if starts else None, " ms"),
            ]
        )
    parts = results["readings"]["parts"]
    total = {name: sum(part.get(name, 0) for part in parts) for name in ("sent", "gone", "throttled", "retried")}
    text = "## Functions\n\nA cold start is the time that Lambda reports as the initialisation of an environment.\n\n"
    text += table(head, rows)
    if parts:
        said = ", ".join(f"{number(count)} {name}" for name, count in total.items())
        half, most = (number(middle_of(parts, name), " ms") for name in ("post_p50_ms", "post_p99_ms"))
        text += f"\nParts of the rounds' fan-outs: {len(parts)}. Together: {said}. Half of the posts took at most "
        text += f"{half}, 99 % at most {most} (medians of the parts).\n"
    return text


def median(ordered):
    return ordered[len(ordered) // 2] if ordered else None


def middle_of(parts, name):
    return median(sorted(part[name] for part in parts if name in part))


def usage(results):
    """Returns the quantities that are billed, by the name of their price. None where a metric is missing."""
    figures = results["readings"]["metrics"]

    def sum_of(*names):
        found = [figures[name] for name in names if name in figures]
        return sum(found) if found else None

    durations = [
        figures[f"{logical} Duration"] / 1_000 * mb / 1_024
        for logical, mb in results["memory"].items()
        if f"{logical} Duration" in figures
    ]
    socket_secs = sum(each["socket_secs"] for each in results["rounds"])
    crowd_secs = sum(each["secs"] * each["functions"] for each in results["rounds"])
    tables = ("SubscriptionsTable", "AlertsTable")
    log_bytes = sum_of(*(name for name in figures if name.endswith("IncomingBytes")))
    return {
        "gateway_minute": socket_secs / 60,
        "gateway_message": figures.get("MessageCount"),
        "lambda_request": sum_of(*(f"{logical} Invocations" for logical in results["memory"])),
        "lambda_gb_second": sum(durations) + crowd_secs if durations else None,
        "dynamodb_read": sum_of(*(f"{name} ConsumedReadCapacityUnits" for name in tables)),
        "dynamodb_write": sum_of(*(f"{name} ConsumedWriteCapacityUnits" for name in tables)),
        "log_gb": log_bytes / 1e9 if log_bytes is not None else None,
    }


def dollars(results, prices):
    rows, total = [], 0.0
    for name, quantity in usage(results).items():
        usd = quantity * prices[name] if quantity is not None else None
        total += usd or 0
        rows.append([name, number(quantity), NOT_MEASURED if usd is None else f"${usd:.4f}"])
    rows.append(["together", "", f"${total:.4f}"])
    text = "## Dollars\n\nCounted use at the list prices of `infra/cost/prices.json`, with the functions that held the "
    text += f"clients. The ceiling was ${results['ceiling']:.2f}. The bill has the tag of the proof if the account "
    text += "has activated it, a day later.\n\n"
    return text + table(["price", "quantity", "cost"], rows)


def constants(results):
    """Returns the lines of assumptions.rs that the proof can replace, beside what they say now."""
    now = dict(re.findall(r"const (\w+): [^=]+= ([^;]+);", ASSUMPTIONS.read_text()))
    rows = []
    for name, value in measured_constants(results).items():
        rows.append([f"`{name}`", f"`{now[name]}`", f"`{value}`" if value else NOT_MEASURED])
    text = "## Constants for docs/scale.md\n\nOf `benches/examples/scale/assumptions.rs`. To take them over, edit that "
    text += "file, say `measured` in its comments and in the table of [scale.md](scale.md#assumptions), and make the "
    text += "tables of that page anew. `POST_MS` and `PAGE_MS` have the measured middle and the assumed spread.\n\n"
    return text + table(["constant", "assumed", "measured"], rows)


def measured_constants(results):
    """Returns new values of constants, as Rust, or None where a metric is missing."""
    readings, account = results["readings"], results["account"]
    figures, parts = readings["metrics"], readings["parts"]
    starts = sorted(readings["cold_starts_ms"].get(results["groups"].get("DeliverFunction"), []))

    def around(middle, spread):
        # The assumed times lie evenly on a logarithmic scale.
        return middle and f"({middle / math.sqrt(spread):.1f}, {middle * math.sqrt(spread):.1f})"

    def span(name):
        low, high = figures.get(f"{name} p10"), figures.get(f"{name} p90")
        return None if low is None or high is None else f"({low:.1f}, {high:.1f})"

    quota = account["requests_per_sec"]
    post = middle_of(parts, "post_p50_ms")
    return {
        "QUOTA_DEFAULT": quota and f"Quota {{ per_second: {quota:_.1f}, burst: {quota / 2:_.1f} }}",
        "POST_MS": around(post, POST_SPREAD),
        "PAGE_MS": around(figures.get("page"), PAGE_SPREAD),
        "QUEUE_MS": span("queue"),
        "COLD_START": starts and f"Duration::from_millis({median(starts):.0f})",
    }


def suites(results):
    text = "## Smoke tests\n\n"
    if results["smoke"]:
        text += table(["test", "outcome"], [[f"`{name}`", outcome] for name, outcome in results["smoke"].items()])
    else:
        text += "None ran.\n"
    text += "\n## Conformance suite\n\nWhat the service does where [emulator.md](emulator.md) says **?**, and where it "
    text += "differs from what is documented or recorded.\n\n"
    cases = results["conformance"]
    asked = [case for case in cases if case["source"] == "?" or case["outcome"] not in ("passed", "skipped")]
    rows = []
    for case in asked:
        step = case.get("step", {})
        got = f"expected {step['expected']}, got {step['got']}" if step else case.get("why", "")
        rows.append([case["source"], f"{case['file']}: {case['name']}", case["outcome"], got[:DIFFERENCE_MAX]])
    counts = {outcome: sum(case["outcome"] == outcome for case in cases) for outcome in sorted(OUTCOMES)}
    text += table(["source", "case", "outcome", "difference"], rows) if rows else "None.\n"
    text += "\nOf all cases: " + ", ".join(f"{count} {outcome}" for outcome, count in counts.items()) + ".\n"
    return text

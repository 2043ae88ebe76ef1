"""What a proof does in an account, and the most that it can cost. Pure arithmetic, without AWS."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

PRICES = Path(__file__).parents[1] / "cost/prices.json"

# Ceiling of the whole proof, in dollars. A larger plan is refused.
BUDGET_USD = 5.0

# Rounds, in clients.
CLIENTS = (10_000, 100_000)
# Alerts of a round. The first one finds no function of the fan-out running.
ALERTS = 5

# Sockets of one function: an execution environment has 1,024 file descriptors. Source: Lambda quotas.
CLIENTS_PER_FUNCTION = 900
# Memory of a function that holds clients, in GB, as in clients.yaml.
CLIENT_GB = 1.0
# Longest life of such a function, in seconds: Lambda's limit, less the time to report.
LIFE_SECS_MAX = 870
# Interval of its reports, in seconds.
REPORT_SECS = 2

# Quotas of an account that does not say its own. Source: the guides of API Gateway and Lambda.
REQUESTS_PER_SEC = 10_000
CONNECTIONS_PER_SEC = 500
# Share of the quota of new connections, and of the template's ConnectRate, that clients use.
CONNECTIONS_USED = 0.8
CONNECT_RATE = 500
# Executions that the service needs beside the clients' functions.
SERVICE_EXECUTIONS_MIN = 6
SERVICE_EXECUTIONS_SHARE = 0.1
# Bound of an execution of connect, in seconds: docs/operations.md assumes 30 ms. Half of it stays free.
CONNECT_SECS = 0.1

# Seconds of a round before the first connection, and after the last one.
START_SECS = 20
SETTLE_SECS = 20
# Connections are closed this many times as fast as they are opened: 600 deletions a second are fewer than the 1,000
# that one partition of a table takes. And a bound, in seconds, of what comes before and after.
CLOSES_PER_CONNECT = 1.5
CLOSE_SECS = 30
# Bound of the wait for the last reports, after the connections are closed.
END_SECS = 60
# Bound of an alert: this many times as long as the quota allows, and a pause.
ALERT_SLACK = 2
ALERT_SECS = 12

# Hours after which everything is certainly gone, for what is billed by the month.
HOURS = 4
HOURS_PER_MONTH = 730

# Upper bounds for one connection, or one push. Sources: the table of docs/cost.md; infra/cost/src/lib.rs.
WRITES_PER_CONNECTION = 10
READS_PER_CONNECTION = 1.5
READS_PER_PUSH = 0.04
INVOCATIONS_PER_CONNECTION = 2.2
GB_SECONDS_PER_INVOCATION = 0.25 * 0.1
GB_SECONDS_PER_PUSH = 0.001
PUSHES_PER_ALERT = 1.2
BYTES_PER_PUSH = 600
BYTES_PER_CONNECTION = 8_000
LOG_BYTES_PER_INVOCATION = 1_000
# Smoke and conformance suites together.
SUITE_MESSAGES = 50_000
SUITE_INVOCATIONS = 50_000
SUITE_MINUTES = 2_000
# Custom metrics of the template, and metrics that its alarms watch, as in infra/cost/src/lib.rs.
METRICS = 10
ALARMS = 40


@dataclass(frozen=True)
class Account:
    """Quotas of an account. None where it does not say."""

    concurrency: int | None = None
    requests_per_sec: float | None = None
    connections_per_sec: float | None = None

    @property
    def requests(self):
        return self.requests_per_sec or REQUESTS_PER_SEC


@dataclass(frozen=True)
class Round:
    """Clients that connect, get alerts and leave."""

    clients: int
    functions: int
    connects_per_sec: float
    alerts: int
    # Bound of one alert, publication to last frame, in seconds.
    alert_secs: int

    @property
    def ramp_secs(self):
        return math.ceil(self.clients / self.connects_per_sec)

    @property
    def close_secs(self):
        return math.ceil(self.ramp_secs / CLOSES_PER_CONNECT) + CLOSE_SECS

    @property
    def life_secs(self):
        """Seconds after which the functions end by themselves."""
        return START_SECS + self.ramp_secs + SETTLE_SECS + self.alerts * self.alert_secs + self.close_secs


@dataclass(frozen=True)
class Plan:
    rounds: tuple
    # Sentences: what will not be measured, and why.
    left_out: tuple
    # Dollars of each line, by what they are for.
    lines: dict = field(default_factory=dict)

    @property
    def ceiling(self):
        return sum(self.lines.values())


class UnknownPrices(Exception):
    """There are no prices for the region. The message says what to do."""


def prices_of(region, text=None):
    """Returns the dollars of one unit of everything that is billed in a region."""
    regions = json.loads(text or PRICES.read_text())["regions"]
    if region not in regions:
        known = ", ".join(regions)
        raise UnknownPrices(
            f"infra/cost/prices.json has no prices for {region}, only for {known}: add them, or accept the ceiling "
            f"of another region with --prices-of {known.split(', ')[0]}"
        )
    return {name: price["usd"] / price["per"] for name, price in regions[region].items()}


def planned(account, prices, wanted=CLIENTS, alerts=ALERTS, connects_max=math.inf):
    """Returns the plan for an account: the rounds that its quotas and the budget allow.

    `connects_max` is a bound of new connections per second, below that of the quotas.
    """
    rounds, left_out = [], []
    executions = account.concurrency
    if executions is None:
        left_out.append("The account does not say how many functions it can run at once: 1,000 are assumed.")
        executions = 1_000
    for_service = max(SERVICE_EXECUTIONS_MIN, math.ceil(executions * SERVICE_EXECUTIONS_SHARE))
    functions_max = max(executions - for_service, 0)
    quota = account.connections_per_sec or CONNECTIONS_PER_SEC
    connects = min(CONNECTIONS_USED * min(quota, CONNECT_RATE), for_service / CONNECT_SECS, connects_max)
    for clients in sorted(wanted):
        most = functions_max * CLIENTS_PER_FUNCTION
        if clients > most:
            left_out.append(
                f"{clients:,} clients: Lambda runs {executions:,} functions at once here, of which the clients may use "
                f"{functions_max:,}, with {CLIENTS_PER_FUNCTION} sockets each."
            )
            # The most that fits is better than nothing.
            if most and not any(each.clients >= most for each in rounds):
                clients = most
            else:
                continue
        functions = math.ceil(clients / CLIENTS_PER_FUNCTION)
        alert_secs = math.ceil(ALERT_SLACK * clients / account.requests + ALERT_SECS)
        rest = LIFE_SECS_MAX - Round(clients, functions, connects, 0, alert_secs).life_secs
        if rest < alert_secs:
            left_out.append(
                f"{clients:,} clients: to connect them at {connects:.0f} a second and to send them an alert takes "
                f"longer than the {LIFE_SECS_MAX} s that a function lives."
            )
            continue
        candidate = Round(clients, functions, connects, min(alerts, rest // alert_secs), alert_secs)
        ceiling = sum(cost_lines([*rounds, candidate], prices).values())
        if ceiling > BUDGET_USD:
            left_out.append(f"{clients:,} clients: the proof could cost ${ceiling:.2f}, over ${BUDGET_USD:.2f}.")
            continue
        rounds.append(candidate)
    return Plan(tuple(rounds), tuple(left_out), cost_lines(rounds, prices))


def cost_lines(rounds, prices):
    """Returns the most that rounds, suites and a stack of some hours can cost, by what it is for."""
    clients = sum(each.clients for each in rounds)
    pushes = sum(each.clients * each.alerts for each in rounds) * PUSHES_PER_ALERT
    minutes = sum(each.clients * each.life_secs / 60 for each in rounds)
    function_secs = sum(each.functions * each.life_secs for each in rounds)
    reports = function_secs / REPORT_SECS
    polls = sum(each.close_secs + END_SECS for each in rounds)
    invocations = clients * INVOCATIONS_PER_CONNECTION + SUITE_INVOCATIONS
    gb_seconds = invocations * GB_SECONDS_PER_INVOCATION + pushes * GB_SECONDS_PER_PUSH
    # A report is read by the proof and at the end has every latency of its function.
    final_units = sum(each.functions * (8 + CLIENTS_PER_FUNCTION * each.alerts * 6 / 1_000) for each in rounds)
    final_reads = polls * max((each.functions * (2 + each.alerts * 2) for each in rounds), default=0)
    writes = clients * WRITES_PER_CONNECTION + SUITE_INVOCATIONS + reports + final_units
    reads = clients * READS_PER_CONNECTION + pushes * READS_PER_PUSH + SUITE_INVOCATIONS + reports + final_reads
    gigabytes = (pushes * BYTES_PER_PUSH + clients * BYTES_PER_CONNECTION) / 1e9
    months = HOURS / HOURS_PER_MONTH
    return {
        "connections": (minutes + SUITE_MINUTES) * prices["gateway_minute"],
        "messages": (pushes + SUITE_MESSAGES) * prices["gateway_message"],
        "functions of the service": invocations * prices["lambda_request"] + gb_seconds * prices["lambda_gb_second"],
        "functions that hold clients": function_secs * CLIENT_GB * prices["lambda_gb_second"],
        "tables": writes * prices["dynamodb_write"] + reads * prices["dynamodb_read"],
        "logs": invocations * LOG_BYTES_PER_INVOCATION / 1e9 * prices["log_gb"],
        "traffic": gigabytes * prices["transfer_gb"],
        "alarms and metrics": months * (METRICS * prices["metric"] + ALARMS * prices["alarm"]),
    }


def described(plan):
    """Returns the plan as text, for the person who is asked."""
    text = ["It will connect"]
    for each in plan.rounds:
        text.append(
            f"  {each.clients:>7,} clients from {each.functions} functions, {each.connects_per_sec:.0f} a second, send "
            f"them {each.alerts} alerts, and end after {each.life_secs} s at most"
        )
    if not plan.rounds:
        text.append("  no clients")
    text += [f"Not measured: {each}" for each in plan.left_out]
    text.append("The most that it can cost, at list prices:")
    text += [f"  ${usd:6.2f}  {what}" for what, usd in plan.lines.items()]
    text.append(f"  ${plan.ceiling:6.2f}  together, of ${BUDGET_USD:.2f} allowed")
    return "\n".join(text)


if __name__ == "__main__":
    print(described(planned(Account(1_000, 10_000, 500), prices_of("us-east-1"))))

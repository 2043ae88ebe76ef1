"""Measures the service in an AWS account for less than $5, and takes everything away: see README.md.

    python infra/proof/prove.py run [--clients N…] [--yes]
    python infra/proof/prove.py clean [NAME…]
"""

import argparse
import math
import os
import signal
import subprocess
import sys
import time
import traceback
from dataclasses import asdict
from pathlib import Path

import boto3
import yaml
from botocore.exceptions import BotoCoreError, ClientError

import account
import plan
import readings
import removal
import report
import rounds
from cloud import ROOT, AnyTag, Cloud, Failed, new_name, now
from journal import Busy, Journal

# CloudWatch has metrics some minutes late.
METRICS_SECS = 240
OK, FAILED, LEFT = 0, 1, 3


class Interrupted(BaseException):
    """The proof was told to end by a signal."""

    def __init__(self, number):
        super().__init__(signal.Signals(number).name)


class Signals:
    """The first signal ends the proof. Then it takes everything away, and only a third one keeps it from that."""

    def __init__(self):
        self.count = 0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self.arrived)

    def protect(self):
        """Lets the next signal count as the second one."""
        self.count = max(self.count, 1)

    def arrived(self, number, frame):
        self.count += 1
        if self.count == 2:
            say("everything is being taken away; once more to leave the rest to `make proof-clean`")
        else:
            raise Interrupted(number)


def say(text):
    print(text, flush=True)


class Proof:
    """One proof, step by step. Each step is in the journal before it begins."""

    def __init__(self, cloud, options, prices, quotas, planned):
        self.cloud, self.options, self.prices, self.quotas, self.planned = cloud, options, prices, quotas, planned
        self.state = None
        # What report.py writes.
        self.results = {
            "at": now(),
            "region": cloud.session.region_name,
            "endpoint": os.environ.get("AWS_ENDPOINT_URL"),
            "commit": commit(),
            "account": asdict(quotas),
            "left_out": list(planned.left_out),
            "ceiling": planned.ceiling,
            "smoke": {},
            "conformance": [],
            "rounds": [],
            "memory": memory_of(),
            "groups": {},
            "readings": {"metrics": {}, "cold_starts_ms": {}, "parts": []},
        }

    def step(self, name):
        self.state["step"] = name
        self.cloud.journal.write(self.state)
        say(f"== {name}")

    def run(self):
        """Performs every step except the removal."""
        cloud, session, results = self.cloud, self.cloud.session, self.results
        sam_status = removal.stack_status(session.client("cloudformation"), removal.SAM_STACK)
        self.state = {
            "name": cloud.name,
            "region": session.region_name,
            "account": session.client("sts").get_caller_identity()["Account"],
            "sam_existed": sam_status is not None,
            "began": now(),
        }
        self.step("deploy")
        since = time.time()
        cloud.deploy(self.quotas.requests)
        addresses = cloud.addresses()
        self.step("smoke")
        if self.options.smoke:
            results["smoke"] = cloud.smoke(addresses)
        self.step("conformance")
        if self.options.conformance:
            results["conformance"] = cloud.conformance(self.options.slow)
        self.step("clients")
        board = rounds.Board(session, cloud.deploy_clients())
        for each in self.planned.rounds:
            self.step(f"round of {each.clients}")
            began = time.time()
            figures = rounds.performed(cloud, board, addresses, each)
            results["rounds"].append(figures | {"secs": time.time() - began})
        self.step("metrics")
        if self.planned.rounds:
            time.sleep(self.options.metrics_secs)
        resources = cloud.resources(cloud.name)
        # Parameters leave some functions out.
        memory = {name: mb for name, mb in results["memory"].items() if name in resources}
        groups = {name: resources.get(name.removesuffix("Function") + "Logs") for name in memory}
        found = readings.read(session, resources, memory, since, calm_of(results["rounds"]), say)
        results |= {"memory": memory, "groups": groups, "readings": found}
        self.step("report")
        self.write(self.options.report)
        self.step("delete")
        cloud.delete()

    def write(self, path):
        path.write_text(report.written(self.results, self.prices))
        say(f"wrote {path}")

    def write_what_there_is(self, why):
        """Writes what has been measured before the proof ended early, beside the output of its commands."""
        if self.results["smoke"] or self.results["conformance"] or self.results["rounds"]:
            self.results["left_out"].append(f"Everything after the step `{self.state['step']}`: {why}.")
            self.write(self.cloud.log.with_suffix(".md"))


def calm_of(performed):
    """Returns when the largest round only published: from and until, or None without a round."""
    largest = max(performed, key=lambda each: each["clients"], default=None)
    return largest and (largest["calm_from"], largest["calm_until"])


def memory_of():
    """Returns the MB of every function of the template."""
    template = yaml.load((ROOT / "template.yaml").read_text(), Loader=AnyTag)
    default = template["Globals"]["Function"]["MemorySize"]
    functions = ((name, each) for name, each in template["Resources"].items() if each["Type"].endswith("::Function"))
    return {name: each["Properties"].get("MemorySize", default) for name, each in functions}


def commit():
    ran = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return ran.stdout.strip() or "unknown"


def cleaned(session, journal, names, signals):
    """Takes away what these proofs have left. Returns whether nothing is left."""
    signals.protect()
    state = journal.read() or {}
    complete = True
    for name in names:
        say(f"== taking away {name}")
        try:
            # Of a proof that only its tag tells of, nobody knows whether sam's bucket was there before.
            sam_existed = state.get("sam_existed", True) if state.get("name") == name else True
            removal.remove(session, name, sam_existed, say)
        except (removal.Left, BotoCoreError, ClientError) as error:
            say(f"not everything is gone: {error}\nrun `make proof-clean` to try again")
            complete = False
    if complete:
        journal.clear()
        say("nothing is left")
    return complete


def left_by(session, journal):
    """Returns the name of the proof of this checkout that has left something, if any, in a list."""
    state = journal.read()
    if state:
        here = session.client("sts").get_caller_identity()["Account"], session.region_name
        if here != (state["account"], state["region"]):
            raise Failed(
                f"{state['name']} has left something in account {state['account']}, region {state['region']}: "
                "set AWS_PROFILE and AWS_REGION to them, and run `make proof-clean`"
            )
    return [state["name"]] if state else []


def others(session, names):
    """Returns the names of further proofs in the account, which may run elsewhere."""
    found = removal.proofs(session.client("cloudformation"), say) - {*names}
    for name in sorted(found):
        say(f"another proof is in this account: if nobody runs it, `make proof-clean PROOF={name}` takes it away")
    return found


def asked(text):
    """Asks a person, who has to say yes."""
    if not sys.stdin.isatty():
        raise Failed("nobody is there to ask: run it in a terminal, or with --yes")
    return input(text).strip().lower() in ("y", "yes")


def run(session, journal, options, cloud_of, signals):
    if left := left_by(session, journal):
        say(f"an earlier proof has left something: {', '.join(left)}")
        if not cleaned(session, journal, left, signals):
            return LEFT
        signals.count = 0
    if others(session, []):
        # They would disturb each other.
        return FAILED
    prices = plan.prices_of(options.prices_of or session.region_name)
    quotas = account.looked_up(session, say)
    planned = plan.planned(quotas, prices, options.clients, options.alerts, options.connects_per_sec)
    say(plan.described(planned))
    if not options.yes and not asked("Go on? [y/N] "):
        say("nothing was created")
        return FAILED
    cloud = cloud_of(session, new_name(), journal, say)
    proof = Proof(cloud, options, prices, quotas, planned)
    outcome = OK
    try:
        proof.run()
    except Interrupted as interrupted:
        say(f"ended by {interrupted}")
        proof.write_what_there_is(f"it was ended by {interrupted}")
        outcome = FAILED
    except Exception as error:
        # Also after a mistake in this program: what it has created costs money.
        say("".join(traceback.format_exception_only(error)) + f"the output of all commands is in {cloud.log}")
        with open(cloud.log, "a") as log:
            traceback.print_exception(error, file=log)
        proof.write_what_there_is("it failed")
        outcome = FAILED
    return outcome if cleaned(session, journal, [cloud.name], signals) else LEFT


def clients(text):
    count = int(text)
    if not 1 <= count <= 1_000_000:
        raise argparse.ArgumentTypeError(f"invalid number of clients `{text}`: expected 1 to 1,000,000")
    return count


def rate(text):
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"invalid rate `{text}`: expected more than 0")
    return value


def proof_name(text):
    if not removal.NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"invalid name of a proof `{text}`: expected viral-alerts-proof-…")
    return text


def parser():
    parser = argparse.ArgumentParser(prog="make proof", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    clean = commands.add_parser("clean", help="take away what proofs have left")
    clean.add_argument("names", type=proof_name, nargs="*", help="proofs of other checkouts, too")
    run = commands.add_parser("run", help="deploy, measure, take away")
    run.add_argument("--clients", type=clients, nargs="+", default=plan.CLIENTS, help="rounds, in clients")
    run.add_argument("--alerts", type=int, default=plan.ALERTS, help="alerts of a round")
    run.add_argument("--connects-per-sec", type=rate, default=math.inf, help="connect more slowly than quotas allow")
    run.add_argument("--yes", action="store_true", help="do not ask")
    run.add_argument("--prices-of", metavar="REGION", help="take the prices of another AWS region for the ceiling")
    run.add_argument("--no-smoke", dest="smoke", action="store_false", help="leave out the smoke tests")
    run.add_argument("--no-conformance", dest="conformance", action="store_false", help="leave out the suite")
    run.add_argument("--no-slow", dest="slow", action="store_false", help="leave out cases that take ten minutes")
    run.add_argument("--metrics-secs", type=int, default=METRICS_SECS, help="how long to wait for CloudWatch")
    run.add_argument("--report", type=Path, default=report.MEASURED, help="the document that is written")
    return parser


def main(arguments, directory=ROOT / ".proof", cloud_of=Cloud):
    options = parser().parse_args(arguments)
    signals = Signals()
    session = boto3.Session(region_name=os.environ.get("AWS_REGION"))
    try:
        with Journal(directory) as journal:
            if options.command == "run":
                return run(session, journal, options, cloud_of, signals)
            names = sorted({*left_by(session, journal), *options.names})
            others(session, names)
            return OK if cleaned(session, journal, names, signals) else LEFT
    except Interrupted as interrupted:
        say(f"ended by {interrupted}: run `make proof-clean` if a proof had begun")
        return FAILED
    except (Busy, Failed, plan.UnknownPrices, BotoCoreError, ClientError) as error:
        say(f"error: {error}")
        return FAILED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Runs the suite against emulators, measures them, and makes the table of docs/emulator.md: see README.md."""

import argparse
import concurrent.futures
import datetime
import json
import os
import pathlib
import platform
import re
import signal
import statistics
import subprocess
import sys
import textwrap

from apigw_local import ApigwLocal
from architect import Architect
from emulator import PLACE, ROOT, NotReady
from ministack import Ministack
from serverless_offline import ServerlessOffline
from suite import Suite, all_cases, why_unsupported

DOCUMENT = ROOT / "docs/emulator.md"
MARKDOWN_COLUMNS_MAX = 100
MARKERS = ("<!-- table of emulators: begin -->", "<!-- table of emulators: end -->")
PARTS = ["cases", "slow", "startup", "load"]
SOCKETS = 1_000
STARTS = 5
# Each emulator is measured in turn, so that a busy moment of the machine does not hit only one.
LOAD_ROUNDS = 3
# An emulator whose round takes longer is measured once, in seconds.
LONG_ROUND_SECS = 120


def say(text):
    print(f"{datetime.datetime.now():%H:%M:%S} {text}", file=sys.stderr, flush=True)


def started(emulator, parameters=()):
    """Starts an emulator and waits for its first handshake. None if it cannot express the parameters."""
    running = emulator.start(dict(parameters))
    if running:
        try:
            # Other deployments may refuse this one, unsigned or over a throttle.
            running.wait_for_handshake(b"" if parameters else b"101")
        except NotReady:
            running.stop()
            raise
    return running


def run_cases(suite, emulator, cases, result):
    """Runs cases, each deployment in a fresh start."""
    outcomes = result.setdefault("outcomes", {})
    for parameters in sorted({case.parameters for case in cases}):
        of_deployment = [case for case in cases if case.parameters == parameters]
        if all(why_unsupported(emulator, case) for case in of_deployment):
            continue
        running = started(emulator, parameters)
        if not running:
            continue
        try:
            idle = running.program.resident_mb()
            for key, outcome in suite.cases(emulator, running, parameters, of_deployment).items():
                outcomes["/".join(key)] = outcome
            if not parameters and len(of_deployment) > 1:
                result["idle_mb"], result["used_mb"] = idle, running.program.resident_mb()
            if running.program.process.poll() is not None:
                raise NotReady(f"{emulator.name} ended during the cases, see {running.program.log}")
        finally:
            running.stop()


def measure_startups(emulators, results):
    """Starts each emulator several times, in turn."""
    for emulator in emulators:
        results[emulator.name]["startup_secs"] = []
    for number in range(STARTS):
        for emulator in emulators:
            running = started(emulator)
            running.stop()
            results[emulator.name]["startup_secs"].append(running.startup_secs)
            say(f"{emulator.name}: start {number + 1} took {running.startup_secs:.2f} s")


def measure_load(suite, emulators, results, sockets):
    """Connects clients to each emulator and alerts them, in turn."""
    slow = set()
    for emulator in emulators:
        results[emulator.name]["load"] = []
    for number in range(LOAD_ROUNDS):
        for emulator in emulators:
            if emulator.name in slow:
                continue
            begun = datetime.datetime.now()
            running = started(emulator)
            try:
                load = suite.load(running, sockets)
            except NotReady as error:
                # Those that drop alerts or connections have no figures.
                say(f"{emulator.name}: {error}")
                results[emulator.name]["load_error"] = str(error)
                slow.add(emulator.name)
                continue
            finally:
                running.stop()
            results[emulator.name]["load"].append(load)
            alert = statistics.median(load["alert_millis"])
            say(f"{emulator.name}: {load['connects_per_second']:.0f} connects/s, alert {alert:.0f} ms")
            if (datetime.datetime.now() - begun).total_seconds() > LONG_ROUND_SECS:
                slow.add(emulator.name)


def count(emulator, cases, result):
    """How many cases were right, wrong, different where AWS is unknown, and not tried."""
    counts = dict.fromkeys(("passed", "failed", "unconfirmed", "unsupported"), 0)
    for case in cases:
        outcome = None if why_unsupported(emulator, case) else result["outcomes"].get("/".join(case.key))
        counts[outcome["outcome"] if outcome else "unsupported"] += 1
    return counts


def figure(value):
    """A figure as far as it means something."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def figures(result):
    """Medians of start-up in seconds, connects a second and an alert in milliseconds. None where there are none."""
    loads = result["load"]
    connects, alerts = None, None
    if loads:
        connects = statistics.median(load["connects_per_second"] for load in loads)
        alerts = statistics.median(millis for load in loads for millis in load["alert_millis"])
    return statistics.median(result["startup_secs"]), connects, alerts


def rows(emulators, cases, results):
    """The table, whose ratios are to the first emulator."""
    yield "| | right | wrong | AWS unknown | not supported | start-up | memory | connects/s | alert to 1,000 |"
    yield "|---|---|---|---|---|---|---|---|---|"
    first = figures(results[emulators[0].name])
    for emulator in emulators:
        result = results[emulator.name]
        name = f"[{emulator.name}]({emulator.home})" if emulator.home else emulator.name
        cells = [f"{name} {result['version']}", *map(str, count(emulator, cases, result).values())]
        medians = []
        for value, base, unit in zip(figures(result), first, (" s", "", " ms")):
            ratio = f" ({figure(value / base)}×)" if value and emulator is not emulators[0] else ""
            medians.append(f"{figure(value)}{unit}{ratio}" if value else "none")
        memory = f"{figure(result['idle_mb'])} to {figure(result['used_mb'])} MB"
        yield f"| {' | '.join([*cells, medians[0], memory, *medians[1:]])} |"


def conditions(emulators, cases, results):
    """When and where the table was made."""
    runs = [results[emulator.name]["runs"][part] for emulator in emulators for part in PARTS]
    dates = sorted({run["date"] for run in runs})
    measured = [results[emulator.name]["runs"][part] for emulator in emulators for part in ("startup", "load")]
    loads = [run["load"] for run in measured]
    node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    text = (
        f"{len(cases)} cases; {' and '.join(dates)}; Linux with {os.cpu_count()} cores, Python "
        f"{platform.python_version()}, Node.js {node.removeprefix('v')}; load average before the measurements "
        f"{min(loads):.1f} to {max(loads):.1f}."
    )
    if not all(run["optimized"] for run in measured):
        text += " apigw-local and the measuring client were not optimized by the compiler."
    return textwrap.fill(text, MARKDOWN_COLUMNS_MAX)


def write(table):
    text = DOCUMENT.read_text()
    begin, end = MARKERS
    pattern = re.compile(f"{re.escape(begin)}.*{re.escape(end)}", re.DOTALL)
    if not pattern.search(text):
        sys.exit(f"{DOCUMENT} lacks the lines {begin} and {end}: add them where the table belongs")
    DOCUMENT.write_text(pattern.sub(lambda _: f"{begin}\n\n{table}\n\n{end}", text))


def build():
    """Builds the emulator and the suite as the others are built: optimized."""
    command = ["cargo", "build", "--profile", "fast", "--locked", "--package", "apigw-local", "--package"]
    subprocess.run([*command, "conformance", "--bins"], cwd=ROOT, check=True)
    return ROOT / "target/fast"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", nargs="*", help="emulators to run, by default all")
    parser.add_argument("--part", action="append", choices=PARTS, help="what to run, by default all; may be repeated")
    parser.add_argument("--kept", action="store_true", help="run nothing: make the table of outcomes that are kept")
    parser.add_argument("--programs", type=pathlib.Path, help="directory with apigw-local and conformance, if built")
    parser.add_argument("--results", type=pathlib.Path, default=PLACE / "results.json", help="file of all outcomes")
    parser.add_argument("--sockets", type=int, default=SOCKETS, help="clients under load")
    parser.add_argument("--write", action="store_true", help="write the table into docs/emulator.md")
    return parser.parse_args()


def main():
    given = arguments()
    # Ends what was started, as after Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    programs = given.programs.resolve() if given.programs else ROOT / "target/fast" if given.kept else build()
    suite, cases = Suite(programs), all_cases()
    emulators = [ApigwLocal(programs), ServerlessOffline(), Ministack(), Architect()]
    chosen = [each for each in emulators if not given.name or each.name in given.name]
    if unknown := set(given.name) - {each.name for each in emulators}:
        sys.exit(f"unknown emulators {sorted(unknown)}: expected {[each.name for each in emulators]}")
    for emulator in chosen:
        for text in emulator.unsupported:
            if not any(text in case.name or text in case.file for case in cases):
                sys.exit(f"{emulator.name} does not support {text!r}, which is in the name of no case: correct it")
    results = json.loads(given.results.read_text()) if given.results.exists() else {}
    for emulator in chosen:
        emulator.install()
        results.setdefault(emulator.name, {"runs": {}})["version"] = emulator.version
    fast = [case for case in cases if not case.slow]
    for part in [] if given.kept else given.part or PARTS:
        optimized = programs.name in ("fast", "release")
        run = {"date": f"{datetime.date.today():%-d %B %Y}", "load": os.getloadavg()[0], "optimized": optimized}
        match part:
            case "cases":
                for emulator in chosen:
                    run_cases(suite, emulator, fast, results[emulator.name])
                    say(f"{emulator.name}: {count(emulator, fast, results[emulator.name])}")
            case "slow":
                # They wait for ten minutes, so all emulators run them at once.
                slow = [case for case in cases if case.slow]
                with concurrent.futures.ThreadPoolExecutor(len(chosen)) as pool:
                    list(pool.map(lambda emulator: run_cases(suite, emulator, slow, results[emulator.name]), chosen))
            case "startup":
                measure_startups(chosen, results)
            case "load":
                measure_load(suite, chosen, results, given.sockets)
        for emulator in chosen:
            results[emulator.name]["runs"][part] = run
        given.results.write_text(json.dumps(results, indent=1))
    complete = [each for each in emulators if results.get(each.name, {}).get("runs", {}).keys() >= set(PARTS)]
    if emulators[0] not in complete or (given.write and complete != emulators):
        sys.exit(f"no table: not every part has run for {[each.name for each in emulators if each not in complete]}")
    table = "\n".join(["\n".join(rows(complete, cases, results)), "", conditions(complete, cases, results)])
    print(table)
    if given.write:
        write(table)


if __name__ == "__main__":
    main()

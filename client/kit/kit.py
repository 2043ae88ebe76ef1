#!/usr/bin/env python3
"""Runs the conformance kit with a client: `kit.py [OPTIONS] -- COMMAND…`, where COMMAND starts its adapter.

Needs Python 3.11 and the packages `websockets` and `PyYAML`.
"""

import argparse
import asyncio
import pathlib
import re
import shutil
import sys
import time

import yaml
from application import NotStarted, Wrong
from case import Case, Run

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent

# Clients that start at the same time.
STARTING_MAX = 4

NEEDS = ("history", "keepalive", "state", "token")


class Loader(yaml.SafeLoader):
    """YAML with `!repeat [PART, TIMES]`, `!regions COUNT` for so many names, and `!told [COUNT, TEXT]` for each."""


def repeated(loader, node):
    part, times = loader.construct_sequence(node, deep=True)
    return part * times


def regions(loader, node):
    return names(int(loader.construct_scalar(node)))


def told(loader, node):
    count, text = loader.construct_sequence(node)
    return dict.fromkeys(names(count), text)


def names(count):
    return [f"R-{number}" for number in range(count)]


Loader.add_constructor("!repeat", repeated)
Loader.add_constructor("!regions", regions)
Loader.add_constructor("!told", told)


def cases():
    """The cases of cases.yaml."""
    return [Case(**fields) for fields in yaml.load((HERE / "cases.yaml").read_text(), Loader)]


def section(where):
    """The text of a section of a document, without its line breaks."""
    path, _, anchor = where.partition("#")
    parts = re.split(r"^#+ (.+)$", (ROOT / path).read_text(), flags=re.MULTILINE)
    for heading, text in zip(parts[1::2], parts[2::2]):
        if re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") == anchor:
            return " ".join(text.split())
    raise ValueError(f"{path} has no section {anchor}")


async def check(case, command, starting, events=False):
    """Runs a case. Returns what the client did wrong, or None."""
    try:
        await Run(case, command, events).perform(starting)
    except Wrong as wrong:
        return str(wrong)
    return None


async def check_all(chosen, command, starting, events=False):
    """Runs cases side by side. Returns what went wrong in each, by name."""
    ordered = sorted(chosen, key=lambda case: not case.slow)
    found = await asyncio.gather(*(check(case, command, starting, events) for case in ordered))
    return {case.name: wrong for case, wrong in zip(ordered, found) if wrong}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", metavar="TEXT", help="only cases with this in their names")
    parser.add_argument("--without", action="append", default=[], choices=NEEDS, help="what the client cannot do")
    parser.add_argument("--events", action="store_true", help="over the Event API: the cases that apply to it")
    parser.add_argument("--list", action="store_true", help="prints the cases with their promises")
    parser.add_argument("command", nargs="*", help="starts the adapter")
    arguments = parser.parse_args()
    chosen = [
        case
        for case in cases()
        if not set(case.needs) & set(arguments.without)
        and any(text in case.name for text in arguments.case or [""])
        and not (arguments.events and case.gateway)
    ]
    if arguments.list:
        for case in chosen:
            print(f"{case.name}\n    {case.where}: {case.promise}")
        return
    if not arguments.command or not chosen:
        parser.error("no COMMAND of an adapter" if chosen else f"no case has {arguments.case} in its name")
    if not shutil.which(arguments.command[0]):
        parser.error(f"no program {arguments.command[0]} to start the adapter with")
    began, starting = time.monotonic(), asyncio.Semaphore(STARTING_MAX)
    try:
        wrong = asyncio.run(check_all(chosen, arguments.command, starting, arguments.events))
    except NotStarted as error:
        parser.error(str(error))
    for case in chosen:
        if case.name in wrong:
            told = wrong[case.name].replace("\n", "\n    ")
            print(f"FAILED: {case.name}\n    {case.where}: {case.promise}\n    {told}\n")
    print(f"{len(chosen) - len(wrong)} of {len(chosen)} cases passed in {time.monotonic() - began:.0f} s")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()

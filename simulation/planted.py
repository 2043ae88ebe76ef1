#!/usr/bin/env python3
"""Plants known bugs in a copy of the service, and measures how soon the simulation finds each of them.

Each patch in `planted/` is a bug: a header says what is wrong (`What:`), which fault it stands for (`Was:`) and which
guarantees may find it (`Expected:`, numbers with commas between them). A bug counts as found if the median of five
searches, each with seeds of its own, needs at most 300 of them, and if only expected guarantees find it. Patches that
do not apply or do not build are errors. Standard library only, and Git and Cargo.
"""

import argparse
import collections
import fcntl
import json
import math
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PATCHES = ROOT / "simulation" / "planted"
CORPUS = ROOT / "simulation" / "corpus"

# The copy keeps its place and the times of files that do not change, so Cargo compiles only what a patch touches.
COPY = pathlib.Path("target", "planted", "copy")
# Of its own: to Cargo the copy and the working tree are the same packages, and it would take one for the other.
BUILD = ROOT / "target" / "planted" / "build"
PROFILE = "worlds"

# A bug is found in few worlds, so that compiling takes longer than they do.
QUICKLY = ("--config", f"profile.{PROFILE}.package.simulation.opt-level=1")

SEEDS = 300
SEARCHES = 5

# Changed lines of a patch. A larger bug would rather be another program.
LINES_MAX = 14

# What a patch may change: code that is deployed.
PRODUCTION = re.compile(r"(shared|functions/\w+)/src/(?!.*(\.\./|tests\.rs$))")

# A search of 300 seeds takes seconds. One that takes this long hangs.
SEARCH_SECS_MAX = 30 * 60

# Exit codes of `simulate`.
HELD, VIOLATED = 0, 1

Patch = collections.namedtuple("Patch", "name path expected")
Found = collections.namedtuple("Found", "worlds guarantee sentence seed")


class Problem(Exception):
    """Why a bug does not count as found."""


def read(path):
    """The patch in a file, if it has the form that it has to have."""
    text = path.read_text(encoding="utf-8")
    header, _, diff = text.partition("\ndiff --git ")
    fields = dict(re.findall(r"^(\w+): (\S.*)$", header, re.M))
    if list(fields) != ["What", "Was", "Expected"]:
        raise Problem("expected the lines `What: …`, `Was: …` and `Expected: …` before the diff")
    if not re.fullmatch(r"([1-9]|1[0-2])(, ([1-9]|1[0-2]))*", fields["Expected"]):
        raise Problem(f"invalid guarantees `{fields['Expected']}`: expected numbers from 1 to 12, such as `2, 4`")
    changed = [file for file in re.findall(r"^(?:---|\+\+\+) [ab]/(\S+)$", diff, re.M) if not PRODUCTION.match(file)]
    if changed:
        raise Problem(f"{changed[0]} is not code that is deployed")
    lines = len(re.findall(r"^(?:\+(?!\+\+ )|-(?!-- ))", diff, re.M))
    if not 1 <= lines <= LINES_MAX:
        raise Problem(f"{lines} changed lines: expected 1 to {LINES_MAX}")
    return Patch(path.stem, path, {int(number) for number in fields["Expected"].split(", ")})


def run(*command, **options):
    """The outcome of a command, with its outputs as texts."""
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, **options)


def apply(patch, *options):
    """Applies a patch to the working tree or, with `--directory`, to the copy."""
    applied = run("git", "apply", *options, str(patch.path), cwd=ROOT)
    if applied.returncode != 0:
        raise Problem(f"does not apply:\n{applied.stderr.strip()}")


def synchronize():
    """Makes the copy what the working tree is. Files that are alike are left alone."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
    wanted = {name for name in os.fsdecode(listed).split("\0") if name and (ROOT / name).is_file()}
    copy = ROOT / COPY
    for path in [path for path in copy.rglob("*") if path.is_file() or path.is_symlink()]:
        if str(path.relative_to(copy)) not in wanted:
            path.unlink()
    for name in wanted:
        content, target = (ROOT / name).read_bytes(), copy / name
        if not target.is_file() or target.read_bytes() != content:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)


def build(options=()):
    """Builds the program of the simulation with what is in the copy, and returns its path."""
    program = ["--package", "simulation", "--bin", "simulate", "--profile", PROFILE, *options]
    # Each patch is a next build.
    environment = {**os.environ, "CARGO_TARGET_DIR": str(BUILD), "CARGO_INCREMENTAL": "1"}
    built = run("cargo", "build", "--quiet", "--locked", *program, cwd=ROOT / COPY, env=environment)
    if built.returncode != 0:
        raise Problem(f"does not build:\n{built.stderr.strip()}")
    return BUILD / PROFILE / "simulate"


def search(simulate, first, jobs):
    """Searches seeds from `first` on for a violation. None if there is none."""
    command = [str(simulate), "--seeds", str(SEEDS), "--from", str(first), "--no-shrink", *jobs]
    try:
        ended = run(*command, cwd=ROOT / COPY, timeout=SEARCH_SECS_MAX)
    except subprocess.TimeoutExpired:
        raise Problem(f"seeds from {first} on have not ended after {SEARCH_SECS_MAX} s") from None
    if ended.returncode == HELD:
        return None
    last = ended.stdout.strip().rpartition("\n")[2]
    if ended.returncode != VIOLATED or not last.startswith("{"):
        tail = "\n".join((ended.stdout + ended.stderr).splitlines()[-20:])
        raise Problem(f"simulate failed with seeds from {first} on, exit code {ended.returncode}:\n{tail}")
    violation = json.loads(last)
    return Found(violation["worlds"], violation["guarantee"], violation["name"], violation["seed"])


def save(simulate, name, seed):
    """Keeps the smallest world that finds a bug in the corpus, which has to hold without the bug."""
    command = [str(simulate), "--seeds", "1", "--from", str(seed), "--save", str(CORPUS / f"{name}.json")]
    CORPUS.mkdir(exist_ok=True)
    saved = run(*command, cwd=ROOT / COPY, timeout=SEARCH_SECS_MAX)
    if saved.returncode != VIOLATED:
        raise Problem(f"seed {seed} did not break a guarantee once more, exit code {saved.returncode}")


def judge(patch, found):
    """Raises what is wrong with the results of the searches, if anything is."""
    for one in found:
        if one and one.guarantee not in patch.expected:
            by = f"guarantee {one.guarantee} ({one.sentence}) found it at seed {one.seed}"
            raise Problem(f"{by}, expected {', '.join(map(str, sorted(patch.expected)))}")
    if median(found) > SEEDS:
        raise Problem(f"{found.count(None)} of {SEARCHES} searches did not find it within {SEEDS} seeds")


def median(found):
    """Seeds that the search in the middle took. Infinite where it found nothing."""
    return statistics.median(one.worlds if one else math.inf for one in found)


def row(name, *cells):
    """A line of the table."""
    return f"{name:<52} {cells[0]:>7} {cells[1]:>7}  {cells[2]}"


def summary(name, found):
    """The line of a bug: seeds until it was found in the median and at worst, and what found it."""
    worst = max((one.worlds if one else math.inf) for one in found)
    seeds = [f"{count:.0f}" if count <= SEEDS else "never" for count in (median(found), worst)]
    finders = collections.Counter((one.guarantee, one.sentence) for one in found if one)
    found_by = ", ".join(f"{number} {sentence} ({count})" for (number, sentence), count in finders.most_common())
    return row(name, *seeds, found_by or "nothing")


def measure(path, options):
    """Plants a bug and prints how soon it is found. Returns whether all is as it should be."""
    name = path.stem
    try:
        patch = read(path)
        if options.check:
            apply(patch, "--check")
            return True
        synchronize()
        apply(patch, f"--directory={COPY}")
        simulate = build(QUICKLY)
        jobs = ["--jobs", str(options.jobs)] if options.jobs else []
        firsts = range(options.first, options.first + SEARCHES * SEEDS, SEEDS)
        found = [search(simulate, first, jobs) for first in firsts]
        print(summary(name, found), flush=True)
        judge(patch, found)
        if options.save:
            save(simulate, name, min((one for one in found if one), key=lambda one: one.worlds).seed)
    except Problem as problem:
        print(f"{name}: {problem}", file=sys.stderr, flush=True)
        return False
    return True


def alone():
    """Ends the program if another one uses the copy."""
    BUILD.mkdir(parents=True, exist_ok=True)
    # It is open, and so locked, until the program ends.
    alone.lock = (BUILD.parent / "lock").open("w", encoding="utf-8")
    try:
        fcntl.flock(alone.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit("another run plants bugs in target/planted: wait for it")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="patches without `.patch`; all if none is named")
    parser.add_argument("--program", action="store_true", help="only build without a bug, and print the program's path")
    parser.add_argument("--check", action="store_true", help="only read the patches and see whether they apply")
    # Without a bug these hold, as the suite `worlds` of tests/run shows.
    parser.add_argument("--from", type=int, default=0, dest="first", metavar="SEED", help="the first seed (default 0)")
    parser.add_argument("--save", action="store_true", help="keep the smallest world that finds each in corpus/")
    parser.add_argument("--jobs", type=int, metavar="N", help="worlds at once; `simulate` chooses if this is left out")
    options = parser.parse_args()
    paths = [PATCHES / f"{name}.patch" for name in options.names] or sorted(PATCHES.glob("*.patch"))
    unknown = [path.stem for path in paths if not path.is_file()]
    if unknown or not paths:
        parser.error(f"{PATCHES} has no patch {', '.join(unknown)}")
    if options.program:
        alone()
        synchronize()
        print(build())
        return 0
    began = time.monotonic()
    if not options.check:
        alone()
        print(row("bug", "median", "worst", f"guarantees that found it, in {SEARCHES} searches"), flush=True)
    good = [measure(path, options) for path in paths]
    verb = "apply" if options.check else "are found"
    print(f"{good.count(True)} of {len(good)} planted bugs {verb}, {time.monotonic() - began:.0f} s")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Prints the notices of what the program apigw-local contains for a target: each crate with its licence and its texts.

    packaging/notices.py x86_64-unknown-linux-gnu > NOTICES

Crates that only build others, and macros, are in no program and not named. deny.toml says which licences may occur.
Standard library and cargo only. A crate without a text of a licence that nothing else covers is an error.
"""

import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

# How files with licences, and with what licences ask to be repeated, are called.
TEXT = re.compile(r"(licen[cs]e|copying|copyright|notice|unlicense)", re.IGNORECASE)

# C code in crates that has a licence of its own, whose text is not in the crate.
BUNDLED = {
    # As the files of mimalloc say in their first lines.
    "libmimalloc-sys": ("mimalloc", "Copyright (c) 2018-2025, Microsoft Research, Daan Leijen"),
}

PREFACE = """\
apigw-local {version}: notices of what is in it

The program is offered under MIT or Apache-2.0, at your option. It contains the Rust standard library
(MIT or Apache-2.0, https://www.rust-lang.org) and the crates below, under these licences. SQLite, which
libsqlite3-sys brings, is in the public domain.
"""

RULE = "\n" + "-" * 100 + "\n"


class Missing(Exception):
    """A licence whose text is nowhere."""


def cargo(*arguments):
    command = ["cargo", *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def contained(target):
    """The crates that are in the program, as cargo describes them."""
    edges = ["--edges", "normal,no-proc-macro", "--prefix", "none", "--format", "{p}"]
    tree = cargo("tree", "--package", "apigw-local", "--locked", "--target", target, *edges)
    named = {tuple(line.split()[:2]) for line in tree.splitlines() if line}
    metadata = json.loads(cargo("metadata", "--format-version", "1", "--locked", "--filter-platform", target))
    packages = [package for package in metadata["packages"] if (package["name"], f"v{package['version']}") in named]
    assert len(packages) == len(named), "cargo tree and cargo metadata do not agree"
    return sorted(packages, key=lambda package: package["name"])


def texts(package):
    """The texts of the licences of a crate."""
    folder = pathlib.Path(package["manifest_path"]).parent
    files = sorted(path for path in folder.iterdir() if path.is_file() and TEXT.match(path.name))
    found = [path.read_text(errors="replace").strip() for path in files]
    if package["name"] in BUNDLED:
        name, copyright = BUNDLED[package["name"]]
        text = re.sub(r"Copyright .*", copyright, (ROOT / "LICENSE-MIT").read_text().strip(), count=1)
        found.append(f"{name}\n\n{text}")
    # Its text names nobody, so that of this repository says the same.
    if not found and "Apache-2.0" in (package["license"] or ""):
        found.append((ROOT / "LICENSE-APACHE").read_text().strip())
    if not found:
        raise Missing(f"{package['name']} {package['version']} ({package['license']}) has no text of its licence")
    return found


def notices(target):
    crates = contained(target)
    (version,) = (package["version"] for package in crates if package["name"] == "apigw-local")
    # Those of others.
    packages = [package for package in crates if package["source"]]
    lines = [f"{package['name']} {package['version']}: {package['license']}" for package in packages]
    owners = {}
    for package in packages:
        for text in texts(package):
            # Many differ in the width of their lines only.
            owners.setdefault(" ".join(text.split()), (text, []))[1].append(package["name"])
    sections = [PREFACE.format(version=version) + "\n" + "\n".join(lines)]
    sections += [f"{', '.join(sorted(set(names)))}:\n\n{text}" for text, names in owners.values()]
    return RULE.join(sections) + "\n"


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: packaging/notices.py TARGET, such as x86_64-unknown-linux-gnu")
    try:
        print(notices(sys.argv[1]), end="")
    except Missing as missing:
        sys.exit(f"error: {missing}: see BUNDLED in {sys.argv[0]}")


if __name__ == "__main__":
    main()

"""Runs sam with the values in the environment variable PARAMETERS.

    python infra/sam.py [NAME=VALUE…] COMMAND [OPTION…]

PARAMETERS holds words that are quoted as in a shell; nothing in it is expanded. Each word is Name=Value, with the name
of a parameter of the template, or file://FILE. PARAMETERS cannot change the values that precede the command. sam skips
words that it cannot read and names that the template does not have. Here both are errors: exit code 2, before sam runs.
In a region without Event APIs, `build` builds the template without one (event_api.py).
"""

import difflib
import itertools
import os
import re
import shlex
import sys
from pathlib import Path

import event_api


class Invalid(Exception):
    """PARAMETERS has a word that sam would skip or misread. The message says which one and what to do."""


def declared(template):
    """Returns the names of a template's parameters, which are indented by two spaces."""
    section = re.search(r"^Parameters:\n((?:[ #].*\n|\n)*)", template, re.MULTILINE)
    return re.findall(r"^  ([A-Za-z0-9]+):", section[1], re.MULTILINE) if section else []


def quoted(name, value):
    """Returns the word that sam reads as this value.

    sam finds the end of a value first and then unescapes quotes and spaces, but not backslashes. It therefore cannot
    read some values with a backslash. Inside NAME=VALUE it would look for ParameterKey=, so the long form is used.
    """
    text = '"' + re.sub(r"""("|(?<=\\)[ '])""", r"\\\1", value) + '"'
    if not re.fullmatch(r'"(?:\\.|[^"\\])*"', text):
        raise Invalid(f"sam cannot read the value of {name}: remove a backslash before a quotation mark or at its end")
    return f"ParameterKey={name},ParameterValue={text}"


def overrides(given, fixed, names):
    """Returns the words that sam takes after --parameter-overrides; names are those that the template declares."""
    try:
        words = shlex.split(given)
    except ValueError as error:
        problem = str(error).lower()
        raise Invalid(f"{problem} in `{given}`: put values with spaces or quotes between '…' or \"…\"") from None
    result, seen = [], {word.partition("=")[0] for word in fixed}
    for word in words:
        name, equals, value = word.partition("=")
        if word.startswith("file://"):
            result.append(word)
            continue
        if not equals or not re.fullmatch("[A-Za-z0-9]+", name):
            expected = "Name=Value or file://FILE.yaml, with quotes around values that have spaces"
            raise Invalid(f"invalid word `{word}`: expected {expected}")
        if name not in names:
            close = difflib.get_close_matches(name, names, 1)
            hint = f"did you mean {close[0]}?" if close else "expected Name=Value with a name from its Parameters"
            raise Invalid(f"unknown parameter `{name}`: {hint}")
        if name in seen:
            raise Invalid(f"`{name}` already has a value: remove `{word}`")
        seen.add(name)
        result.append(quoted(name, value))
    return result + [quoted(*word.split("=", 1)) for word in fixed]


def main(arguments):
    fixed = list(itertools.takewhile(lambda word: "=" in word, arguments))
    command = arguments[len(fixed) :]
    template = command[command.index("--template-file") + 1] if "--template-file" in command else "template.yaml"
    try:
        words = overrides(os.environ.get("PARAMETERS", ""), fixed, declared(Path(template).read_text()))
    except Invalid as invalid:
        print(f"PARAMETERS for {template}:", *str(invalid).split(), file=sys.stderr)
        return 2
    if command[0] == "build" and (other := event_api.template()):
        command += ["--template-file", str(other)]
    os.execvp("sam", ["sam", *command, *(["--parameter-overrides", *words] if words else [])])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

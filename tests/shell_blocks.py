"""Reads the commands of a document, so that a test runs what a reader does."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def shell_blocks(document):
    """Returns the blocks of shell commands of a document by heading. A block is a list of commands."""
    blocks, heading, lines = {}, None, None
    for line in (ROOT / document).read_text().splitlines():
        if lines is not None:
            if line == "```":
                blocks.setdefault(heading, []).append(commands(lines))
                lines = None
            else:
                lines.append(line)
        elif line == "```sh":
            lines = []
        elif found := re.match("#+ (.+)", line):
            heading = found[1]
    return blocks


def commands(lines):
    """Joins lines that end with a backslash, and leaves comments out."""
    text = re.sub(r"\s*\\\n\s*", " ", "\n".join(lines))
    return [command for line in text.splitlines() if (command := re.sub(r"(^|\s+)# .*", "", line))]

"""Finds messages of warnings and errors: those that Rust code writes, and those that a document explains."""

import re

LITERAL = re.compile(r'"((?:[^"\\]|\\.)*)"')
CALL = re.compile(r"\b(error|warn)!\(")
TESTS = re.compile(r"#\[cfg\(test\)\]\s*(?:pub(?:\([^)]*\))? )?mod (\w+)\s*([;{])")


def written(*folders):
    """Returns level and message of each `tracing::error!` and `tracing::warn!` in these folders, except in tests."""
    sources = {path: path.read_text() for folder in folders for path in folder.rglob("*.rs")}
    tests = {file for path, source in sources.items() for file in test_files(path, source)}
    return {line for path, source in sources.items() if path not in tests for line in calls(source)}


def test_files(path, source):
    """Returns the files of modules that are compiled only for tests."""
    folder = path.parent if path.stem in ("lib", "main", "mod") else path.parent / path.stem
    return [folder / f"{name}.rs" for name, body in TESTS.findall(source) if body == ";"]


def calls(source):
    """Yields level and message of each call before the module of tests, which ends a file."""
    inline = next((module.start() for module in TESTS.finditer(source) if module[2] == "{"), len(source))
    for call in CALL.finditer(source, 0, inline):
        # The message is the last argument.
        literals = LITERAL.findall(argument(source, call.end()))
        yield call[1], literals[-1] if literals else f"no message: {source[call.start():][:80]}"


def argument(source, start):
    """Returns the text up to the closing parenthesis of a call.

    It counts parentheses in string literals too, so each of those has to be closed in its literal.
    """
    depth = 1
    for end in range(start, len(source)):
        depth += {"(": 1, ")": -1}.get(source[end], 0)
        if depth == 0:
            return source[start:end]
    raise ValueError(f"no closing parenthesis: {source[start:][:80]}")


def explained(document):
    """Returns level and message of each row about a warning or an error in a document's table of messages."""
    rows = re.findall(r"^\| (`.+?`) \| (error|warn) \|", document, re.MULTILINE)
    return {(level, message) for messages, level in rows for message in re.findall(r"`([^`]+)`", messages)}

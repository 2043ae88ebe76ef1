"""Lines of warnings and errors: those that the code writes, and those that a document explains."""

import re

LITERAL = re.compile(r'"((?:[^"\\]|\\.)*)"')
CALL = re.compile(r"\b(error|warn)!\(")
TESTS = re.compile(r"#\[cfg\(test\)\]\s*(?:pub(?:\([^)]*\))? )?mod (\w+)\s*([;{])")


def written(*folders):
    """Level and message of each call of `tracing::error!` and `tracing::warn!` in these folders, without those of tests."""
    sources = {path: path.read_text() for folder in folders for path in folder.rglob("*.rs")}
    of_tests = {file for path, source in sources.items() for file in files_of_tests(path, source)}
    return {line for path, source in sources.items() if path not in of_tests for line in calls(source)}


def files_of_tests(path, source):
    """The files of the modules that are only compiled for tests."""
    folder = path.parent if path.stem in ("lib", "main", "mod") else path.parent / path.stem
    return [folder / f"{name}.rs" for name, body in TESTS.findall(source) if body == ";"]


def calls(source):
    """Level and message of each call outside of a module of tests, which is the end of its file."""
    inline = next((module.start() for module in TESTS.finditer(source) if module[2] == "{"), len(source))
    for call in CALL.finditer(source, 0, inline):
        # The message is the last literal, and the only argument that is one.
        literals = LITERAL.findall(argument(source, call.end()))
        yield call[1], literals[-1] if literals else f"no message: {source[call.start():][:80]}"


def argument(source, start):
    """What stands between the parentheses of a call. None of these has a parenthesis in a literal that is not closed there."""
    depth = 1
    for end in range(start, len(source)):
        depth += {"(": 1, ")": -1}.get(source[end], 0)
        if depth == 0:
            return source[start:end]
    raise ValueError(f"a call is not closed: {source[start:][:80]}")


def explained(document):
    """Level and message of each row of a document's table of messages that is a warning or an error."""
    rows = re.findall(r"^\| (`.+?`) \| (error|warn) \|", document, re.MULTILINE)
    return {(level, message) for messages, level in rows for message in re.findall(r"`([^`]+)`", messages)}

"""Rules that every file keeps: `tests/run tidy`. Standard library only.

- No circle of imports between files, nor between a folder's files and subfolders.
- No line over 120 columns in code or comments, and none over 100 in Markdown.
- No dependency of the emulator on the service.
- No integration test that `tests/run` does not name.
- No link in a document to a file or a heading that is not there.
- No count in docs/emulator.md that its tables do not have.
- No emulator in the table of docs/emulator.md of another version than the one that is pinned.
"""

import fnmatch
import functools
import json
import os
import pathlib
import re
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
COLUMNS_MAX = 120
MARKDOWN_COLUMNS_MAX = 100

CODE = {
    "Makefile", ".css", ".html", ".java", ".js", ".mjs", ".php", ".py", ".rs", ".sh", ".toml", ".ts", ".yaml", ".yml",
}  # fmt: skip

# Files with longer lines: what a program wrote, and templates of tests, which have a resource in a line.
BUILT = [f"client/viral-{name}" for name in ("alerts.js", "alerts.d.ts", "toast.js", "toast.d.ts")]
LONG_LINES = [*BUILT, "emulator/tests/program/*.yaml"]
# A word of this length, such as an ARN or a frame as it is sent, excuses its line.
LONG_WORD = re.compile(r"\S{70}")

# The emulator's package, and the folders of its own that it may depend on.
EMULATOR = "apigw-local"
EMULATOR_FOLDERS = ["emulator", "clock"]


def tracked():
    """Every file of the repository, also those that are not committed yet."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    return [path for path in listed if (ROOT / path).is_file()]


# --- Circles ----------------------------------------------------------------------------------------------------------


def circles(edges):
    """Strongly connected components of more than one node, by Tarjan."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in sorted(edges.get(node, {})):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            component = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(component) > 1:
                found.append(sorted(component))

    for node in sorted(edges):
        if node not in index:
            visit(node)
    return found


def folder_edges(edges):
    """For each folder the edges between what lies directly in it, a subfolder being one thing with its `name.rs`."""
    folders = {}
    for source, targets in edges.items():
        for target, names in targets.items():
            a, b = (path.removesuffix("/mod.rs").removesuffix(".rs").split("/") for path in (source, target))
            depth = next((depth for depth, (x, y) in enumerate(zip(a, b)) if x != y), None)
            # A file and what lies in the folder beside it are one room.
            if depth is not None and (len(a) > depth + 1 or len(b) > depth + 1):
                folder = folders.setdefault("/".join(a[:depth]), {})
                taken = folder.setdefault("/".join(a[: depth + 1]), {})
                taken.setdefault("/".join(b[: depth + 1]), set()).update(names)
    return folders


def complaints_of_circles(edges):
    """A line for each circle, and one for each of its edges with the names that it carries."""
    for graph in [edges, *folder_edges(edges).values()]:
        for circle in circles(graph):
            ties = [
                f"\n    {source} takes {', '.join(sorted(graph[source][target]))} from {target}"
                for source in circle
                for target in sorted(graph.get(source, {}))
                if target in circle
            ]
            yield circle[0], f"circle of {len(circle)}: {' '.join(circle)}{''.join(ties)}"


PUBLIC = r"(?:pub(?:\([^)]*\))? )?"
ITEM = "fn|struct|enum|trait|type|const|static|union"
CRATE_ROOT = r"(.*/)?src/(lib|main)\.rs|.*/(tests|examples)/\w+/main\.rs|tests/e2e/main\.rs"


class Module:
    """A file of a Rust crate."""

    def __init__(self, path, parent, text):
        self.path, self.parent, self.children = path, parent, {}
        self.defined = set(re.findall(rf"^{PUBLIC}(?:async |const |unsafe )*(?:{ITEM}) (\w+)", text, re.M))
        self.uses = [use for tree in re.findall(r"\buse ([^;]+);", text) for use in expanded(tree)]
        self.imported = {alias: segments for segments, alias in self.uses}
        body = re.sub(r"\buse [^;]+;", "", text)
        self.paths = {tuple(path.split("::")) for path in re.findall(r"\b(?<!::)\w+(?:::\w+)+", body)}


    def ancestors(self):
        return [self.parent, *self.parent.ancestors()] if self.parent else []


def expanded(tree):
    """The paths of a `use`, each with the name that it has here."""
    tree = re.sub(r"\s+", " ", tree).strip()
    opening = tree.find("{")
    if opening < 0:
        path, _, alias = tree.partition(" as ")
        segments = tuple(part.strip() for part in path.split("::"))
        if segments[-1] == "self":
            segments = segments[:-1]
        return [(segments, alias.strip() or segments[-1])] if segments else []
    prefix, inner, parts, depth, part = tree[:opening].rstrip(": "), tree[opening + 1 : tree.rindex("}")], [], 0, ""
    for character in inner + ",":
        depth += (character == "{") - (character == "}")
        if character == "," and depth == 0:
            parts.append(part)
            part = ""
        else:
            part += character
    return [use for part in parts if part.strip() for use in expanded(f"{prefix}::{part.strip()}" if prefix else part)]


# Whatever begins first: a raw string, a string, a character, a comment.
LITERAL = re.compile(
    r'''\bb?r(#*)".*?"\1|b?"(?:\\.|[^"\\])*"|b?'(?:\\.[^']*|[^'\\])'|//[^\n]*|/\*.*?\*/''', re.DOTALL
)


def code_of(text):
    """Rust without comments, literals and tests."""
    text = LITERAL.sub("0", text)
    while test := re.search(r"#\[cfg\(test\)\]\s*", text):
        start, depth = test.end(), 0
        for end in range(start, len(text)):
            depth += (text[end] in "{([") - (text[end] in "})]")
            if depth == 0 and text[end] in ";}":
                break
        text = text[: test.start()] + text[end + 1 :]
    return text


def crate(root):
    """The modules of a crate by their file, from its root file."""
    modules = {}

    def read(path, parent, folder):
        text = code_of((ROOT / path).read_text())
        module = modules[path] = Module(path, parent, text)
        for name in re.findall(rf"^\s*{PUBLIC}mod (\w+);", text, re.M):
            for candidate in [f"{folder}/{name}.rs", f"{folder}/{name}/mod.rs"]:
                if (ROOT / candidate).is_file():
                    module.children[name] = read(candidate, module, f"{folder}/{name}")
        return module

    root_module = read(root, None, str(pathlib.PurePath(root).parent))
    return root_module, modules


def resolved(root, module, segments, seen=()):
    """The module that defines what a path of `module` names, and that name. None for what is of another crate."""
    if (module, segments) in seen:
        return None
    seen = (*seen, (module, segments))
    first, *rest = segments
    if first == "crate":
        at = root
    elif first == "self":
        at = module
    elif first == "super":
        at = module.parent
    elif first in module.children:
        at, rest = module.children[first], rest
    elif len(segments) > 1 and first in module.imported and module.imported[first] != segments:
        return resolved(root, module, module.imported[first] + tuple(rest), seen)
    else:
        return None
    while at and rest and (rest[0] == "super" or rest[0] in at.children):
        at, rest = (at.parent if rest[0] == "super" else at.children[rest[0]]), rest[1:]
    if at is None:
        return None
    if rest and rest[0] not in at.defined:
        if rest[0] in at.imported:
            through = at.imported[rest[0]] + tuple(rest[1:])
            if through[0] in ("crate", "self", "super") or through[0] in at.children or through[0] in at.imported:
                return resolved(root, at, through, seen)
            return None
        for use, alias in at.uses:
            if alias == "*":
                found = resolved(root, at, use[:-1] + (rest[0],), seen)
                if found and found[1] in found[0].defined:
                    return found
    return at, rest[0] if rest else "itself"


def rust_edges(files):
    edges = {}
    for path in files:
        if not re.fullmatch(CRATE_ROOT, path):
            continue
        root, modules = crate(path)
        for module in modules.values():
            for segments in {use for use, _ in module.uses} | module.paths:
                found = resolved(root, module, segments)
                if found and found[0] is not module and found[0] not in module.ancestors():
                    edges.setdefault(module.path, {}).setdefault(found[0].path, set()).add(found[1])
    return edges


def script_edges(files):
    """Relative imports of TypeScript and JavaScript, and those of Python from the same folder."""
    edges, known = {}, set(files)
    for path in files:
        folder, suffix = pathlib.PurePath(path).parent, pathlib.PurePath(path).suffix
        text = (ROOT / path).read_text() if suffix in (".ts", ".js", ".mjs", ".py") else ""
        if suffix == ".py":
            imports = re.findall(r"^(?:from (\w+) import|import (\w+))", text, re.M)
            imports = [(f"{folder}/{a or b}.py", a or b) for a, b in imports]
        else:
            imports = re.findall(r'^(?:import|export)\b([^;"]*?)(?:\bfrom )?"(\.[^"]+)"', text, re.M)
            imports = [(os.path.normpath(folder / target), names) for names, target in imports]
        for target, names in imports:
            # TypeScript names a file as it is called once it is compiled.
            source = target if target in known else re.sub(r"\.js$", ".ts", target)
            if source in known and source != path:
                names = re.sub(r"[{}\s]+|\btype\b", " ", names).strip(" ,")
                edges.setdefault(path, {}).setdefault(source, set()).add(names or "all")
    return edges


def check_circles(files):
    yield from complaints_of_circles(rust_edges(files))
    yield from complaints_of_circles(script_edges(files))


# --- Lines ------------------------------------------------------------------------------------------------------------


def check_lines(files):
    """Tables in comments, and lines with a word that cannot be broken, may be longer."""
    for path in files:
        pure = pathlib.PurePath(path)
        is_script = not pure.suffix and (ROOT / path).read_bytes()[:2] == b"#!"
        if not (pure.suffix in CODE or pure.name in CODE or is_script):
            continue
        if any(fnmatch.fnmatch(path, pattern) for pattern in LONG_LINES):
            continue
        for number, line in enumerate((ROOT / path).read_text().splitlines(), 1):
            may_be_long = LONG_WORD.search(line) or re.match(r"\s*//[/!] \|", line)
            if len(line) > COLUMNS_MAX and not may_be_long:
                yield path, f"{path}:{number} has {len(line)} columns: {COLUMNS_MAX} at most"


def check_markdown(files):
    """Tables, headings, code, and lines that are one link or one piece of code may be longer."""
    for path in files:
        if not path.endswith(".md"):
            continue
        in_code = False
        for number, line in enumerate((ROOT / path).read_text().splitlines(), 1):
            text = re.sub(r"^[\s>]*(?:[-*] |\d+\. )?", "", line)
            in_code ^= text.startswith("```")
            pieces = re.findall(r"!?\[[^]]*\]\([^)]*\)\S*|`[^`]*`\S*|\S+", text)
            may_be_long = in_code or text.startswith(("|", "#", "<", "```")) or len(pieces) < 2
            if len(line) > MARKDOWN_COLUMNS_MAX and not may_be_long:
                yield path, f"{path}:{number} has {len(line)} columns: {MARKDOWN_COLUMNS_MAX} at most"


# --- Crates -----------------------------------------------------------------------------------------------------------


def check_emulator(files):
    """The emulator knows nothing of the service: it can be published alone."""
    command = ["cargo", "tree", "--package", EMULATOR, "--edges=normal,build", "--prefix=none", "--locked"]
    tree = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if tree.returncode:
        yield EMULATOR, tree.stderr.strip()
    for folder in sorted(set(re.findall(rf"\({re.escape(str(ROOT))}/([^)]+)\)", tree.stdout))):
        if folder.split("/")[0] not in EMULATOR_FOLDERS:
            yield EMULATOR, f"{EMULATOR} depends on {folder}/: it must not know the service"


def check_suites(files):
    """A test that no suite names would never run."""
    script = (ROOT / "tests/run").read_text()
    for path in files:
        if path.endswith("Cargo.toml") and (folder := ROOT / path).parent.name != "fuzz":
            manifest = tomllib.loads(folder.read_text())
            tests = {test["name"] for test in manifest.get("test", [])}
            for test in folder.parent.glob("tests/*"):
                if "package" in manifest and (test.suffix == ".rs" or (test / "main.rs").is_file()):
                    tests.add(test.stem)
            for name in sorted(tests - {"e2e"} if path != "tests/Cargo.toml" else tests & {"e2e"}):
                if not re.search(rf"--test {name}\b", script):
                    yield path, f"tests/run runs no `--test {name}` of {path}"


# --- Documents --------------------------------------------------------------------------------------------------------


FENCED = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)


@functools.cache
def anchors(path):
    """The anchors that GitHub gives to the headings of a document."""
    found = []
    for heading in re.findall(r"^#+ (.+)$", FENCED.sub("", path.read_text()), re.MULTILINE):
        shown = re.sub(r"\[([^]]+)\]\([^)]*\)", r"\1", heading)
        found.append(re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-"))
    return {f"{anchor}-{before}" if (before := found[:at].count(anchor)) else anchor for at, anchor in enumerate(found)}


def check_links(files):
    """A document is read where it lies: its links are relative to it."""
    for path in files:
        if not path.endswith((".md", "llms.txt")):
            continue
        text = re.sub(r"`[^`\n]*`", "", FENCED.sub("", (ROOT / path).read_text()))
        for target in re.findall(r"\]\(([^)\s]+)\)|^\[[^]]+\]:\s+(\S+)", text, flags=re.MULTILINE):
            name, _, anchor = "".join(target).partition("#")
            linked = (ROOT / path).parent / name if name else ROOT / path
            if ":" in name:
                continue
            if not linked.exists():
                yield path, f"{path} links to {name}, which is not there"
            elif anchor and linked.suffix == ".md" and anchor not in anchors(linked):
                yield path, f"{path} links to the heading {anchor} of {linked.name}, which is not there"


# The table's columns, and the sentence that counts its rows.
BEHAVIOURS = "docs/emulator.md"
BEHAVIOUR_COLUMNS = ["behaviour", "source", "test"]
BEHAVIOUR_COUNTS = re.compile(r"Of the (\d+) behaviours below, (\d+) are")


def check_behaviours(_):
    """How much of the emulator's behaviour is unknown is said once, and has to hold."""
    text = (ROOT / BEHAVIOURS).read_text()
    rows, unknown, is_table = 0, 0, False
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split(" | ")]
        if not line.startswith("|") or cells == BEHAVIOUR_COLUMNS:
            is_table = line.startswith("|")
        elif is_table and not line.startswith("|---"):
            if len(cells) != len(BEHAVIOUR_COLUMNS):
                yield BEHAVIOURS, f"{BEHAVIOURS}: a row has {len(cells)} cells: {line[:80]}"
                continue
            rows += 1
            unknown += "?" in cells[BEHAVIOUR_COLUMNS.index("source")]
    counts = BEHAVIOUR_COUNTS.search(" ".join(text.split()))
    said = tuple(int(count) for count in counts.groups()) if counts else None
    if said != (rows, unknown):
        yield BEHAVIOURS, f"{BEHAVIOURS} has {rows} behaviours, of which {unknown} are unknown in part, and says {said}"


EMULATORS = ROOT / "emulator/conformance/emulators"


def check_emulators(_):
    """The table of emulators is that of the versions that are pinned: run it again after a change."""
    pinned = {"ministack": re.search(r"^ministack==(\S+)", (EMULATORS / "requirements.txt").read_text(), re.M)[1]}
    for name, folder, package in [
        ("serverless-offline", "serverless_offline", "serverless-offline"),
        ("Architect sandbox", "architect", "@architect/sandbox"),
    ]:
        packages = json.loads((EMULATORS / folder / "package-lock.json").read_text())["packages"]
        pinned[name] = packages[f"node_modules/{package}"]["version"]
    table = (ROOT / BEHAVIOURS).read_text().partition("<!-- table of emulators: begin -->")[2]
    measured = dict(re.findall(r"^\| \[([^]]+)\]\(\S+\) (\S+) \|", table.partition("<!--")[0], re.M))
    for name in sorted(pinned.keys() | measured.keys()):
        if pinned.get(name) != measured.get(name):
            yield BEHAVIOURS, f"the table of emulators has {name} {measured.get(name)}, pinned is {pinned.get(name)}"


CASES = ROOT / "emulator/conformance/cases"
SUITE = "emulator/conformance/README.md"


def check_cases(_):
    """The conformance suite has as many cases as it says."""
    count = sum(len(re.findall(r"^- name: ", path.read_text(), re.M)) for path in CASES.glob("*.yaml"))
    said = re.search(r"^(\d+) cases that say", (ROOT / SUITE).read_text(), re.M)
    if not said or int(said[1]) != count:
        yield SUITE, f"{SUITE} says {said[1] if said else 'not how many'} cases, there are {count}"


# --- Together ---------------------------------------------------------------------------------------------------------

RULES = {
    "circles": check_circles,
    "lines": check_lines,
    "markdown": check_markdown,
    "emulator": check_emulator,
    "suites": check_suites,
    "links": check_links,
    "behaviours": check_behaviours,
    "emulators": check_emulators,
    "cases": check_cases,
}


def main():
    files = tracked()
    complaints = [f"{rule}: {complaint}" for rule, check in RULES.items() for _, complaint in check(files)]
    print(*complaints, f"{len(files)} files, {len(complaints)} complaints", sep="\n")
    sys.exit(bool(complaints))


if __name__ == "__main__":
    main()

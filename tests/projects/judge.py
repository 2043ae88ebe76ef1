"""Starts what a project's own tool packaged, unchanged, and judges it by what its clients see."""

import argparse
import asyncio
import contextlib
import hashlib
import hmac
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from datetime import datetime, timezone
from pathlib import Path

from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

HERE = Path(__file__).parent
ROOT = HERE.parent.parent

START_SECS_MAX = 30
CHECK_SECS_MAX = 90
FRAME_SECS_MAX = 15
QUIET_SECS = 1
FETCH_SECS_MAX = 300


class Failed(Exception):
    """What the project should have done, and what was seen instead."""


def bring(project, work, mirror, layout):
    """Makes the files of the project's commit, from GitHub or from a local git directory, and returns their folder."""
    folder = work / "source" / project["name"]
    # Written last, so that half a project is never taken for one.
    complete = folder.with_name(f"{folder.name}.commit")
    if complete.is_file() and complete.read_text() == project["commit"]:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    owner, repository = project["repository"].split("/")
    # Nothing that a user's configuration names may run, ask or sign.
    environment = {
        **os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_TERMINAL_PROMPT": "0", "GIT_LFS_SKIP_SMUDGE": "1",
    }

    def run(*command):
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True,
                              timeout=FETCH_SECS_MAX, check=False)
        if done.returncode:
            raise Failed(f"{command[0]} {command[-1]}: {last_line(done.stderr.decode('utf-8', 'replace'))}")

    if mirror:
        source = Path(mirror) / layout.format(owner=owner, repository=repository)
        source = source / ".git" if (source / ".git").is_dir() else source
        archive = work / f"{project['name']}.tar"
        # A mirror may lack objects of other folders, with which git refuses to fetch.
        run("git", "-c", "safe.directory=*", f"--git-dir={source}", "archive", f"--output={archive}", project["commit"],
            *([project["directory"]] if "directory" in project else []))
        run("tar", "-x", "-C", str(folder), "-f", str(archive))
        archive.unlink()
    else:
        git = ["git", "-c", "core.hooksPath=/dev/null", "-C", str(folder)]
        run(*git, "init", "--quiet")
        if "directory" in project:
            run(*git, "sparse-checkout", "set", project["directory"])
        run(*git, "fetch", "--quiet", "--depth=1", "--filter=blob:none",
            f"https://github.com/{project['repository']}", project["commit"])
        run(*git, "checkout", "--quiet", "FETCH_HEAD")
    complete.write_text(project["commit"])
    return folder


def last_line(text):
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no output"


class Local:
    """A run of apigw-local. It has a process group of its own, so that everything it started ends with it."""

    def __init__(self, program, packaged, project, log):
        template = packaged / project["template"]
        arguments = [program, "--template", template.name, "--ws-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0"]
        for name, value in project.get("parameters", {}).items():
            arguments += ["--parameter", f"{name}={value}"]
        environment = {
            "PATH": os.environ["PATH"], "HOME": str(packaged), "LANG": "C.UTF-8",
            **{name: os.environ[name] for name in ("NODE_PATH", "PYTHONPATH") if name in os.environ},
            **project.get("environment", {}),
        }
        self.errors = open(log, "w+", encoding="utf-8")  # noqa: SIM115: closed by stop
        self.log = log
        self.variables, self.notes = {}, []
        self.process = subprocess.Popen(
            arguments, cwd=template.parent, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=self.errors, text=True, start_new_session=True,
        )

    async def ready(self):
        """Returns when it serves; raises Failed with its message when it ends instead."""
        try:
            await asyncio.wait_for(asyncio.to_thread(self._read), START_SECS_MAX)
        except asyncio.TimeoutError:
            raise Failed(f"not ready within {START_SECS_MAX} s") from None

    def _read(self):
        for line in self.process.stdout:
            if line.startswith("# note: "):
                self.notes.append(line[8:].strip())
            elif ready := re.match(r"ready (ws:\S+) (http:\S+)", line):
                self.web_socket, self.http = ready[1], ready[2].rstrip("/")
                with urllib.request.urlopen(f"{self.http}/inspector/env") as answer:
                    exported = re.findall(r"^export (\w+)=(.*)$", answer.read().decode(), re.MULTILINE)
                self.variables = dict(exported)
                return
        self.process.wait()
        raise Failed(last_line(Path(self.log).read_text(encoding="utf-8")))

    def problem(self):
        """The last thing that it complained about, for a check that failed."""
        text = Path(self.log).read_text(encoding="utf-8", errors="replace")
        found = [line for line in text.splitlines() if re.search(r" WARN | ERROR |Error: |error:|Exception", line)
                 and "differs from Lambda's" not in line]
        return re.sub(r"\x1b\[[0-9;]*m", "", found[-1]).strip() if found else ""

    def stop(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGINT)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            pass
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()
        self.errors.close()


class Client:
    """A client of the project, and every frame that it has received."""

    def __init__(self, socket):
        self.socket = socket
        self.frames = []
        self.news = asyncio.Event()
        self.reader = asyncio.create_task(self._read())

    async def _read(self):
        with contextlib.suppress(Exception):
            async for frame in self.socket:
                self.frames.append(frame if isinstance(frame, str) else frame.decode("utf-8", "replace"))
                self.news.set()
        self.news.set()

    async def frame(self, parts):
        """Takes the first frame that contains all parts out of those received, and waits for it when there is none."""
        until = time.monotonic() + FRAME_SECS_MAX
        while True:
            for index, frame in enumerate(self.frames):
                if all(part in frame for part in parts):
                    return self.frames.pop(index)
            self.news.clear()
            left = until - time.monotonic()
            try:
                await asyncio.wait_for(self.news.wait(), left)
            except asyncio.TimeoutError:
                seen = f"; it received {self.frames}" if self.frames else "; it received nothing"
                raise Failed(f"no frame with {' and '.join(parts)}{seen}"[:400]) from None
            if self.reader.done() and not self.frames:
                raise Failed(f"the connection ended before a frame with {' and '.join(parts)}")


def signed(region, host, path, query):
    """The headers of a handshake signed with `local` and `local`, by Signature Version 4."""
    stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{stamp[:8]}/{region}/execute-api/aws4_request"
    empty = hashlib.sha256(b"").hexdigest()
    canonical = f"GET\n{path}\n{query}\nhost:{host}\nx-amz-date:{stamp}\n\nhost;x-amz-date\n{empty}"
    to_sign = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = b"AWS4local"
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()
    return {
        "X-Amz-Date": stamp,
        "Authorization": f"AWS4-HMAC-SHA256 Credential=local/{scope}, SignedHeaders=host;x-amz-date, "
                         f"Signature={signature}",
    }


def ask(url, headers, body):
    """A request's status and body."""
    request = urllib.request.Request(url, data=body and body.encode(), headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=FRAME_SECS_MAX) as answer:
            return answer.status, answer.read().decode("utf-8", "replace")
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read().decode("utf-8", "replace")


def amazon(local, service, target, version, body):
    """Asks the local DynamoDB, SQS or Lambda as an AWS client would."""
    headers = {
        "Content-Type": f"application/x-amz-json-{version}", "X-Amz-Target": target, "X-Amz-Date": "20260101T000000Z",
        "Authorization": f"AWS4-HMAC-SHA256 Credential=local/20260101/eu-central-1/{service}/aws4_request, "
                         "SignedHeaders=host, Signature=0",
    }
    status, text = ask(local.variables[f"AWS_ENDPOINT_URL_{service.upper()}"], headers, json.dumps(body))
    if status != 200:
        raise Failed(f"{target}: {status} {text}"[:300])
    return json.loads(text)


async def check(local, steps):
    """Performs the steps of a check in order. README.md says what each does."""
    clients, known = {}, {}

    def filled(value):
        text = value if isinstance(value, str) else json.dumps(value)
        return re.sub(r"<(\w+)>", lambda name: str(known.get(name[1], name[0])), text)

    try:
        for step in steps:
            match step:
                case {"connect": name}:
                    query = filled(step.get("query", ""))
                    address = local.web_socket + (f"?{query}" if query else "")
                    headers = dict(step.get("headers", {}))
                    if step.get("signed"):
                        host, path = re.match(r"ws://([^/]+)(/[^?]*)", address).groups()
                        headers |= signed(local.variables["AWS_REGION"], host, path, query)
                    try:
                        socket = await connect(address, additional_headers=headers, open_timeout=FRAME_SECS_MAX,
                                               subprotocols=step.get("subprotocols"), close_timeout=1, proxy=None)
                    except InvalidStatus as refusal:
                        if refusal.response.status_code == step.get("refused"):
                            continue
                        raise Failed(f"the handshake of {name} was answered {refusal.response.status_code}") from None
                    if "refused" in step:
                        raise Failed(f"{name} was let in")
                    clients[name] = Client(socket)
                case {"send": name}:
                    await clients[name].socket.send(filled(step["text"] if "text" in step else step["json"]))
                case {"receive": name}:
                    frame = await clients[name].frame([filled(part) for part in step["contains"]])
                    for key, pattern in step.get("keep", {}).items():
                        found = re.search(pattern, frame)
                        if not found:
                            raise Failed(f"no {key} in {frame}"[:300])
                        known[key] = found[1]
                case {"quiet": name}:
                    await asyncio.sleep(QUIET_SECS)
                    if clients[name].frames:
                        raise Failed(f"{name} received {clients[name].frames}"[:300])
                case {"close": name}:
                    await clients[name].socket.close()
                case {"put": table}:
                    body = {"TableName": table, "Item": step["item"]}
                    await asyncio.to_thread(amazon, local, "dynamodb", "DynamoDB_20120810.PutItem", "1.0", body)
                case {"items": table}:
                    await items(local, table, step["count"], [filled(part) for part in step.get("contains", [])], known,
                                step.get("keep", {}))
                case {"message": queue}:
                    name = {"QueueName": queue}
                    found = await asyncio.to_thread(amazon, local, "sqs", "AmazonSQS.GetQueueUrl", "1.0", name)
                    body = {"QueueUrl": found["QueueUrl"], "MessageBody": filled(step["json"])}
                    await asyncio.to_thread(amazon, local, "sqs", "AmazonSQS.SendMessage", "1.0", body)
                case {"invoke": function}:
                    url = f"{local.variables['AWS_ENDPOINT_URL_LAMBDA']}/2015-03-31/functions/{function}/invocations"
                    status, text = await asyncio.to_thread(ask, url, {}, filled(step.get("json", {})))
                    if status != 200:
                        raise Failed(f"invoking {function}: {status} {text}"[:300])
                case {"get": path} | {"post": path}:
                    body = filled(step["json"]) if "json" in step else None
                    status, text = await asyncio.to_thread(ask, local.http + path, step.get("headers", {}), body)
                    if status != step.get("status", 200) or not all(part in text for part in step.get("contains", [])):
                        raise Failed(f"{path}: {status} {text}"[:300])
                case _:
                    raise Failed(f"no such step: {step}")
    finally:
        for client in clients.values():
            client.reader.cancel()
            with contextlib.suppress(Exception):
                await asyncio.wait_for(client.socket.close(), 2)


async def items(local, table, count, parts, known, keep):
    """Waits until a table has that many items that contain the parts."""
    if table == "*":
        answer = await asyncio.to_thread(amazon, local, "dynamodb", "DynamoDB_20120810.ListTables", "1.0", {})
        table = answer["TableNames"][0]
    until = time.monotonic() + FRAME_SECS_MAX
    while True:
        body = {"TableName": table}
        answer = await asyncio.to_thread(amazon, local, "dynamodb", "DynamoDB_20120810.Scan", "1.0", body)
        texts = [json.dumps(item) for item in answer["Items"]]
        matching = [text for text in texts if all(part in text for part in parts)]
        if len(matching) == count:
            for key, pattern in keep.items():
                known[key] = re.search(pattern, matching[0])[1]
            return
        if time.monotonic() > until:
            raise Failed(f"{table} has {texts} instead of {count} with {parts}"[:300])
        await asyncio.sleep(0.1)


async def judge(project, options):
    """One row of the table: packaged?, starts?, does what its README says?, message."""
    work = options.work
    row = {"name": project["name"], "kind": project["kind"], "packaged": "no", "starts": "", "does": "", "message": ""}
    if "unpackaged" in project:
        return row | {"message": project["unpackaged"]}
    try:
        source = await asyncio.to_thread(bring, project, work, options.mirror, options.layout)
        packaged = options.packaged / project["name"]
        if project.get("as_it_is"):
            packaged = source / project["folder"]
        if not (packaged / project["template"]).exists():
            return row | {"message": f"there is no {project['template']} in {packaged}"}
    except (Failed, subprocess.TimeoutExpired) as problem:
        return row | {"message": str(problem)}
    row["packaged"] = "as it is" if project.get("as_it_is") else "yes"
    logs = work / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    local = Local(options.program, packaged, project, logs / f"{project['name']}.log")
    try:
        row["starts"] = "no"
        await local.ready()
        row |= {"starts": "yes", "does": "no"}
        (logs / f"{project['name']}.notes").write_text("".join(f"{note}\n" for note in local.notes), encoding="utf-8")
        await asyncio.wait_for(check(local, project["check"]), CHECK_SECS_MAX)
        row["does"] = "yes"
    except asyncio.TimeoutError:
        row["message"] = f"the check did not end within {CHECK_SECS_MAX} s"
    except (Failed, OSError, KeyError, EOFError) as problem:
        row["message"] = " · ".join(filter(None, [str(problem), local.problem() if row["starts"] == "yes" else ""]))
    finally:
        await asyncio.to_thread(local.stop)
    if row["does"] == "no" or row["starts"] == "no":
        row["broken"] = project.get("broken", "")
    return row


def table(rows):
    """The rows as Markdown, and what the numbers of the issue are."""
    lines = ["| project | kind | packaged | starts | does what its README says | message |"]
    lines.append("|---|---|---|---|---|---|")
    for row in rows:
        message = " ".join(row["message"].split()).replace("|", "\\|")[:400]
        if row.get("broken"):
            message = f"broken itself: {row['broken']}. {message}"
        cells = [row["name"], row["kind"], row["packaged"], row["starts"], row["does"], message]
        lines.append(f"| {' | '.join(cells)} |")
    lines.append("")
    for kind in sorted({row["kind"] for row in rows}):
        of_kind = [row for row in rows if row["kind"] == kind]
        tried = [row for row in of_kind if row["packaged"] != "no"]
        whole = [row for row in tried if not row.get("broken")]
        lines.append(
            f"- {kind}: {len(of_kind)} projects, {len(tried)} packaged, "
            f"{sum(row['starts'] == 'yes' for row in tried)} start, {len(tried) - len(whole)} broken themselves, "
            f"{sum(row['does'] == 'yes' for row in whole)} do what they say."
        )
    return "\n".join(lines) + "\n"


def arguments():
    parser = argparse.ArgumentParser(prog="tests/projects/run", description=__doc__)
    parser.add_argument("names", nargs="*", help="only these projects")
    parser.add_argument("--work", type=Path, default=ROOT / "target/projects", help="everything is written there")
    parser.add_argument("--packaged", type=Path, help="what their tools made, a folder for each [WORK/packaged]")
    parser.add_argument("--mirror", help="take the repositories from git directories below this instead of GitHub")
    parser.add_argument("--layout", default="{owner}/{repository}.git", help="where they are below it [%(default)s]")
    parser.add_argument("--program", default=str(ROOT / "target/debug/apigw-local"), help="the apigw-local to run")
    parser.add_argument("--jobs", type=int, default=1, help="this many projects at once [1]")
    parser.add_argument("--output", type=Path, help="also write the table there")
    options = parser.parse_args()
    options.work = options.work.resolve()
    options.packaged = (options.packaged or options.work / "packaged").resolve()
    options.program = str(Path(options.program).resolve())
    return options


async def main():
    options = arguments()
    projects = json.loads((HERE / "projects.json").read_text(encoding="utf-8"))
    if unknown := set(options.names) - {project["name"] for project in projects}:
        sys.exit(f"no project is called {', '.join(sorted(unknown))}")
    if options.names:
        projects = [project for project in projects if project["name"] in options.names]
    places = asyncio.Semaphore(options.jobs)

    async def one(project):
        async with places:
            row = await judge(project, options)
            print(" · ".join(filter(None, list(row.values())))[:300], file=sys.stderr)
            return row

    text = table(await asyncio.gather(*map(one, projects)))
    print(text)
    if options.output:
        options.output.write_text(text, encoding="utf-8")


asyncio.run(main())

"""A function that is two programs: one invocation goes to the first, the next one to the other.

It starts both with a Runtime API of its own, and passes their requests on to that of Lambda. A program's request for
the next invocation waits until it is its turn. The turn changes with each answer.
"""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

UPSTREAM = os.environ["AWS_LAMBDA_RUNTIME_API"]
# Headers of a connection, not of what it carries.
HOP = {"connection", "host", "keep-alive", "transfer-encoding", "content-length"}


class Turns:
    """Whose turn it is."""

    def __init__(self, count):
        self.count, self.now, self.changed = count, 0, threading.Condition()

    def wait(self, program):
        with self.changed:
            self.changed.wait_for(lambda: self.now == program)

    def next(self):
        with self.changed:
            self.now = (self.now + 1) % self.count
            self.changed.notify_all()


class RuntimeApi(ThreadingHTTPServer):
    """The Runtime API of one program."""

    daemon_threads = True

    def __init__(self, program, turns):
        super().__init__(("127.0.0.1", 0), Mediator)
        self.program, self.turns = program, turns
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self):
        return f"127.0.0.1:{self.server_port}"


class Mediator(BaseHTTPRequestHandler):
    """Passes requests on."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path.endswith("/invocation/next"):
            self.server.turns.wait(self.server.program)
        self.pass_on("GET", b"")

    def do_POST(self):
        self.pass_on("POST", self.body())
        if "/invocation/" in self.path:
            self.server.turns.next()

    def body(self):
        if "chunked" not in self.headers.get("transfer-encoding", ""):
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def pass_on(self, method, body):
        upstream = http.client.HTTPConnection(UPSTREAM)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP}
        upstream.request(method, self.path, body, headers)
        answer = upstream.getresponse()
        content = answer.read()
        upstream.close()
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in HOP:
                self.send_header(name, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        """Says nothing: the log is the functions' own."""


def main():
    programs = json.loads((Path(__file__).parent / "programs.json").read_text())
    turns = Turns(len(programs))
    children = [
        subprocess.Popen([program], env=os.environ | {"AWS_LAMBDA_RUNTIME_API": RuntimeApi(number, turns).address})
        for number, program in enumerate(programs)
    ]

    def end(*_):
        for child in children:
            child.kill()
        sys.exit(1)

    signal.signal(signal.SIGTERM, end)
    # The first program that ends, ends the function.
    os.wait()
    end()


if __name__ == "__main__":
    main()

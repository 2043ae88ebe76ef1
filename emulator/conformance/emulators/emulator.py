"""What the runs need of every emulator: a program with all that it starts, an address, and when it is ready."""

import atexit
import os
import random
import shutil
import signal
import socket
import subprocess
import time
import urllib.parse
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
SUITE = ROOT / "emulator/conformance"
# Where everything is installed, and where the emulators run.
PLACE = ROOT / "target/emulators"
PYTHON = PLACE / "python/bin"

REGION = "eu-central-1"
TOKEN = "conformance-on-this-machine"
STAGE = "conformance"
# Bound of every start, in seconds. A deployment is part of a start.
START_SECS_MAX = 120
# Pause between two looks at what is awaited, in seconds: the resolution of start-up times.
LOOK_SECS = 0.005
# How long a program may take to stop before it is killed, in seconds.
STOP_SECS_MAX = 10


class NotReady(Exception):
    """An emulator ended, or was not ready in time."""


class Program:
    """A program with all that it starts, in a process group of its own."""

    def __init__(self, command, directory, env, prefix=()):
        self.log = directory / "log.txt"
        self.started = time.monotonic()
        everything = {"PATH": f"{PYTHON}:{os.environ['PATH']}", "HOME": str(directory), "LANG": "C.UTF-8", **env}
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [*prefix, *map(str, command)],
                cwd=directory,
                env=everything,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        # Also after an error or Ctrl-C.
        atexit.register(self.stop)

    def wait_for(self, what, found):
        """Waits until `found` returns something, and returns it."""
        while not (result := found()):
            if self.process.poll() is not None:
                raise NotReady(f"{what}: the program ended with {self.process.returncode}, see {self.log}")
            if time.monotonic() > self.started + START_SECS_MAX:
                raise NotReady(f"{what}: not within {START_SECS_MAX} s, see {self.log}")
            time.sleep(LOOK_SECS)
        return result

    def said(self, text):
        """The line that begins with a text, once it was printed."""
        lines = self.log.read_text(errors="replace").splitlines(keepends=True)
        return next((line for line in lines if line.startswith(text) and line.endswith("\n")), None)

    def resident_mb(self):
        """Resident memory of the program and all that it has started, in MB of 1,000,000 bytes."""
        parents, resident = {}, {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            number = int(path.parent.name)
            parents[number], resident[number] = int(fields[1]), int(fields[21]) * os.sysconf("SC_PAGE_SIZE")

        def belongs(number):
            return number == self.process.pid or (number in parents and belongs(parents[number]))

        return sum(size for number, size in resident.items() if belongs(number)) / 1e6

    def stop(self):
        atexit.unregister(self.stop)
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, number)
                self.process.wait(STOP_SECS_MAX)
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                pass
        self.process.wait()


@dataclass
class Running:
    """An emulator that runs the suite's API."""

    program: Program
    url: str
    management: str
    # None where it has no such API.
    http_api: str = None
    rest_api: str = None
    region: str = REGION
    key: str = "test"
    secret: str = "test"
    # What a client has to be started with to find the address.
    prefix: list = field(default_factory=list)
    # Name and port of the server, where the name of the address means nothing on this machine.
    server: tuple = None
    startup_secs: float = None

    def wait_for_handshake(self, status=b"101"):
        """Waits for a handshake's response with a status, and keeps the time since the program's start."""
        self.program.wait_for("a handshake", lambda: self.handshake().startswith(b"HTTP/1.1 " + status))
        self.startup_secs = time.monotonic() - self.program.started

    def handshake(self):
        """The beginning of the response to a handshake, which is empty while there is no server."""
        address = urllib.parse.urlsplit(self.url)
        request = (
            f"GET {address.path or '/'} HTTP/1.1\r\nHost: {address.netloc}\r\nConnection: Upgrade\r\n"
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: c3RhcnQtdXAgdGltZS4uLg==\r\n"
            f"X-Conformance: {TOKEN}\r\n\r\n"
        )
        try:
            with socket.create_connection(self.server or (address.hostname, address.port), START_SECS_MAX) as client:
                client.sendall(request.encode())
                return client.recv(1024)
        except OSError:
            return b""

    def stop(self):
        self.program.stop()


class Emulator:
    """One that the table compares."""

    name = None
    # Where it is from, as a link.
    home = None
    # Parts of names or files of cases that cannot be tried, with the reason.
    unsupported = {}

    def __init__(self):
        self.directory = PLACE / type(self).__module__

    @property
    def version(self):
        raise NotImplementedError

    def install(self):
        """Brings the pinned version, unless it is here."""

    def start(self, parameters):
        """Starts it with these parameters of the template. Returns None if it cannot express them."""
        raise NotImplementedError


def free_ports(count):
    """Ports that are free, outside of the range from which Linux takes those of clients."""
    ports = []
    while len(ports) < count:
        port = random.randrange(20_000, 32_000)
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        if port not in ports:
            ports.append(port)
    return ports


def fresh(directory):
    """Empties a directory."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return directory


def npm_ci(folder, directory):
    """Installs what a folder's lock file pins into a directory."""
    lock = folder / "package-lock.json"
    installed = directory / "node_modules/.installed"
    if installed.exists() and installed.read_bytes() == lock.read_bytes():
        return
    fresh(directory)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(folder / name, directory)
    command = ["npm", "ci", "--silent", "--no-fund", "--no-audit", "--ignore-scripts"]
    subprocess.run(command, cwd=directory, check=True)
    shutil.copy(lock, installed)

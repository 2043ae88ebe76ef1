"""A Docker daemon for tests that `with-docker` runs."""

import contextlib
import fcntl
import os
import socket
import struct
import subprocess
import tempfile
import time
from pathlib import Path

# Bound of the start and the end of the daemon, in seconds.
WAIT_MAX = 60


class NoDocker(Exception):
    """Docker cannot be had, for this reason."""


@contextlib.contextmanager
def started():
    """Starts a daemon where the test has none. Yields why there is no Docker, or None."""
    with contextlib.ExitStack() as stack:
        reason = None
        match os.environ["DOCKER"]:
            case "own":
                directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                try:
                    stack.callback(Daemon(directory).stop)
                except NoDocker as error:
                    reason = str(error)
            case "none":
                reason = "no Docker daemon runs here, and starting one needs root, dockerd and unshare"
        yield reason


class Daemon:
    """A daemon in the namespaces of this process, see `with-docker`."""

    def __init__(self, directory):
        raise_loopback()
        self.group = f"viral-alerts-{time.time_ns()}"
        address = f"unix://{directory}/docker.sock"
        os.environ["DOCKER_HOST"] = address
        places = [f"--{name}={directory / name}" for name in ("data-root", "exec-root", "pidfile")]
        # Containers call only this machine, so nothing has to be translated.
        options = ["--iptables=false", "--ip6tables=false", "--ip-masq=false", f"--cgroup-parent=/{self.group}"]
        output = directory / "log"
        with output.open("w") as log:
            command = ["dockerd", "--host", address, *places, *options]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + WAIT_MAX
        while subprocess.run(["docker", "info"], capture_output=True).returncode != 0:
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise NoDocker(f"dockerd does not start here: {output.read_text()[-1000:]}")

    def stop(self):
        self.process.terminate()
        self.process.wait(WAIT_MAX)
        # runc removes the groups of containers, not their parent: of each controller, or the only one of version 2.
        for parent in [*Path("/sys/fs/cgroup").glob(f"*/{self.group}"), Path("/sys/fs/cgroup") / self.group]:
            if parent.exists():
                parent.rmdir()


def raise_loopback():
    """Switches the loopback interface of a new network namespace on."""
    set_flags, is_up_and_runs = 0x8914, 0x41
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, set_flags, struct.pack("16sH14x", b"lo", is_up_and_runs))

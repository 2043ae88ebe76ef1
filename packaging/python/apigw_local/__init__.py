"""Starts the program apigw-local, which this package has in it, and leads Python to it."""

import json
import os
import shlex
import shutil
import site
import subprocess
import sysconfig
import threading
import urllib.error
import urllib.request
from pathlib import Path

__all__ = ["Emulator", "EmulatorError", "program", "running", "start"]

# What the emulator is started for, and ends with: it says that it is ready, and waits until nobody can write to it any
# more, which happens however this process ends. Ctrl-C is for the tests, which use the emulator until they have ended.
WAITS = 'trap "" INT; echo "ready $APIGW_LOCAL_HTTP_URL"; exec cat'

# How long it may take to stop, in seconds. It finishes what functions do, and ends them after that.
STOP_MAX = 30
# How long an answer may take, in seconds. A reset gives up after 30 by itself.
ANSWER_MAX = 40


class EmulatorError(Exception):
    """The emulator did not start, or did not do what it was asked."""


class Emulator:
    """An emulator that is ready. As a context manager it stops at the end."""

    def __init__(self, http_url, process=None):
        self.http_url = http_url.rstrip("/")
        """Address of the HTTP API, without a slash at its end."""
        self._process = process
        words = shlex.split(self._ask("GET", "/inspector/env"), comments=True)
        self.env = dict(word.split("=", 1) for word in words if word != "export")
        """The variables that lead AWS clients and functions to it, by their names."""
        self.ws_url = self.env["APIGW_LOCAL_WS_URL"]
        """Address of the WebSocket API, with its stage."""

    def reset(self):
        """Closes all connections, waits for what functions do, and empties tables, streams and queues."""
        self._ask("POST", "/reset")

    def stop(self):
        """Stops it. One that was running before is left alone."""
        if self._process is None:
            return
        _end(self._process, STOP_MAX)

    def _ask(self, method, path):
        request = urllib.request.Request(self.http_url + path, method=method)
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_MAX) as response:
                return response.read().decode()
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            try:
                text = json.loads(text)["message"]
            except (ValueError, KeyError, TypeError):
                pass  # The text is from another server: it is shown as it is.
            raise EmulatorError(f"apigw-local refused {method} {path} ({error.code}): {text}") from None
        except OSError as error:
            raise EmulatorError(f"no apigw-local answers at {self.http_url}: {error}") from error

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def _end(process, seconds):
    """Ends the program and its command, which waits for the end of its input. Kills it after these seconds."""
    process.stdin.close()
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
    finally:
        process.stdout.close()


def program():
    """Returns the path of the program: that of this environment, of this user, or the first one in PATH."""
    for scripts in (sysconfig.get_path("scripts"), Path(site.getuserbase()) / "bin"):
        if (path := Path(scripts) / "apigw-local").is_file():
            return str(path)
    if path := shutil.which("apigw-local"):
        return path
    raise EmulatorError("the program apigw-local is missing: install this package again with pip install apigw-local")


def running():
    """Returns the emulator whose address is in the environment, as `apigw-local exec` sets it, or None."""
    http_url = os.environ.get("APIGW_LOCAL_HTTP_URL")
    return Emulator(http_url) if http_url else None


def start(template=".", args=(), timeout=60):
    """Starts an emulator on free ports, and returns it once it is ready.

    `args` are further flags. What it notes and logs goes to stderr. It ends with this process. Raises EmulatorError if
    it ends before, or has not become ready after `timeout` seconds.
    """
    # Functions in Python run in the environment of this one, also if it is not activated.
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)])
    command = [program(), "exec", "--template", str(template), *args, "--", "sh", "-c", WAITS]
    process = subprocess.Popen(
        command, env={**os.environ, "PATH": path}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    is_late = threading.Event()

    def give_up():
        is_late.set()
        process.kill()

    timer = threading.Timer(timeout, give_up)
    timer.start()
    try:
        for line in process.stdout:
            if line.startswith("ready "):
                return Emulator(line.split()[1], process)
    except BaseException:
        _end(process, 0)
        raise
    finally:
        timer.cancel()
    code = _end(process, STOP_MAX)
    why = f"was not ready after {timeout} s" if is_late.is_set() else f"ended with {code}"
    raise EmulatorError(f"apigw-local {why}, and said why on stderr. The command was: {shlex.join(command)}")

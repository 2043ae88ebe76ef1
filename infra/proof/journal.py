"""The file that says what a proof may have left in an account, and who is at work on it.

It is written before anything is created, and deleted once everything is gone. Two locks tell whether a proof runs: one
is the proof's own, the other one is inherited by its commands, which may outlive a proof that was killed.
"""

import contextlib
import fcntl
import json
import os
import time
from pathlib import Path

FILE = "proof.json"
# Bound of the wait for commands of a proof that was killed, in seconds.
COMMANDS_SECS_MAX = 1_800


class Busy(Exception):
    """Another proof runs. The message says what to do."""


class Journal:
    """The state of a proof in a directory: a JSON object, replaced as a whole."""

    def __init__(self, directory):
        self.directory = Path(directory)
        self.path = self.directory / FILE
        self._commands = None
        self._own = None

    def __enter__(self):
        self.directory.mkdir(parents=True, exist_ok=True)
        self._own = self._locked("run.lock", "another `make proof` or `make proof-clean` runs in this checkout", 0)
        self._commands = self._locked("commands.lock", "commands of the last proof still run", COMMANDS_SECS_MAX)
        return self

    def __exit__(self, *failure):
        # What is closed is unlocked, unless a command still holds it.
        os.close(self._commands)
        os.close(self._own)

    def _locked(self, name, who, secs_max):
        lock = os.open(self.directory / name, os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + secs_max
        told = False
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return lock
            if time.monotonic() >= deadline:
                os.close(lock)
                raise Busy(f"{who}: wait for it to end")
            if not told:
                print(f"{who}: waiting", flush=True)
                told = True
            time.sleep(0.2)

    @property
    def inherited(self):
        """The lock that every command has to inherit."""
        return self._commands

    def read(self):
        """Returns what the last proof wrote, or None if it has left nothing."""
        try:
            return json.loads(self.path.read_text())
        except FileNotFoundError:
            return None

    def write(self, state):
        """Replaces the state. It is on the disk when this returns."""
        new = self.path.with_suffix(".new")
        with open(new, "w") as file:
            json.dump(state, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, self.path)
        # The new name has to be on the disk, too.
        directory = os.open(self.directory, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)

    def clear(self):
        self.path.unlink(missing_ok=True)

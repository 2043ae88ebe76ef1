"""The image in which the functions run."""

import contextlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
import docker_daemon

# The image that stands for Lambda's, which cannot be pulled everywhere and whose C library may be older than that of
# the machine that built the functions.
REPOSITORY = "viral-alerts-sam"
IMAGE = f"{REPOSITORY}:base"
# Bound of the import, in seconds.
WAIT_MAX = 60
# What the build of sam on top of the image runs.
PROGRAMS = ("sh", "mv", "chmod")
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


@contextlib.contextmanager
def started():
    """Makes the image where there is Docker. Yields why there is none, or None."""
    with contextlib.ExitStack() as stack:
        reason = stack.enter_context(docker_daemon.started())
        if reason is None:
            stack.callback(remove_images)
            make_image()
            if not sees_files():
                reason = "the Docker daemon that runs here is another machine's: it does not see the files of this one"
        yield reason


def make_image():
    """Makes the image from the libraries of this machine that the functions and the build of sam need."""
    publish = Path(__file__).parents[2] / "target/debug/publish"
    programs = [shutil.which(program) for program in PROGRAMS]
    # Commands would be pulled, so they are files of this machine.
    linked = subprocess.run(["ldd", *programs, publish], check=True, capture_output=True, text=True).stdout.split()
    files = {word for word in linked if word.startswith("/") and not word.endswith(":")} | {CERTIFICATES}
    importing = subprocess.Popen(["docker", "import", "-", IMAGE], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    with importing.stdin as stdin, tarfile.open(fileobj=stdin, mode="w|") as archive:
        for name in ("opt", "tmp", "var", "var/rapid", "var/task"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o777
            archive.addfile(folder)
        for file in sorted(files):
            archive.add(os.path.realpath(file), file)
        for program in programs:
            archive.add(os.path.realpath(program), f"bin/{Path(program).name}")
    if importing.wait(WAIT_MAX) != 0:
        raise AssertionError("docker import failed")


def sees_files():
    """Returns whether a container can have a directory of this machine, as functions have."""
    mount = f"--volume={Path(__file__).parent}:/seen:ro"
    command = ["docker", "run", "--rm", mount, IMAGE, "/bin/sh", "-c", "test -f /seen/docker.py"]
    return subprocess.run(command, capture_output=True).returncode == 0


def remove_images():
    """Removes the image, and what sam made of it."""
    names = subprocess.run(["docker", "image", "ls", "--quiet", REPOSITORY], capture_output=True, text=True).stdout
    if names:
        subprocess.run(["docker", "image", "rm", "--force", *names.split()], capture_output=True)


def containers():
    """Returns the names of the containers that run the image."""
    command = ["docker", "ps", "--all", "--filter", f"ancestor={REPOSITORY}:rapid-{processor()}", "--quiet"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def processor():
    """Returns the processor of this machine as Lambda names it."""
    return "arm64" if platform.machine() in ("aarch64", "arm64") else "x86_64"

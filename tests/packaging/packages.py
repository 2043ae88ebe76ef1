"""The packages, and the places where they are installed.

They are made from the program that `cargo build` made, or those of a release in the directory that PACKAGES names.
"""

import atexit
import functools
import hashlib
import http.server
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import tomllib
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parents[2]
_ABOUT = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]
VERSION = _ABOUT["version"]
# As a workflow names the action of this version.
ACTION = f"{_ABOUT['repository'].removeprefix('https://github.com/')}@v{VERSION}"
BUILD = [sys.executable, "-B", str(ROOT / "packaging/build.py")]
MACHINE = os.uname().machine
PLATFORM = {"x86_64": "linux-x64", "aarch64": "linux-arm64", "arm64": "darwin-arm64"}[MACHINE]

# Bound of every program that is run, in seconds.
WAIT_MAX = 120

# What Rust calls the platforms.
TARGETS = {
    "linux-x64": "x86_64-unknown-linux-gnu",
    "linux-arm64": "aarch64-unknown-linux-gnu",
    "darwin-arm64": "aarch64-apple-darwin",
}

# What is enough of a program for the packages of other platforms, which nobody starts here.
OTHERS = {
    "linux-x64": b"\x7fELF" + bytes(14) + (62).to_bytes(2, "little") + b"\0GLIBC_2.17",
    "linux-arm64": b"\x7fELF" + bytes(14) + (183).to_bytes(2, "little") + b"\0GLIBC_2.17",
    "darwin-arm64": b"\xcf\xfa\xed\xfe" + (0x0100000C).to_bytes(4, "little"),
}


def run(*command, cwd, env, status=0):
    """Runs a program that ends with this status, and returns what it printed, stdout and stderr together."""
    command = [str(word) for word in command]
    kept = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
    ended = subprocess.run(command, cwd=cwd, env=env, text=True, timeout=WAIT_MAX, **kept)
    assert ended.returncode == status, f"{command} ended with {ended.returncode}:\n{ended.stdout}"
    return ended.stdout


@functools.cache
def work():
    """A directory in which Node.js finds the modules of this folder, as it looks in all parents."""
    parent = ROOT / "target/packaging"
    parent.mkdir(parents=True, exist_ok=True)
    directory = pathlib.Path(tempfile.mkdtemp(dir=parent))
    atexit.register(shutil.rmtree, directory)
    (directory / "node_modules").symlink_to(ROOT / "tests/packaging/node_modules")
    return directory


def project(name):
    """A new directory of a project that uses npm, which would else look for one in the parents."""
    directory = work() / name
    directory.mkdir()
    (directory / "package.json").write_text('{"private": true}')
    return directory


@functools.cache
def made():
    """The directory with all packages of a release."""
    if released := os.environ.get("PACKAGES"):
        return pathlib.Path(released)
    out, binary = work() / "packages", work() / "binary"
    # A release has no symbols either, and packing them takes longer than everything else here.
    subprocess.run(["strip", "-o", binary, ROOT / "target/debug/apigw-local"], check=True)
    for platform in OTHERS:
        build_program(platform, binary if platform == PLATFORM else other(platform), out)
    build("launcher", "--out", out)
    build("python-client", "--out", out)
    return out


def build(*arguments, status=0):
    """Runs packaging/build.py."""
    return run(*BUILD, *arguments, cwd=ROOT, env=os.environ, status=status)


def build_program(platform, binary, out, status=0):
    """Makes the two packages of a program."""
    given = {"--platform": platform, "--binary": binary, "--notices": notices(), "--out": out}
    return build("program", *(word for pair in given.items() for word in pair), status=status)


@functools.cache
def notices():
    """What the program of this platform contains."""
    path = work() / "NOTICES"
    path.write_text(run(ROOT / "packaging/notices.py", TARGETS[PLATFORM], cwd=ROOT, env=os.environ))
    return path


def other(platform):
    """What passes for a program of a platform."""
    path = work() / platform
    path.write_bytes(OTHERS[platform])
    return path


def environment(**variables):
    """What a machine without Rust has, on which nothing but the packages can be fetched."""
    path = os.pathsep.join([str(pathlib.Path(shutil.which("node")).parent), "/usr/bin", "/bin"])
    assert shutil.which("cargo", path=path) is None, path
    home = work() / "home"
    home.mkdir(exist_ok=True)
    return {"PATH": path, "HOME": str(home), **variables}


# --- npm --------------------------------------------------------------------------------------------------------------


class Registry(http.server.ThreadingHTTPServer):
    """A registry with these packages and no others, as npm asks it."""

    def __init__(self, packages):
        super().__init__(("127.0.0.1", 0), Answers)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.files = {path.name: path.read_bytes() for path in packages.glob("*.tgz")}
        self.documents = {}
        for name, content in self.files.items():
            with tarfile.open(packages / name) as archive:
                manifest = json.load(archive.extractfile("package/package.json"))
            manifest["dist"] = {"tarball": f"{self.url}/-/{name}", "shasum": hashlib.sha1(content).hexdigest()}
            self.documents[manifest["name"]] = {
                "name": manifest["name"],
                "dist-tags": {"latest": manifest["version"]},
                "versions": {manifest["version"]: manifest},
            }
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        *_, name = urllib.parse.unquote(self.path).split("/")
        if self.path.startswith("/-/"):
            content = self.server.files.get(name)
        else:
            document = self.server.documents.get(name)
            content = json.dumps(document).encode() if document else None
        self.send_response(200 if content else 404)
        self.send_header("content-length", str(len(content or b"")))
        self.end_headers()
        self.wfile.write(content or b"")

    def log_message(self, *_):
        pass


@functools.cache
def npm_environment():
    settings = {"registry": Registry(made()).url, "audit": "false", "fund": "false", "update_notifier": "false"}
    return environment(**{f"npm_config_{name}": value for name, value in settings.items()})


@functools.cache
def application():
    """A directory in which npm has installed apigw-local. Those below find it too."""
    directory = project("application")
    run("npm", "install", "--save-dev", "apigw-local", cwd=directory, env=npm_environment())
    return directory


# --- pip --------------------------------------------------------------------------------------------------------------


def install(wheel, directory, *options):
    """Makes a virtual environment in this directory, and installs a wheel there, without network."""
    run(sys.executable, "-m", "venv", "--without-pip", directory, cwd=ROOT, env=environment())
    pip = [sys.executable, "-m", "pip", "--python", directory / "bin/python", "--disable-pip-version-check"]
    run(*pip, "install", "--no-index", *options, wheel, cwd=ROOT, env=environment())


def add_tools(directory):
    """Lets a virtual environment find what tests need beside the wheel."""
    (packages,) = directory.glob("lib/python*/site-packages")
    (tools,) = (ROOT / "target/tools").glob("lib/python*/site-packages")
    (packages / "tools.pth").write_text(f"{tools}\n")


def environment_with_wheel(directory):
    """Makes a virtual environment in this directory with apigw-local."""
    (wheel,) = made().glob(f"*_{MACHINE}.whl")
    install(wheel, directory)


@functools.cache
def virtual_environment():
    """A virtual environment with the wheel, which also finds pytest and what tests need beside it."""
    directory = work() / "venv"
    environment_with_wheel(directory)
    add_tools(directory)
    return directory


def activated():
    """What a machine has on which this environment is activated."""
    kept = environment()
    return kept | {"PATH": os.pathsep.join([str(virtual_environment() / "bin"), kept["PATH"]])}

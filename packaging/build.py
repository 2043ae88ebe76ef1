#!/usr/bin/env python3
"""Makes the packages that are released. Standard library and npm only; the browser client needs `npm ci` in client/.

    packaging/build.py program --binary FILE --notices FILE --platform linux-x64 --out DIRECTORY
    packaging/build.py launcher --out DIRECTORY
    packaging/build.py client --out DIRECTORY
    packaging/build.py python-client --out DIRECTORY
    packaging/build.py image --binary FILE --notices FILE --platform linux-x64 --out DIRECTORY
    packaging/build.py check --tag v0.1.0 --repository NAME/NAME

The first makes a package for npm and a wheel from a program of apigw-local that is built already, the second the
package for npm that people install, the third that of the browser client, the fourth the wheel of the client in
Python, the fifth an image for containers from a program that contains its libc, with Docker, and the sixth says
whether a tag may be released. packaging/notices.py writes the notices of what is in a program.

Version, licence and address come from Cargo.toml. All packages of a release have the same program in them, the one
that was tested and attested: maturin would compile it again for each wheel.
"""

import argparse
import base64
import csv
import hashlib
import io
import json
import os
import pathlib
import re
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
import tomllib
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
NAME = "apigw-local"
LICENCES = ["LICENSE-APACHE", "LICENSE-MIT"]
NOTICES = "NOTICES"

# Node.js' name of each platform, with how its programs begin: the number of the processor in the header of ELF or
# Mach-O, and what wheels call it.
PLATFORMS = {
    "linux-x64": ("elf", 62, "x86_64"),
    "linux-arm64": ("elf", 183, "aarch64"),
    "darwin-arm64": ("mach-o", 0x0100000C, "arm64"),
}
# The oldest macOS that Rust's programs for arm64 start on.
MACOS = "11_0"

# The time of every file in a wheel, so that the same files make the same wheel.
TIME = (1980, 1, 1, 0, 0, 0)


class Refused(Exception):
    """Why no package can be made, and what to do."""


def project():
    """What Cargo.toml says about all packages of the workspace, and the description of the emulator's."""
    workspace = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]
    if not re.fullmatch(r"\d+\.\d+\.\d+", workspace["version"]):
        raise Refused(f"version {workspace['version']} in Cargo.toml: expected three numbers, such as 0.1.0")
    emulator = tomllib.loads((ROOT / "emulator/Cargo.toml").read_text())["package"]
    return {**workspace, "description": emulator["description"]}


def check_processor(program, platform):
    """Refuses a program for another platform: nobody could start it."""
    kind, expected, _ = PLATFORMS[platform]
    if program[:4] == b"\x7fELF":
        found = ("elf", struct.unpack_from("<H", program, 18)[0])
    elif program[:4] == b"\xcf\xfa\xed\xfe":
        found = ("mach-o", struct.unpack_from("<I", program, 4)[0])
    else:
        found = ("no program", program[:4])
    if found != (kind, expected):
        raise Refused(f"the binary is not for {platform}: expected {(kind, expected)} in its header, found {found}")


def wheel_platform(program, platform):
    """What wheels call a platform. On Linux that names the glibc that the program needs, read from its symbols."""
    _, _, processor = PLATFORMS[platform]
    if platform.startswith("darwin"):
        return f"macosx_{MACOS}_{processor}"
    versions = re.findall(rb"\0GLIBC_(\d+)\.(\d+)", program)
    if not versions:
        raise Refused("the binary names no version of glibc: only programs that link it dynamically are packaged")
    major, minor = max((int(major), int(minor)) for major, minor in versions)
    return f"manylinux_{major}_{minor}_{processor}"


def check_release(about, tag, repository):
    """Refuses to release what the packages would not say of themselves."""
    if tag != f"v{about['version']}":
        raise Refused(f"the tag {tag} is not the version of Cargo.toml: expected v{about['version']}")
    if about["repository"] != f"https://github.com/{repository}":
        raise Refused(
            f"repository = \"{about['repository']}\" in Cargo.toml is not where this runs: "
            f"expected https://github.com/{repository}"
        )


# --- npm --------------------------------------------------------------------------------------------------------------


def npm_manifest(name, description, about):
    return {
        "name": name,
        "version": about["version"],
        "description": description,
        "license": about["license"],
        "homepage": f"{about['repository']}#readme",
        "repository": {"type": "git", "url": f"git+{about['repository']}.git"},
        "author": about["authors"][0],
    }


def npm_pack(manifest, files, out):
    """Packs files, by their names in the package, as `npm publish` does."""
    with tempfile.TemporaryDirectory() as directory:
        folder = pathlib.Path(directory)
        for name, source in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, folder / name)
        (folder / "package.json").write_text(json.dumps(manifest, indent=2) + "\n")
        command = ["npm", "pack", "--json", "--ignore-scripts", "--pack-destination", str(out.resolve())]
        packed = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, check=True)
        return out / json.loads(packed.stdout)[0]["filename"]


def npm_platform(binary, notices, platform, about, out):
    system, processor = platform.split("-")
    description = f"The program of {NAME} for {platform}. Install {NAME}, which depends on it."
    manifest = npm_manifest(f"{NAME}-{platform}", description, about) | {
        "os": [system],
        "cpu": [processor],
        # Yarn's Plug'n'Play would keep it in a zip file.
        "preferUnplugged": True,
    }
    if system == "linux":
        manifest["libc"] = ["glibc"]
    files = {f"bin/{NAME}": binary, NOTICES: notices, "README.md": HERE / "npm/platform.md"}
    return npm_pack(manifest, files | {name: ROOT / name for name in LICENCES}, out)


def npm_launcher(about, out):
    manifest = npm_manifest(NAME, about["description"], about) | {
        "keywords": ["api-gateway", "aws", "emulator", "lambda", "local", "sam", "serverless", "testing", "websocket"],
        "bin": {NAME: f"{NAME}.js"},
        "engines": {"node": ">=18"},
        "optionalDependencies": {f"{NAME}-{platform}": about["version"] for platform in PLATFORMS},
    }
    files = {f"{NAME}.js": HERE / "npm/apigw-local.js", "README.md": HERE / "npm/README.md"}
    return npm_pack(manifest, files | {name: ROOT / name for name in LICENCES}, out)


def npm_client(about, out):
    """The browser client, with source maps, which lie beside the modules in the package only."""
    client = ROOT / "client"
    manifest = json.loads((client / "package.json").read_text())
    files = {name: client / name for name in ["README.md", *manifest.pop("files")]}
    # What is of use in the repository only.
    for field in ("private", "scripts", "devDependencies"):
        del manifest[field]
    about_it = npm_manifest(manifest["name"], manifest["description"], about)
    about_it["repository"]["directory"] = "client"
    with tempfile.TemporaryDirectory() as directory:
        folder = pathlib.Path(directory)
        subprocess.run(["node", "build.mjs", "--package", folder], cwd=client, check=True)
        files |= {path.name: path for path in folder.iterdir()}
        return npm_pack(manifest | about_it, files, out)


# --- PyPI -------------------------------------------------------------------------------------------------------------

ENTRY_POINTS = """\
[pytest11]
apigw_local = apigw_local.pytest_plugin
"""


def wheel_metadata(name, description, about, licences, further):
    return [
        "Metadata-Version: 2.4",
        f"Name: {name}",
        f"Version: {about['version']}",
        f"Summary: {description}",
        f"Author: {about['authors'][0]}",
        f"License-Expression: {about['license']}",
        *(f"License-File: {licence}" for licence in licences),
        f"Project-URL: Repository, {about['repository']}",
        *further,
        "Description-Content-Type: text/markdown",
    ]


def readme_for_pypi(path, about):
    """A README with links that lead to the files of the release, because PyPI does not have them."""
    files = f"{about['repository']}/blob/v{about['version']}"
    folder = path.parent.relative_to(ROOT)
    lead = lambda link: f"]({files}/{os.path.normpath(folder / link[1])}"
    return re.sub(r"\]\((?![a-z]+:|#)([^)#]+)", lead, path.read_text())


def write_wheel(stem, tag, metadata, readme, files, out):
    """Writes a wheel as https://packaging.python.org/en/latest/specifications/binary-distribution-format/ says."""
    is_pure = str(tag.endswith("-any")).lower()
    about_wheel = ["Wheel-Version: 1.0", f"Generator: {NAME}", f"Root-Is-Purelib: {is_pure}", f"Tag: {tag}", ""]
    files = files | {
        f"{stem}.dist-info/METADATA": "\n".join([*metadata, "", readme]).encode(),
        f"{stem}.dist-info/WHEEL": "\n".join(about_wheel).encode(),
        **{f"{stem}.dist-info/licenses/{name}": (ROOT / name).read_bytes() for name in LICENCES},
    }
    record = io.StringIO()
    rows = csv.writer(record, lineterminator="\n")
    for name, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        rows.writerow([name, f"sha256={digest}", len(content)])
    rows.writerow([f"{stem}.dist-info/RECORD", "", ""])
    files[f"{stem}.dist-info/RECORD"] = record.getvalue().encode()
    path = out / f"{stem}-{tag}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, TIME)
            entry.compress_type = zipfile.ZIP_DEFLATED
            # pip makes a program executable only where the entry says that it is a regular file, too.
            mode = stat.S_IFREG | (0o755 if "/scripts/" in name else 0o644)
            entry.external_attr = mode << 16
            archive.writestr(entry, content)
    return path


def wheel(binary, notices, platform, about, out):
    """The wheel of apigw-local for one platform, with its fixture for pytest."""
    program = binary.read_bytes()
    stem = f"apigw_local-{about['version']}"
    further = ["Classifier: Framework :: Pytest", "Requires-Python: >=3.9"]
    metadata = wheel_metadata(NAME, about["description"], about, [*LICENCES, NOTICES], further)
    modules = sorted((HERE / "python/apigw_local").glob("*.py"))
    files = {
        f"{stem}.data/scripts/{NAME}": program,
        **{f"apigw_local/{path.name}": path.read_bytes() for path in modules},
        f"{stem}.dist-info/entry_points.txt": ENTRY_POINTS.encode(),
        f"{stem}.dist-info/licenses/{NOTICES}": notices.read_bytes(),
    }
    tag = f"py3-none-{wheel_platform(program, platform)}"
    return write_wheel(stem, tag, metadata, readme_for_pypi(HERE / "python/README.md", about), files, out)


def python_client(about, out):
    """The wheel of the client in Python, which its pyproject.toml describes."""
    client = ROOT / "client/python"
    own = tomllib.loads((client / "pyproject.toml").read_text())["project"]
    further = [
        "Classifier: Framework :: AsyncIO",
        "Classifier: Typing :: Typed",
        f"Requires-Python: {own['requires-python']}",
        *(f"Requires-Dist: {dependency}" for dependency in own["dependencies"]),
    ]
    metadata = wheel_metadata(own["name"], own["description"], about, LICENCES, further)
    package = client / "viral_alerts"
    modules = [*sorted(package.glob("*.py")), package / "py.typed"]
    files = {f"viral_alerts/{path.name}": path.read_bytes() for path in modules}
    readme = readme_for_pypi(client / "README.md", about)
    return write_wheel(f"viral_alerts-{about['version']}", "py3-none-any", metadata, readme, files, out)


# --- Containers -------------------------------------------------------------------------------------------------------

CERTIFICATES = pathlib.Path("/etc/ssl/certs/ca-certificates.crt")
# The type of an entry in the table of ELF that names the loader of shared libraries.
INTERPRETER = 3


def needs_libraries(program):
    """Whether a program for 64 bits names a loader of shared libraries, which an empty image does not have."""
    (table,) = struct.unpack_from("<Q", program, 32)
    size, count = struct.unpack_from("<HH", program, 54)
    return any(struct.unpack_from("<I", program, table + n * size)[0] == INTERPRETER for n in range(count))


def image(binary, notices, platform, about, out):
    """Writes an image that `docker load` reads."""
    program = binary.read_bytes()
    if not platform.startswith("linux") or needs_libraries(program):
        raise Refused(f"{binary} needs libraries: build it for Linux with RUSTFLAGS='-C target-feature=+crt-static'")
    if not CERTIFICATES.exists():
        raise Refused(f"{CERTIFICATES} is missing: install ca-certificates")
    path = out / f"{NAME}-{about['version']}-{platform}.image.tar"
    tag = f"{NAME}:{about['version']}-{platform}"
    labels = {"title": NAME, "description": about["description"], "licenses": about["license"]}
    labels |= {"version": about["version"], "source": about["repository"]}
    words = (f"--label=org.opencontainers.image.{name}={value}" for name, value in labels.items())
    processor = {"x64": "amd64"}.get(platform.split("-")[1], "arm64")
    with tempfile.TemporaryDirectory() as directory:
        shutil.copy(binary, pathlib.Path(directory) / NAME)
        shutil.copy(notices, pathlib.Path(directory) / NOTICES)
        for file in (CERTIFICATES, HERE / "container/Dockerfile", *(ROOT / name for name in LICENCES)):
            shutil.copy(file, directory)
        build = ["docker", "build", "--quiet", f"--platform=linux/{processor}", f"--tag={tag}", *words, directory]
        subprocess.run(build, stdout=subprocess.DEVNULL, check=True)
    subprocess.run(["docker", "save", f"--output={path}", tag], check=True)
    return path


# --- Together ---------------------------------------------------------------------------------------------------------


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    program = commands.add_parser("program", help="a package for npm and a wheel, with the program in them")
    container = commands.add_parser("image", help="an image for containers, with the program in it")
    for command in (program, container):
        command.add_argument("--binary", type=pathlib.Path, required=True)
        command.add_argument("--notices", type=pathlib.Path, required=True)
        command.add_argument("--platform", choices=PLATFORMS, required=True)
    launcher = commands.add_parser("launcher", help="the package for npm that picks one of the others")
    check = commands.add_parser("check", help="whether a tag may be released from a repository of GitHub")
    check.add_argument("--tag", required=True)
    check.add_argument("--repository", required=True)
    client = commands.add_parser("client", help="the package of the browser client for npm")
    python = commands.add_parser("python-client", help="the wheel of the client in Python")
    for command in (program, launcher, client, python, container):
        command.add_argument("--out", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    try:
        about = project()
        if arguments.command == "check":
            check_release(about, arguments.tag, arguments.repository)
            return
        arguments.out.mkdir(parents=True, exist_ok=True)
        if arguments.command == "launcher":
            made = [npm_launcher(about, arguments.out)]
        elif arguments.command == "client":
            made = [npm_client(about, arguments.out)]
        elif arguments.command == "python-client":
            made = [python_client(about, arguments.out)]
        else:
            check_processor(arguments.binary.read_bytes(), arguments.platform)
            given = (arguments.binary, arguments.notices, arguments.platform, about, arguments.out)
            made = [image(*given)] if arguments.command == "image" else [wheel(*given), npm_platform(*given)]
    except Refused as refused:
        sys.exit(f"error: {refused}")
    print(*made, sep="\n")


if __name__ == "__main__":
    main()

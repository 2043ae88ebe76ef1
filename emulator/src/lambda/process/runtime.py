"""The Lambda runtime for Python: AWS's awslambdaric, with the API's AWS address redirected to the emulator."""

import os
import runpy
import socket
import sys
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
    SourcelessFileLoader,
)


def redirect():
    """Redirects connections to the API's AWS address to the emulator's gateway."""
    name, host, port = (os.environ.pop("LOCAL_EXECUTE_API", "").split(" ") + ["", ""])[:3]
    if not port:
        return
    resolve = socket.getaddrinfo

    def getaddrinfo(wanted, wanted_port, *args, **kwargs):
        text = wanted.decode() if isinstance(wanted, bytes) else wanted
        if isinstance(text, str) and text.startswith(name):
            return resolve(host, int(port), *args, **kwargs)
        return resolve(wanted, wanted_port, *args, **kwargs)

    socket.getaddrinfo = getaddrinfo


def redirect_layers():
    """Finds what code imports from /opt in the directories of the layers."""
    layers = [layer for layer in os.environ.pop("LOCAL_LAYERS", "").split(os.pathsep) if layer]

    def hook(entry):
        for layer in layers if entry == "/opt" or entry.startswith("/opt/") else []:
            directory = layer + entry[len("/opt") :]
            if os.path.isdir(directory):
                return FileFinder(
                    directory,
                    (ExtensionFileLoader, EXTENSION_SUFFIXES),
                    (SourceFileLoader, SOURCE_SUFFIXES),
                    (SourcelessFileLoader, BYTECODE_SUFFIXES),
                )
        raise ImportError(entry)

    sys.path_hooks.insert(0, hook)


if __name__ == "__main__":
    redirect()
    redirect_layers()
    # Python puts the directory of this file first in the path, but the function's own must be first.
    sys.path[0] = os.environ["LAMBDA_TASK_ROOT"]
    runpy.run_module("awslambdaric", run_name="__main__", alter_sys=True)

"""The Lambda runtime for Python: AWS's awslambdaric, with the API's AWS address redirected to the emulator."""

import os
import runpy
import socket
import sys


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


if __name__ == "__main__":
    redirect()
    # Python puts the directory of this file first in the path, but the function's own must be first.
    sys.path[0] = os.environ["LAMBDA_TASK_ROOT"]
    runpy.run_module("awslambdaric", run_name="__main__", alter_sys=True)

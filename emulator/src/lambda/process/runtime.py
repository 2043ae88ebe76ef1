"""The Lambda runtime for Python: the one of AWS (awslambdaric), with the API's address in the cloud leading here."""

import os
import runpy
import socket
import sys


def redirect():
    """Code that names the API's address in the cloud reaches the local gateway, as it would reach the API there."""
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
    # The directory of this file comes first in the path; the function's own has to.
    sys.path[0] = os.environ["LAMBDA_TASK_ROOT"]
    runpy.run_module("awslambdaric", run_name="__main__", alter_sys=True)

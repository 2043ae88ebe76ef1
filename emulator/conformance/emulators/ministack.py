"""ministack, an emulator of AWS in Python."""

import importlib.metadata
import urllib.error
import urllib.request

from cloudformation import Account
from emulator import PYTHON, REGION, STAGE, Emulator, Program, Running, free_ports, fresh

# Types that its CloudFormation does not support, though its API does.
UNKNOWN = ("AWS::ApiGatewayV2::RouteResponse", "AWS::ApiGatewayV2::IntegrationResponse")


class Ministack(Emulator):
    name = "ministack"
    home = "https://pypi.org/project/ministack/"
    unsupported = {"services": "routes of WebSocket APIs lead to Lambda or MOCK, as its source says"}

    @property
    def version(self):
        return importlib.metadata.version("ministack")

    def start(self, parameters):
        directory = fresh(self.directory)
        # The address of an API has its id in the host name, which only a hosts file resolves here. It is seen by the
        # programs of this run and by no others.
        hosts = directory / "hosts"
        hosts.write_text("127.0.0.1 localhost\n")
        prefix = ["unshare", "--map-root-user", "--mount", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"']
        prefix.append(str(hosts))
        (port,) = free_ports(1)
        url = f"http://127.0.0.1:{port}"
        env = {"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "MINISTACK_REGION": REGION, "AUTH": "true"}
        env |= {"AWS_ENDPOINT_URL": url, "TMPDIR": str(fresh(directory / "tmp"))}
        env |= {"S3_DATA_DIR": str(fresh(directory / "s3"))}
        program = Program([PYTHON / "ministack"], directory, env, prefix)
        program.wait_for("ministack", lambda: answers(f"{url}/_ministack/ready"))
        account = Account(url)
        left_out, ids = account.deploy(parameters, UNKNOWN)
        account.add_responses(left_out, ids)
        sockets, http, rest = (f"{ids[name]}.execute-api.localhost" for name in ("Api", "Http", "Rest"))
        hosts.write_text(f"127.0.0.1 localhost {sockets} {http} {rest}\n")
        management = f"http://{sockets}:{port}/{STAGE}"
        account.lead_functions_to(management)
        return Running(
            program,
            f"ws://{sockets}:{port}/{STAGE}",
            management,
            f"http://{http}:{port}",
            f"http://{rest}:{port}/{STAGE}",
            prefix=prefix,
            server=("127.0.0.1", port),
        )


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.status == 200
    except (urllib.error.URLError, ConnectionError):
        return False

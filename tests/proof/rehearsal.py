"""`make proof` against ministack instead of an account: rehearsal.py ADDRESS CHECKOUT CASES, then as prove.py.

It differs from a proof only in what ministack lacks, or has at another address. Of the conformance suite it runs the
cases whose name or file contains CASES, which may be empty.
"""

import os
import sys
from pathlib import Path

import yaml
from samtranslator.yaml_helper import yaml_parse

ROOT = Path(__file__).parents[2]
sys.path += [str(ROOT / "infra/proof"), str(ROOT / "tests/outside")]

import prove  # noqa: E402
from cloud import CONFORMANCE, Addresses, Cloud, SuiteAddresses  # noqa: E402
from emulator import REGION, UNSUPPORTED, Account  # noqa: E402

# Names of cases that ministack cannot pass: its WebSocket routes lead to Lambda or MOCK.
SKIPPED = ("services",)


class Rehearsal(Cloud):
    """An account in ministack, and a checkout whose functions come from `cargo build`."""

    account: Account
    checkout: Path
    cases: str

    def __init__(self, *arguments):
        super().__init__(*arguments, root=self.checkout)

    def deploy(self, push_rate):
        # The policy of sam's bucket requires TLS, which ministack does not have. This upload fails by it.
        options = ["--resolve-s3", "--s3-prefix", self.name, "--template-file", "infra/proof/clients.yaml"]
        options += ["--output-template-file", os.devnull]
        self.run("sam", "package", *options, allowed=(0, 1))
        self.account.allow_artifacts_without_tls()
        super().deploy(push_rate)

    def addresses(self):
        sockets, http = self.account.complete(self.name)
        return Addresses(sockets, f"{http}/publish")

    def conformance_template(self):
        """Writes the suite's template without what ministack does not support."""
        directory = self.root / CONFORMANCE
        directory.mkdir(parents=True, exist_ok=True)
        template = yaml_parse((ROOT / CONFORMANCE / "template.yaml").read_text())
        for name, resource in list(template["Resources"].items()):
            if resource["Type"] in UNSUPPORTED:
                del template["Resources"][name]
        if not (directory / "functions").exists():
            (directory / "functions").symlink_to(ROOT / CONFORMANCE / "functions")
        path = directory / "template.yaml"
        path.write_text(yaml.dump(template, sort_keys=False))
        return path

    def variants(self):
        # One that changes the stack, too.
        return [{}, {"DefaultRoute": "absent"}]

    def deploy_conformance(self, parameters, token):
        super().deploy_conformance(parameters, token)
        stack = f"{self.name}-conformance"
        resources = self.account.resources(stack)
        base = f"{self.account.url}/_aws/execute-api"
        sockets, http, rest = (f"{base}/{resources[api]}" for api in ("Api", "Http", "Rest"))
        management = f"{sockets}/conformance"
        functions = self.account.client("lambda")
        names = [each["FunctionName"] for each in functions.list_functions()["Functions"]]
        for name in (name for name in names if name.startswith(stack)):
            variables = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
            variables["AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI"] = management
            functions.update_function_configuration(FunctionName=name, Environment={"Variables": variables})
        return SuiteAddresses(management.replace("http", "ws", 1), management, http, f"{rest}/conformance")

    def conformance_program(self):
        skipped = [option for text in SKIPPED for option in ("--skip", text)]
        only = ["--only", self.cases] if self.cases else []
        return [ROOT / "target/debug/conformance", *skipped, *only]


def main(address, checkout, cases, *arguments):
    Rehearsal.account, Rehearsal.checkout, Rehearsal.cases = Account(address), Path(checkout), cases
    os.environ |= {
        "PATH": f"{ROOT / 'target/tools/bin'}:{os.environ['PATH']}",
        "AWS_ENDPOINT_URL": Rehearsal.account.url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": REGION,
        "SAM_CLI_TELEMETRY": "0",
    }
    sys.exit(prove.main(arguments, directory=Path(checkout) / ".proof", cloud_of=Rehearsal))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Starts ministack, and makes a checkout whose `make` deploys into it."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import boto3
import yaml
from samtranslator.yaml_helper import yaml_parse

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from built import lay_out  # noqa: E402

REGION = "eu-central-1"
# Bound of every wait, in seconds.
WAIT_MAX = 120

# What ministack lacks.
GAPS = yaml.safe_load((Path(__file__).parent / "gaps.yaml").read_text())
# Types that its CloudFormation does not know and that `complete` creates.
UNSUPPORTED = [name for name, instead in GAPS["types"].items() if instead == "created through its API"]

# `sam` of the checkout. It skips `sam build`, because the functions come from `cargo build`.
SAM = f"""#!/bin/sh
[ "$1" = build ] || exec {ROOT}/target/tools/bin/sam "$@"
"""
# Python of the checkout, which has the modules of the tools.
PYTHON = f"""#!/bin/sh
exec {ROOT}/target/tools/bin/python "$@"
"""


class Account:
    """The account of a ministack that runs at this address."""

    def __init__(self, address):
        self.address, self.url = address, f"http://{address}"

    def session(self, key="test", secret="test"):
        """Returns a session of the root user, or of the user with this key."""
        return boto3.Session(aws_access_key_id=key, aws_secret_access_key=secret, region_name=REGION)

    def client(self, service, session=None):
        return (session or self.session()).client(service, endpoint_url=self.url)

    def user(self, name, *policies):
        """Creates a user with only these managed policies and returns its session."""
        iam = self.client("iam")
        iam.create_user(UserName=name)
        for policy in policies:
            iam.attach_user_policy(UserName=name, PolicyArn=policy)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return self.session(key["AccessKeyId"], key["SecretAccessKey"])

    def deployer(self):
        """Creates a user with only the policy of infra/deployer.yaml and returns its session."""
        stack = "permissions"
        cloudformation = self.client("cloudformation")
        template = (ROOT / "infra/deployer.yaml").read_text()
        cloudformation.create_stack(StackName=stack, TemplateBody=template, Capabilities=["CAPABILITY_IAM"])
        cloudformation.get_waiter("stack_create_complete").wait(StackName=stack, WaiterConfig={"Delay": 1})
        return self.user("deployer", self.outputs(stack)["DeployerPolicyArn"])

    def resources(self, stack):
        """Returns the physical ids of a stack's resources, by logical id."""
        pages = self.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=stack)
        summaries = (summary for page in pages for summary in page["StackResourceSummaries"])
        return {summary["LogicalResourceId"]: summary["PhysicalResourceId"] for summary in summaries}

    def outputs(self, stack):
        (description,) = self.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
        return {output["OutputKey"]: output["OutputValue"] for output in description["Outputs"]}

    def exists(self, stack):
        summaries = self.client("cloudformation").list_stacks()["StackSummaries"]
        names = {summary["StackName"] for summary in summaries if summary["StackStatus"] != "DELETE_COMPLETE"}
        return stack in names

    def bucket(self):
        """Returns the name of sam's bucket for artifacts."""
        return self.resources("aws-sam-cli-managed-default")["SamCliSourceBucket"]

    def allow_artifacts_without_tls(self):
        """Removes the policy of sam's bucket, which requires TLS. ministack has no TLS."""
        self.client("s3").delete_bucket_policy(Bucket=self.bucket())

    def artifacts(self, stack):
        """Returns the keys under the name of a stack in sam's bucket."""
        listed = self.client("s3").list_objects_v2(Bucket=self.bucket(), Prefix=f"{stack}/")
        return {item["Key"] for item in listed.get("Contents", [])}

    def complete(self, stack):
        """Creates through ministack's API what its CloudFormation left out. Returns the addresses of both APIs."""
        resources = self.resources(stack)
        gateway, functions = self.client("apigatewayv2"), self.client("lambda")
        sockets, http = resources["WebSocketApi"], resources["HttpApi"]
        for route in gateway.get_routes(ApiId=sockets)["Items"]:
            if route.get("RouteResponseSelectionExpression"):
                gateway.create_route_response(ApiId=sockets, RouteId=route["RouteId"], RouteResponseKey="$default")
        gateway.create_integration_response(
            ApiId=sockets,
            IntegrationId=resources["PingIntegration"],
            IntegrationResponseKey="/200/",
            TemplateSelectionExpression="\\$default",
            ResponseTemplates={"$default": '{"type":"pong"}'},
        )
        if gateway.get_routes(ApiId=http)["Items"]:
            raise AssertionError("ministack makes routes of an OpenAPI document by now: remove them from gaps.yaml")
        for route, function, authorization in (
            ("POST /publish", "PublishFunction", "AWS_IAM"),
            ("POST /webhook", "PublishFunction", "NONE"),
            ("GET /alerts", "AlertsFunction", "NONE"),
        ):
            arn = functions.get_function_configuration(FunctionName=resources[function])["FunctionArn"]
            integration = gateway.create_integration(
                ApiId=http,
                IntegrationType="AWS_PROXY",
                IntegrationMethod="POST",
                PayloadFormatVersion="2.0",
                IntegrationUri=f"arn:aws:apigateway:{REGION}:lambda:path/2015-03-31/functions/{arn}/invocations",
            )
            target = f"integrations/{integration['IntegrationId']}"
            gateway.create_route(ApiId=http, RouteKey=route, AuthorizationType=authorization, Target=target)
        # In the template, deliver posts to AWS.
        deliver = resources["DeliverFunction"]
        variables = functions.get_function_configuration(FunctionName=deliver)["Environment"]["Variables"]
        variables["AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI"] = f"{self.url}/_aws/execute-api/{sockets}/prod"
        functions.update_function_configuration(FunctionName=deliver, Environment={"Variables": variables})
        return f"ws://{self.address}/_aws/execute-api/{sockets}/prod", f"{self.url}/_aws/execute-api/{http}"


class Ministack(Account):
    """ministack on a free local port, with IAM switched on."""

    def __init__(self, directory):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        super().__init__(f"127.0.0.1:{port}")
        places = {name: str(directory / name) for name in ("S3_DATA_DIR", "TMPDIR", "HOME")}
        for place in places.values():
            Path(place).mkdir()
        env = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(port),
            "MINISTACK_HOST": "127.0.0.1",
            "MINISTACK_REGION": REGION,
            "AUTH": "true",
            # Its own names of Event APIs would end with MINISTACK_HOST, with which they are no URLs.
            "APPSYNC_EVENTS_HTTP_HOST_TEMPLATE": "{api_id}.appsync-api.{region}.localhost:{port}",
            "APPSYNC_EVENTS_REALTIME_HOST_TEMPLATE": "{api_id}.appsync-realtime-api.{region}.localhost:{port}",
            # ministack passes this on to functions.
            "AWS_ENDPOINT_URL": self.url,
            **places,
        }
        self.log = directory / "ministack.log"
        program = Path(sys.executable).parent / "ministack"
        with open(self.log, "w") as log:
            self.process = subprocess.Popen([program], env=env, stdout=log, stderr=log)
        wait("ministack", lambda: urllib.request.urlopen(f"{self.url}/_ministack/ready", timeout=5).status == 200)

    def stop(self):
        self.process.terminate()
        self.process.wait(WAIT_MAX)


class Checkout:
    """A directory with the Makefile, a template that ministack supports, and functions from `cargo build`."""

    def __init__(self, directory, emulator):
        self.directory, self.emulator = directory, emulator
        tools = directory / "target/tools"
        for place in (tools / "bin", directory / "tests"):
            place.mkdir(parents=True)
        for name in ("Makefile", "samconfig.toml", "infra"):
            (directory / name).symlink_to(ROOT / name)
        (directory / "tests/requirements.txt").touch()
        (tools / "requirements.txt").touch()
        for program, text in (("sam", SAM), ("python", PYTHON)):
            (tools / "bin" / program).write_text(text)
            (tools / "bin" / program).chmod(0o755)
        built = lay_out(supported((ROOT / "template.yaml").read_text()), directory)
        shutil.copy(built / "template.yaml", directory)

    def make(self, *arguments, session=None):
        """Runs make without a terminal, so it cannot ask, and returns its output."""
        return self.run("make", *arguments, session=session)

    def run(self, *command, session=None, directory=None):
        credentials = (session or self.emulator.session()).get_credentials()
        env = {
            "PATH": f"{self.directory}/target/tools/bin:{os.environ['PATH']}",
            "HOME": str(self.directory),
            "AWS_ACCESS_KEY_ID": credentials.access_key,
            "AWS_SECRET_ACCESS_KEY": credentials.secret_key,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": self.emulator.url,
            "SAM_CLI_TELEMETRY": "0",
        }
        directory = directory or self.directory
        ran = subprocess.run(command, cwd=directory, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if ran.returncode != 0:
            raise AssertionError(f"{' '.join(map(str, command))} failed\n{ran.stdout[-2000:]}\n{ran.stderr[-2000:]}")
        return ran.stdout

    def publisher(self, stack, **parameters):
        """Deploys tests/publisher."""
        code = self.directory / stack
        shutil.copytree(ROOT / "tests/publisher", code)
        overrides = [f"{name}={value}" for name, value in parameters.items()]
        sam = ROOT / "target/tools/bin/sam"
        options = ["--stack-name", stack, "--s3-prefix", stack, "--resolve-s3", "--region", REGION]
        options += ["--capabilities", "CAPABILITY_IAM"]
        self.run(sam, "deploy", *options, "--parameter-overrides", *overrides, directory=code)


def supported(text):
    """Returns the template without what ministack does not support, and without short forms of functions."""
    template = yaml_parse(text)
    for name, resource in list(template["Resources"].items()):
        match resource:
            case {"Type": kind} if kind in UNSUPPORTED:
                del template["Resources"][name]
            case {"Type": "AWS::IAM::RolePolicy"}:
                resource["Type"] = "AWS::IAM::Policy"
                resource["Properties"]["Roles"] = [resource["Properties"].pop("RoleName")]
            case {"Type": kind, "Properties": given} if GAPS["properties"].get(kind, {}).get("name") in given:
                del template["Resources"][name]
            case {"Type": "AWS::IAM::ManagedPolicy", "Properties": {"PolicyDocument": {"Statement": statements}}}:
                for statement in statements:
                    if statement["Action"] in GAPS["condition_keys"]:
                        del statement["Condition"]
    return template


def wait(what, is_ready):
    """Waits until a server that is starting is ready."""
    deadline = time.monotonic() + WAIT_MAX
    while True:
        try:
            if is_ready():
                return
        except (urllib.error.URLError, ConnectionError):
            pass
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} is not ready after {WAIT_MAX} s")
        time.sleep(0.1)

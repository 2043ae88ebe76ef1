"""Deploys the suite's template into an emulator of AWS."""

import io
import time
import zipfile

import boto3
import yaml
from samtranslator.yaml_helper import yaml_parse

from emulator import REGION, START_SECS_MAX, SUITE, TOKEN

STACK = "conformance"
BUCKET = "conformance-code"
CODE = "functions.zip"


class Account:
    """An account in an emulator of AWS, at this address."""

    def __init__(self, url):
        self.url = url

    def client(self, service):
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": REGION}
        return boto3.client(service, endpoint_url=self.url, **keys)

    def deploy(self, parameters, unknown=()):
        """Creates the stack without resources of unknown types. Returns these and the physical ids of the others."""
        template = yaml_parse((SUITE / "template.yaml").read_text())
        resources = template["Resources"]
        left_out = [resources.pop(name) for name, resource in [*resources.items()] if resource["Type"] in unknown]
        template["Globals"]["Function"]["CodeUri"] = f"s3://{BUCKET}/{CODE}"
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as code:
            code.write(SUITE / "functions/app.py", "app.py")
        storage = self.client("s3")
        storage.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        storage.put_object(Bucket=BUCKET, Key=CODE, Body=packed.getvalue())
        stacks = self.client("cloudformation")
        given = {"Token": TOKEN, **parameters}
        stacks.create_stack(
            StackName=STACK,
            TemplateBody=yaml.safe_dump(template, sort_keys=False),
            Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in given.items()],
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
        )
        deadline = time.monotonic() + START_SECS_MAX
        while (stack := stacks.describe_stacks(StackName=STACK)["Stacks"][0])["StackStatus"] != "CREATE_COMPLETE":
            if stack["StackStatus"] != "CREATE_IN_PROGRESS" or time.monotonic() > deadline:
                raise RuntimeError(f"the stack is {stack['StackStatus']}: {stack.get('StackStatusReason')}")
            time.sleep(0.05)
        listed = stacks.describe_stack_resources(StackName=STACK)["StackResources"]
        # ministack puts the id of the API before that of a route.
        return left_out, {each["LogicalResourceId"]: each["PhysicalResourceId"].split("/")[-1] for each in listed}

    def add_responses(self, left_out, ids):
        """Creates route responses and integration responses that CloudFormation left out."""
        gateway = self.client("apigatewayv2")
        for resource in left_out:
            properties = {
                name: ids.get(value["Ref"]) if isinstance(value, dict) and "Ref" in value else value
                for name, value in resource["Properties"].items()
            }
            # Of a route that these parameters leave out.
            if None in properties.values():
                continue
            if resource["Type"] == "AWS::ApiGatewayV2::RouteResponse":
                gateway.create_route_response(**properties)
            else:
                gateway.create_integration_response(**properties)

    def lead_functions_to(self, management):
        """Tells the functions where @connections is. The template's address is in the cloud."""
        functions = self.client("lambda")
        for function in functions.list_functions()["Functions"]:
            variables = function["Environment"]["Variables"]
            variables["AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI"] = management
            functions.update_function_configuration(
                FunctionName=function["FunctionName"], Environment={"Variables": variables}
            )

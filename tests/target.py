"""Prints shell variables for the smoke test: the addresses of a stack, and credentials to sign with.

The argument is the name of a stack, or both addresses: wss://…/prod,https://…/publish
"""

import os
import shlex
import sys

import boto3


def addresses(session, stack):
    (description,) = session.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in description["Outputs"]}
    return f"{outputs['WebSocketUrl']},{outputs['PublishUrl']}"


def main(target):
    # Alone among the AWS clients boto3 reads only AWS_DEFAULT_REGION.
    session = boto3.Session(region_name=os.environ.get("AWS_REGION"))
    variables = {"E2E_TARGET": target if "://" in target else addresses(session, target)}
    # Those of a profile too, which the test itself does not read. The local mode needs none.
    if credentials := session.get_credentials():
        frozen = credentials.get_frozen_credentials()
        variables |= {"AWS_ACCESS_KEY_ID": frozen.access_key, "AWS_SECRET_ACCESS_KEY": frozen.secret_key}
        variables["AWS_SESSION_TOKEN"] = frozen.token or ""
    if session.region_name:
        variables["AWS_REGION"] = session.region_name
    for name, value in variables.items():
        print(f"export {name}={shlex.quote(value)}")


if __name__ == "__main__":
    main(sys.argv[1])

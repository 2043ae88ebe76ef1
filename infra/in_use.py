"""Fails if another stack uses an export of a stack: python infra/in_use.py STACK

CloudFormation would refuse to delete such a stack, but sam would already have deleted its artifacts.
"""

import sys

import boto3
from botocore.exceptions import ClientError


def importers(cloudformation, stack):
    """Yields the stacks that use an export of `stack`."""
    pages = cloudformation.get_paginator("list_exports").paginate()
    exports = [export for page in pages for export in page["Exports"]]
    for export in exports:
        # The id of a stack is an ARN: …:stack/NAME/UUID
        if export["ExportingStackId"].split("/")[1] != stack:
            continue
        try:
            for page in cloudformation.get_paginator("list_imports").paginate(ExportName=export["Name"]):
                yield from page["Imports"]
        except ClientError as error:
            if "is not imported" not in str(error):
                raise


def main(stack):
    used_by = sorted(set(importers(boto3.client("cloudformation"), stack)))
    if used_by:
        names = ", ".join(used_by)
        sys.exit(f"cannot delete {stack}: {names} uses it; run `make domain STACK=OTHER`, or delete {names} first")


if __name__ == "__main__":
    main(sys.argv[1])

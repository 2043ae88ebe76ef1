"""Fails where another stack uses what a stack exports. CloudFormation would refuse to delete it, but sam deletes its artifacts before."""

import sys

import boto3
from botocore.exceptions import ClientError


def importers(cloudformation, stack):
    """The stacks that use an export of this one."""
    pages = cloudformation.get_paginator("list_exports").paginate()
    exports = [export for page in pages for export in page["Exports"]]
    for export in exports:
        # The id of a stack is an ARN: …:stack/NAME/UUID.
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
        sys.exit(f"{stack} is not deleted, because {names} uses it: make domain leads its names to another stack, make delete STACK={names} ends them")


if __name__ == "__main__":
    main(sys.argv[1])

"""Takes away everything that a proof may have created. It can be repeated, and begun at any moment."""

import re
import time

from botocore.exceptions import ClientError

# Every stack of a proof has this tag, with the name of the proof.
TAG = "viral-alerts-proof"
# Names of proofs. infra/deployer.yaml allows what begins so.
PREFIX = "viral-alerts-proof-"
NAME = re.compile(PREFIX + "[0-9a-f]{6}")
# The stacks of a proof, by what follows its name. Those that use others are deleted first.
SUFFIXES = ("-clients", "-conformance", "")
# The stack that `sam deploy` makes once per account and region, with a bucket for all stacks.
SAM_STACK = "aws-sam-cli-managed-default"

# Bound of the wait for a stack, in seconds.
STACK_SECS_MAX = 1_200
WAIT_SECS = 2
# Attempts to delete a stack whose deletion failed.
ATTEMPTS = 3


class Left(Exception):
    """Something could not be deleted. The message says what, and why."""


def stack_status(cloudformation, stack):
    """Returns the status of a stack, or None if there is none."""
    try:
        (description,) = cloudformation.describe_stacks(StackName=stack)["Stacks"]
    except ClientError as error:
        if "does not exist" in str(error):
            return None
        raise
    status = description["StackStatus"]
    return None if status == "DELETE_COMPLETE" else status


def proofs(cloudformation, say):
    """Returns the names of all proofs that have left a stack, by its tag."""
    names = set()
    try:
        for page in cloudformation.get_paginator("describe_stacks").paginate():
            for stack in page["Stacks"]:
                if stack["StackStatus"] != "DELETE_COMPLETE":
                    tags = {tag["Key"]: tag["Value"] for tag in stack.get("Tags", [])}
                    names |= {tags[TAG]} if NAME.fullmatch(tags.get(TAG, "")) else set()
    except ClientError as error:
        # infra/deployer.yaml does not allow to list all stacks.
        say(f"cannot look for stacks by their tag: {error}")
    return names


def deleted_stack(cloudformation, stack):
    """Deletes a stack in whatever state it is, and waits until it is gone."""
    deadline = time.monotonic() + STACK_SECS_MAX
    attempts = 0
    while (status := stack_status(cloudformation, stack)) is not None:
        if time.monotonic() > deadline:
            raise Left(f"stack {stack} is still {status} after {STACK_SECS_MAX} s")
        # A stack that is being created can be deleted, one that is being updated cannot.
        if not status.endswith("_IN_PROGRESS") or status in ("CREATE_IN_PROGRESS", "REVIEW_IN_PROGRESS"):
            if attempts == ATTEMPTS:
                raise Left(f"stack {stack} is {status} after {ATTEMPTS} attempts to delete it")
            attempts += 1
            cloudformation.delete_stack(StackName=stack)
        wait_for_end(cloudformation, stack, deadline)


def wait_for_end(cloudformation, stack, deadline):
    """Waits while something happens to a stack."""
    time.sleep(WAIT_SECS)
    while (stack_status(cloudformation, stack) or "").endswith("_IN_PROGRESS") and time.monotonic() < deadline:
        time.sleep(WAIT_SECS)


def sam_bucket(cloudformation):
    """Returns the bucket of sam, or None if there is none."""
    if stack_status(cloudformation, SAM_STACK) is None:
        return None
    resource = cloudformation.describe_stack_resource(StackName=SAM_STACK, LogicalResourceId="SamCliSourceBucket")
    return resource["StackResourceDetail"].get("PhysicalResourceId")


def emptied(s3, bucket, prefix):
    """Deletes all versions of the objects under a prefix. Without a bucket there are none."""
    try:
        for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix):
            found = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
            objects = [{"Key": each["Key"], "VersionId": each["VersionId"]} for each in found]
            if objects:
                answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True})
                if errors := answer.get("Errors"):
                    raise Left(f"{len(errors)} objects of {bucket}/{prefix}: {errors[0]['Message']}")
    except s3.exceptions.NoSuchBucket:
        return


def log_groups(logs, name):
    """Returns the log groups of a proof: those of the template, and those that functions make by themselves."""
    found = set()
    for prefix in (f"/aws/lambda/{name}", f"/aws/vendedlogs/{name}", name):
        for page in logs.get_paginator("describe_log_groups").paginate(logGroupNamePrefix=prefix):
            found |= {group["logGroupName"] for group in page["logGroups"]}
    return sorted(found)


def remove(session, name, sam_existed, say):
    """Deletes the stacks of a proof, its artifacts and logs, and sam's bucket if the proof was the first to need it.

    Raises Left for the first thing that does not go.
    """
    if not NAME.fullmatch(name):
        raise Left(f"`{name}` is not the name of a proof")
    cloudformation, s3, logs = (session.client(service) for service in ("cloudformation", "s3", "logs"))
    for suffix in SUFFIXES:
        if stack_status(cloudformation, name + suffix) is not None:
            say(f"deleting the stack {name}{suffix}")
            deleted_stack(cloudformation, name + suffix)
    if bucket := sam_bucket(cloudformation):
        say(f"deleting the artifacts in {bucket}")
        for suffix in SUFFIXES:
            emptied(s3, bucket, f"{name}{suffix}/")
        if not sam_existed and not s3.list_objects_v2(Bucket=bucket, MaxKeys=1).get("KeyCount"):
            say(f"deleting the stack {SAM_STACK}, which was not there before")
            emptied(s3, bucket, "")
            deleted_stack(cloudformation, SAM_STACK)
    elif not sam_existed and stack_status(cloudformation, SAM_STACK) is not None:
        deleted_stack(cloudformation, SAM_STACK)
    for group in log_groups(logs, name):
        say(f"deleting the log group {group}")
        logs.delete_log_group(logGroupName=group)

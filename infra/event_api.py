"""The template for regions without Event APIs.

CloudFormation refuses a template with a type of resource that its region does not have, also where a condition leaves
that resource out. So `make deploy` builds template.yaml without its Event API there, and Delivery has one value.
"""

import os
from pathlib import Path

import yaml

CONDITION = "HasEvents"

# Regions without AWS::AppSync::Api, as cfn-lint knows them.
LACKING = frozenset({"ap-east-2", "ap-southeast-6", "mx-central-1", "us-gov-east-1", "us-gov-west-1"})

# Beside template.yaml, because paths in a template are relative to it.
WITHOUT = Path("template.without-event-api.yaml")


def region():
    """Returns the region that sam will use, if any is set."""
    if named := os.environ.get("AWS_DEFAULT_REGION"):
        return named
    # It takes a while to import, and reads the region of a profile.
    from botocore.session import Session

    return Session().get_config_variable("region")


def template():
    """Returns the template to build in the region of this shell: None for template.yaml as it is, or else a file that
    is written here.
    """
    if (here := region()) not in LACKING:
        return None
    WITHOUT.write_text(without(Path("template.yaml").read_text()))
    print(f"{here} has no Event APIs: {WITHOUT} is built instead of template.yaml, and Delivery is gateway", flush=True)
    return WITHOUT


def without(text):
    """Returns a template without what is there with an Event API alone. It loses its comments."""
    root = _pruned(yaml.compose(text))
    delivery = _entry(_entry(root, "Parameters"), "Delivery")
    _entry(delivery, "AllowedValues").value = [yaml.ScalarNode("tag:yaml.org,2002:str", "gateway")]
    return yaml.serialize(root, width=1_000_000)


def _pruned(node):
    if node.tag == "!If" and node.value[0].value == CONDITION:
        return _pruned(node.value[2])
    if isinstance(node, yaml.MappingNode):
        kept = [(key, value) for key, value in node.value if not _is_conditional(value)]
        node.value = [(key, _pruned(value)) for key, value in kept]
    elif isinstance(node, yaml.SequenceNode):
        node.value = [_pruned(item) for item in node.value]
    return node


def _is_conditional(node):
    """Whether a resource or an output is there with an Event API alone."""
    if not isinstance(node, yaml.MappingNode):
        return False
    return any(key.value == "Condition" and value.value == CONDITION for key, value in node.value)


def _entry(node, name):
    return next(value for key, value in node.value if key.value == name)

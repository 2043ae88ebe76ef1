"""Lays functions from `cargo build` out as `sam build` does, which would compile each of them again."""

import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]


def lay_out(template, directory):
    """Writes a template and its functions to `.aws-sam/build` in a directory, and returns that."""
    built = directory / ".aws-sam/build"
    built.mkdir(parents=True)
    for name, resource in template["Resources"].items():
        if resource["Type"] == "AWS::Serverless::Function":
            (built / name).mkdir()
            binary = ROOT / "target/debug" / resource["Metadata"]["BuildProperties"]["Binary"]
            subprocess.run(["strip", "-o", built / name / "bootstrap", binary], check=True)
            resource["Properties"]["CodeUri"] = name
    (built / "template.yaml").write_text(yaml.dump(template, sort_keys=False))
    return built

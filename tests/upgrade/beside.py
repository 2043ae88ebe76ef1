"""Writes a template whose functions are mediators between two programs: beside.py FIRST SECOND DIRECTORY.

FIRST and SECOND have the programs that cargo built, of two versions. FIRST gets the first invocation of each function.
A function that one of them does not have has one program.
"""

import json
import shutil
import sys
from pathlib import Path

import yaml
from samtranslator.yaml_helper import yaml_parse

ROOT = Path(__file__).parents[2]


def main(first, second, directory):
    first, second, directory = (Path(name).resolve() for name in (first, second, directory))
    shutil.rmtree(directory, ignore_errors=True)
    template = yaml_parse((ROOT / "template.yaml").read_text())
    for name, resource in template["Resources"].items():
        if resource["Type"] != "AWS::Serverless::Function":
            continue
        binary = resource["Metadata"]["BuildProperties"]["Binary"]
        function = directory / name
        function.mkdir(parents=True)
        programs = [str(place / binary) for place in (first, second) if (place / binary).is_file()]
        if len(programs) < 2:
            print(f"{binary} is in one version only")
        (function / "programs.json").write_text(json.dumps(programs))
        mediator = (Path(__file__).parent / "mediator.py").read_text()
        # The interpreter by its path, because a function does not have this PATH.
        (function / "bootstrap").write_text(f"#!{sys.executable} -B\n{mediator}")
        (function / "bootstrap").chmod(0o755)
        resource["Properties"]["CodeUri"] = name
    (directory / "template.yaml").write_text(yaml.dump(template, sort_keys=False))


if __name__ == "__main__":
    main(*sys.argv[1:])

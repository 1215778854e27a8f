"""
Print constraints for pip that allow only the lowest version of each dependency declared
in pyproject.toml, including those of the extras: ``lowest.py EXTRA... >FILE``.
"""

import re
import sys
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
declared = [*project["dependencies"]]
extras = sys.argv[1:]
while extras:
    for requirement in project["optional-dependencies"][extras.pop()]:
        of_ours = re.fullmatch(rf"{project['name']}\[([\w-]+)\]", requirement)
        if of_ours is None:
            declared.append(requirement)
        else:
            extras.append(of_ours[1])
for requirement in declared:
    lowest = re.fullmatch(r"([\w.-]+)>=([\w.]+)", requirement)
    if lowest is None:
        sys.exit(f"{requirement}: has to be NAME>=VERSION, so that the lowest can be tested")
    print(f"{lowest[1]}=={lowest[2]}")

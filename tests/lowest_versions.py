"""Print the lowest version that pyproject.toml states of each package, as constraints for pip.

For ``make test-lowest``. Extras count; what these packages need themselves, pip chooses.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

FLOOR = re.compile(r"([A-Za-z0-9_-]+)(?:\[[a-z0-9,]+\])?>=([0-9.]+)")
OWN = re.compile(r"vggfeat\[[a-z,]+\]")  # an extra that unites others


def lowest(pyproject: Path) -> list[str]:
    """Return a line ``name==version`` for each package named in any list."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    floors: dict[str, str] = {}
    for stated in (one for wanted in lists for one in wanted if not OWN.fullmatch(one)):
        found = FLOOR.fullmatch(stated)
        if found is None:
            raise ValueError(f"{stated!r} states no floor; write it as 'name>=version'.")
        name, version = found.groups()
        if floors.setdefault(name, version) != version:
            raise ValueError(f"{name} has two floors, {floors[name]} and {version}.")
    return [f"{name}=={version}" for name, version in sorted(floors.items())]


if __name__ == "__main__":
    print("\n".join(lowest(Path(sys.argv[1]))))

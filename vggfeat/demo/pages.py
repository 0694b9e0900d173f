"""The pages of the documentation that explain each part of the demo's report."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

_DOCS = Path(__file__).parents[2] / "docs"
PARTS = {
    "extracted": ("images.md", "layers-and-names.md"),
    "sweeps": ("choosing.md",),
    "probed": ("probes.md", "labels.md"),
    "searched": ("search.md", "what-is-a-copy.md"),
    "alike": ("explain.md",),
    "commands": ("commands.md",),
    "settings": ("weights.md", "crash-safety.md"),
}
"""Names in docs/, by the part of the report."""


class DocsPage(NamedTuple):
    """A page that explains something.

    Attributes
    ----------
    name : str
        Within vggfeat's source, such as ``docs/search.md``.
    uri : str
        Where it is on this machine; empty where there is only the installed package.
    """

    name: str
    uri: str


def pages(docs: Path = _DOCS, site: Path = _DOCS.parent / "site") -> dict[str, list[DocsPage]]:
    """Return the pages by part of the report: of the built site, or the files they are made of."""

    def page(name: str) -> DocsPage:
        places = (site / Path(name).with_suffix(".html"), docs / name)
        found = next((place for place in places if place.is_file()), None)
        return DocsPage(f"docs/{name}", found.as_uri() if found else "")

    return {part: [page(name) for name in names] for part, names in PARTS.items()}

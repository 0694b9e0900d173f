"""Pages about the code name files that are there."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("page", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_pages_about_the_code_name_files_that_are_there(page):
    text = (ROOT / page).read_text()
    places = [
        name
        for name in re.findall(r"`([\w./-]+)`", text)
        if name.endswith((".py", ".md", "/")) and not name.startswith(".") and name != "utils.py"
    ]
    assert len(places) > 10
    folders = (ROOT, ROOT / "vggfeat", *(ROOT / "vggfeat").glob("*/"))
    missing = [name for name in places if not any((each / name).exists() for each in folders)]
    assert not missing


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
def test_links_between_pages_lead_somewhere(page):
    file = ROOT / page
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", file.read_text())
    assert not [link for link in links if not (file.parent / link).exists()]


REFERENCE = re.compile(r":(?:mod|func|class|meth|data|attr|exc):`~?(vggfeat[\w.]*)`")


def named(reference: str) -> Any:
    """Return what a reference names; raise where there is no such thing."""
    module, _, name = reference.rpartition(".")
    try:
        return importlib.import_module(reference)
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("vggfeat"):
            raise  # of an extra that is not installed
    owner = named(module)
    fields = {*getattr(owner, "__annotations__", {})}  # of a dataclass, without a default
    return None if name in fields else getattr(owner, name)


def test_docstrings_refer_to_what_is_there():
    references: dict[str, str] = {}
    for file in (ROOT / "vggfeat").rglob("*.py"):
        for reference in REFERENCE.findall(file.read_text()):
            references[reference] = str(file.relative_to(ROOT))
    assert len(references) > 100
    missing = []
    for reference, file in references.items():
        try:
            named(reference)
        except ModuleNotFoundError:
            continue
        except AttributeError:
            missing.append((file, reference))
    assert not missing

"""Pages about the code name files that are there."""

from __future__ import annotations

import re
from pathlib import Path

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

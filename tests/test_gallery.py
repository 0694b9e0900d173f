"""The pictures of the gallery can be made, and those of the pages are these."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from browser import PROGRAM
from PIL import Image

DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.skipif(PROGRAM is None, reason="no browser: install Debian's package chromium")
def test_every_picture_is_made_in_light_and_in_dark(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(DOCS)
    import gallery

    gallery.main(tmp_path / "made")
    for name in gallery.NAMES:
        middles = {}
        for tone in gallery.TONES:
            with Image.open(tmp_path / "made" / f"{name}.{tone}.webp") as image:
                pixels = np.asarray(image.convert("L"), np.float64)
            middles[tone] = np.median(pixels)
            assert pixels.std() > 10, (name, tone)  # there is something to see
        assert middles["dark"] < 110 < 150 < middles["light"], (name, middles)
    made = {one.name for one in (tmp_path / "made").iterdir()}
    assert made == {one.name for one in (DOCS / "gallery").iterdir()}


def test_pictures_are_small_and_each_is_on_the_page():
    page = (DOCS / "gallery.md").read_text()
    kept = sorted((DOCS / "gallery").iterdir())
    assert all(f"gallery/{one.name}" in page for one in kept)
    assert max(one.stat().st_size for one in kept) < 150_000
    assert sum(one.stat().st_size for one in kept) < 1_000_000

"""A part of an image is what its text says, in pixels or in percent."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from vggfeat.errors import ImageError, SearchError
from vggfeat.regions import Region


def test_boxes_are_in_pixels_or_in_percent():
    assert Region.parse("40,25,300,200").within(640, 480) == (40, 25, 340, 225)
    assert Region.parse("25%, 50%,10.5%,0.001%").within(640, 480) == (160, 240, 227, 241)


def test_a_box_may_reach_beyond_the_image():
    assert Region.parse("-10,-20,5000,60").within(640, 480) == (0, 0, 640, 40)
    assert Region.parse("-10%,90%,100%,100%").within(640, 480) == (0, 432, 576, 480)


def test_what_is_cut_out_are_the_pixels_of_the_box():
    pixels = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
    cut = np.asarray(Region(2, 1, 3, 4).cut(Image.fromarray(pixels)))
    assert np.array_equal(cut, pixels[1:5, 2:5])


def test_a_box_is_written_as_it_is_read():
    for text in ("40,25,300,200", "10%,5%,50%,40.5%", "-3,0,7,9"):
        assert str(Region.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    ["1,2,3", "1,2,3,4,5", "1,2,3,x", "0,0,0,5", "10%,20%,0%,5%", "nan%,0%,5%,5%", "1e9%,0%,5%,5%",
     "10%,20,30,40", "%", "", "0,0,inf,5"],
)  # fmt: skip
def test_what_is_no_box_is_refused(text):
    with pytest.raises(SearchError, match="is no box: write x,y,w,h"):
        Region.parse(text)


def test_a_box_outside_of_the_image_is_refused():
    with pytest.raises(ImageError, match="700,0,5,5 has no pixel of the 640 x 480 image"):
        Region(700, 0, 5, 5).within(640, 480)

"""Promises of the page of an index, in a real browser."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from browser import PROGRAM, Browser, browsing
from PIL import Image
from test_serve import index, serving  # noqa: F401 (a fixture)

from vggfeat.index import SimilarityIndex

pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason="no browser: install Debian's package chromium"
)

SETTLED = "!!document.querySelector('#results li') && !document.querySelector('#results.busy')"
PATHS = "[...document.querySelectorAll('#results .path')].map((one) => one.textContent)"
PICK = "(name) => { label.value = name; label.dispatchEvent(new Event('change')); }"
CHOSEN = "[...document.querySelectorAll('.chosen button')].map((one) => one.dataset.name)"
STATUS = "document.querySelector('#status').textContent"


@pytest.fixture(scope="module")
def address(index):  # noqa: F811
    with serving(index) as (_, found):
        yield found


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with browsing(tmp_path_factory.mktemp("chromium")) as found:
        yield found


def drawn(browser: Browser) -> None:
    """Wait until all pictures on the screen are there."""
    browser.wait(
        "[...document.querySelectorAll('#results img')]"
        ".filter((one) => one.getBoundingClientRect().top < innerHeight)"
        ".every((one) => one.complete && one.naturalWidth > 0)"
    )


def shot(browser: Browser, tmp_path: Path, name: str) -> np.ndarray:
    """Take a picture; also keep it where VGGFEAT_SCREENSHOTS says."""
    drawn(browser)
    path = Path(os.environ.get("VGGFEAT_SCREENSHOTS", tmp_path)) / f"{name}.png"
    browser.screenshot(path)
    return np.asarray(Image.open(path).convert("L"), np.float64)


@pytest.mark.parametrize("width", [1200, 390])
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_shows_neighbours_at_every_width_in_light_and_dark(
    browser, address, tmp_path, width, dark
):
    browser.size(width, 1000, dark)
    browser.go(f"{address}?id=3&k=12")
    browser.wait(SETTLED)
    paths = browser.run(PATHS)
    assert len(paths) == 12
    assert "china/03.jpg" not in paths
    picture = shot(browser, tmp_path, f"{width}-{'dark' if dark else 'light'}")
    assert (np.median(picture) < 60) == dark
    assert picture.std() > 15  # there are pictures
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")


def test_a_photo_is_chosen_boxed_clicked_through_and_filtered(browser, address, scenes, tmp_path):
    browser.size(1200, 1000)
    browser.go(address)
    browser.wait(SETTLED)
    assert len(browser.run(PATHS)) == 24
    assert "to start from" in browser.run(STATUS)

    browser.upload("#file", scenes / "flower" / "07.jpg")
    browser.wait(f"{PATHS}[0] === 'flower/07.jpg'")
    browser.wait("document.querySelector('#query').naturalWidth > 0")
    whole = browser.run(f"{PATHS}.join()")

    area = browser.run(
        "(({x, y, width, height}) => [x, y, width, height])"
        "(document.querySelector('#query').getBoundingClientRect())"
    )
    left, top, across, down = area
    browser.mouse("Pressed", left + 0.1 * across, top + 0.1 * down)
    browser.mouse("Moved", left + 0.3 * across, top + 0.3 * down)
    browser.mouse("Released", left + 0.4 * across, top + 0.5 * down)
    browser.wait(f"{SETTLED} && {PATHS}.join() !== {whole!r}")
    box = browser.run("['left', 'top', 'width', 'height'].map((one) => parseFloat(box.style[one]))")
    assert box == pytest.approx([10, 10, 30, 40], abs=1.5)
    shot(browser, tmp_path, "box")
    browser.run("document.querySelector('#unbox').click()")
    browser.wait(f"{PATHS}[0] === 'flower/07.jpg' && document.querySelector('#box').hidden")

    second = browser.run(PATHS)[1]
    browser.run("document.querySelectorAll('.hit')[1].click()")
    browser.wait("location.search.includes('id=')")
    browser.wait(f"{SETTLED} && !{PATHS}.includes({second!r})")
    assert browser.run("document.querySelector('#what').textContent") == second

    browser.run(f"({PICK})('china')")
    browser.wait(f"{SETTLED} && {PATHS}.every((one) => one.startsWith('china/'))")
    browser.run("history.back()")
    browser.wait(f"{SETTLED} && {PATHS}.some((one) => one.startsWith('flower/'))")


def test_back_forward_reload_and_a_shared_address_bring_every_state_back(
    browser, address, scenes, tmp_path
):
    browser.size(1200, 700)
    browser.go(f"{address}?k=30")
    browser.wait(f"{SETTLED} && {PATHS}.length === 30")
    browser.upload("#file", scenes / "flower" / "07.jpg")
    browser.wait(f"{SETTLED} && {PATHS}[0] === 'flower/07.jpg'")
    states = [seen(browser)]

    def then(script: str, until: str) -> None:
        browser.run(script)
        browser.wait(f"{SETTLED} && ({until})")
        states.append(seen(browser))

    then("document.querySelectorAll('.less')[3].click()", f"{CHOSEN}.length === 1")
    then(f"({PICK})('flower')", f"{CHOSEN}.length === 2")
    then("setBox({ x: 10, y: 20, w: 50, h: 60 })", "location.search.includes('box=')")
    then("document.querySelectorAll('.hit')[9].click()", "location.search.includes('id=')")
    assert browser.run("document.querySelector('#query').src.includes('/api/thumbnail/')")
    then("setBox({ x: 0, y: 0, w: 40, h: 40 })", "location.search.includes('box=')")
    assert len({state["address"] for state in states}) == len(states)

    for state in states[-2::-1]:
        browser.run("history.back()")
        came_back(browser, state)
    for state in states[1:]:
        browser.run("history.forward()")
        came_back(browser, state)
    for state in (states[-1], states[3]):  # of an indexed image, and of a photo
        browser.tell("Page.navigate", url="about:blank")
        browser.go(state["address"])
        came_back(browser, state)
        browser.tell("Page.reload")
        came_back(browser, state)
    # Another browser, which does not have the photo.
    with browsing(tmp_path / "other") as other:
        other.go(states[-1]["address"])
        came_back(other, states[-1])
        other.go(states[0]["address"])
        other.wait(f"{SETTLED} && {STATUS}.includes('chosen in another browser')")
        assert len(other.run(PATHS)) == 30  # something to start from


def seen(browser: Browser) -> dict[str, object]:
    """Return what a person sees of a state."""
    return {
        "address": browser.run("location.href"),
        "paths": browser.run(PATHS),
        "chosen": browser.run(CHOSEN),
        "name": browser.run("what.textContent"),
        "box": browser.run("box.hidden ? '' : box.style.cssText"),
    }


def came_back(browser: Browser, state: dict[str, object]) -> None:
    browser.wait(f"document.readyState === 'complete' && location.href === {state['address']!r}")
    browser.wait(f"{SETTLED} && {PATHS}.join() === {','.join(state['paths'])!r}")
    browser.wait(f"what.textContent === {state['name']!r}")
    browser.wait("document.querySelector('#query').naturalWidth > 0")
    assert seen(browser) == state


def test_back_is_where_one_was_on_the_page(browser, address):
    browser.size(1200, 700)
    browser.go(f"{address}?k=40")
    browser.wait(SETTLED)
    browser.run("scrollTo(0, 900)")
    browser.wait("history.state?.top === 900")
    browser.run("document.querySelectorAll('.hit')[30].click()")
    browser.wait("location.search.includes('id=')")
    browser.wait(f"{SETTLED} && scrollY === 0")
    browser.run("history.back()")
    browser.wait(f"{SETTLED} && scrollY === 900")


@pytest.mark.parametrize("dark", [False, True])
def test_on_a_phone_the_results_begin_on_the_first_screen(browser, address, tmp_path, dark):
    browser.size(390, 844, dark)
    browser.go(f"{address}?id=3&k=12&path=china&label=china")
    browser.wait(f"{SETTLED} && document.querySelector('#query').naturalWidth > 0")
    top = browser.run("document.querySelector('#results').getBoundingClientRect().top")
    assert top < 844 / 2
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")
    assert browser.run("count.textContent") == " · 2"
    assert not browser.run("narrow.open")
    browser.run("document.querySelector('#narrow > summary').click()")
    browser.wait("path.checkVisibility()")
    browser.size(1200, 700)
    browser.wait("path.checkVisibility()")


def test_scores_have_as_many_digits_as_one_another(browser, address):
    browser.go(f"{address}?id=3&k=47")
    browser.wait(SETTLED)
    scores = browser.run("[...document.querySelectorAll('strong')].map((one) => one.textContent)")
    assert {len(score.lstrip("-")) for score in scores} == {6}
    digits = browser.run(
        "show([1034.12, 98.7, 3].map((score, id) => ({ score, id, path: 'a.jpg' }))),"
        "[...document.querySelectorAll('strong')].map((one) => one.textContent)"
    )
    assert digits == ["1034.1", "98.7", "3.0"]


def test_several_filters_are_chosen_and_taken_away(browser, address, tmp_path):
    browser.size(1200, 1000)
    browser.go(f"{address}?id=3&k=40")
    browser.wait(SETTLED)
    for pattern in ("*/03.jpg", "*/1?.jpg"):
        browser.run("path.focus()")
        browser.type(pattern)
        browser.key("Enter", 13)
        browser.wait(f"{SETTLED} && paths.textContent.includes({pattern!r})")
    assert len(browser.run(PATHS)) == 21  # without the query itself
    for count, name in ((11, "flower"), (21, "china")):
        browser.run(f"({PICK})({name!r})")
        browser.wait(f"{SETTLED} && {PATHS}.length === {count}")
    assert browser.run(CHOSEN) == ["path", "path", "label", "label"]
    shot(browser, tmp_path, "filters")
    asked = browser.run("location.href")
    browser.run("document.querySelector('.chosen button').click()")
    browser.wait(f"{SETTLED} && {PATHS}.length === 20")
    browser.run("document.activeElement.blur()")
    browser.key("Backspace", 8)
    browser.wait(
        f"{SETTLED} && {CHOSEN}.length === 2 && {PATHS}.every((one) => /^flower.1/.test(one))"
    )
    browser.go(asked)
    browser.wait(f"{SETTLED} && {PATHS}.length === 21 && {CHOSEN}.length === 4")


def test_results_are_told_apart_by_less_like_this(browser, address):
    browser.go(f"{address}?id=3&k=12")
    browser.wait(SETTLED)
    before = browser.run(PATHS)
    browser.run("document.querySelector('.less').click()")
    browser.wait(f"{SETTLED} && !{PATHS}.includes({before[0]!r})")
    browser.run("document.querySelectorAll('.hit')[1].focus()")
    second = browser.run(f"{PATHS}[1]")
    browser.key("x", 88)
    browser.wait(f"{SETTLED} && !{PATHS}.includes({second!r}) && {CHOSEN}.length === 2")
    assert len(browser.run(PATHS)) == 12
    assert browser.run("document.activeElement.className") == "hit"
    for _ in range(2):
        browser.run("document.querySelector('.chosen button').click()")
    browser.wait(f"{SETTLED} && {PATHS}.join() === {','.join(before)!r} && less.hidden")
    browser.run("document.querySelector('.less').click()")
    browser.wait(f"{SETTLED} && {CHOSEN}.length === 1")
    browser.run("document.querySelector('.hit').click()")
    browser.wait(f"{SETTLED} && less.hidden && {CHOSEN}.length === 0")


def test_a_page_that_was_open_when_ids_changed_starts_again(browser, index, tmp_path):  # noqa: F811
    own = tmp_path / "own.index"
    shutil.copytree(index, own)
    with serving(own) as (_, address):
        browser.go(f"{address}?k=48")
        browser.wait(SETTLED)
        changed = SimilarityIndex.open(own)
        changed.remove([changed.path(0)])
        changed.compact()
        # While one request opens the new index, others are answered from the old one.
        generation = "fetch('/api/info').then(a => a.json()).then(info => info.generation)"
        browser.wait(f"{generation}.then(now => now === {changed.generation!r})")
        browser.run("document.querySelectorAll('.hit')[5].click()")
        browser.wait(f"{SETTLED} && {STATUS}.includes('other ids now')")
        assert len(browser.run(PATHS)) == 47
        browser.run("document.querySelectorAll('.hit')[5].click()")
        browser.wait(f"{SETTLED} && {STATUS}.includes('most alike')")
        assert browser.run("what.textContent") == changed.path(5)


def test_the_keyboard_draws_boxes_and_walks_through_results(browser, address):
    browser.size(1200, 1000)
    browser.go(f"{address}?id=3&k=12")
    browser.wait(f"{SETTLED} && document.querySelector('#query').naturalWidth > 0")
    whole = browser.run(f"{PATHS}.join()")
    browser.run("document.querySelector('#frame').focus()")
    browser.key("Enter", 13)
    browser.key("ArrowRight", 39)
    browser.key("ArrowDown", 40, modifiers=8)
    browser.wait("location.search.includes('box=30.00%25%2C25.00%25%2C50.00%25%2C55.00%25')")
    browser.wait(f"{SETTLED} && {PATHS}.join() !== {whole!r}")
    browser.key("Escape", 27)
    browser.wait(f"{SETTLED} && {PATHS}.join() === {whole!r}")
    browser.run("document.querySelector('.hit').focus()")
    browser.key("ArrowRight", 39)
    assert (
        browser.run("[...document.querySelectorAll('.hit')].indexOf(document.activeElement)") == 1
    )
    browser.key("/", 191)
    assert browser.run("document.activeElement.id") == "path"
    browser.key("ArrowDown", 40)
    assert browser.run("document.activeElement.className") == "hit"
    first = browser.run(f"{PATHS}[0]")
    browser.key("Enter", 13)
    browser.wait(f"{SETTLED} && what.textContent === {first!r}")


def test_a_broken_photo_is_told_in_the_page(browser, address, tmp_path):
    (tmp_path / "text.jpg").write_text("I am a text.\n" * 50)
    browser.go(address)
    browser.wait(SETTLED)
    browser.upload("#file", tmp_path / "text.jpg")
    browser.wait(f"{STATUS}.includes('not an image')")


@pytest.mark.parametrize(
    "event",
    [
        "new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true})",
        "new ClipboardEvent('paste', {clipboardData: data, bubbles: true, cancelable: true})",
    ],
)
def test_a_photo_is_dropped_or_pasted(browser, address, event):
    browser.go(address)
    browser.wait(SETTLED)
    browser.run(
        "fetch('/api/original/30').then((answer) => answer.blob()).then((blob) => {"
        "const data = new DataTransfer();"
        "data.items.add(new File([blob], 'mine.jpg', {type: 'image/jpeg'}));"
        f"document.body.dispatchEvent({event}); }})"
    )
    browser.wait(f"{SETTLED} && {STATUS}.includes('most alike')")
    assert browser.run(PATHS)[0] == "flower/06.jpg"
    assert browser.run("document.querySelector('#what').textContent") == "mine.jpg"


@pytest.mark.parametrize("how", ["hold", "button", "key"])
def test_holding_a_result_shows_where_it_is_like_the_query(browser, address, tmp_path, how):
    browser.size(1200, 1000, how == "key")
    browser.go(f"{address}?id=27&k=8")
    browser.wait(SETTLED)
    drawn(browser)
    before = browser.run("location.href")
    if how == "hold":
        x, y, width, height = browser.run(
            "(({x, y, width, height}) => [x, y, width, height])"
            "(document.querySelectorAll('.hit')[1].getBoundingClientRect())"
        )
        browser.mouse("Pressed", x + width / 2, y + height / 3)
        browser.wait("!legend.hidden")
        browser.mouse("Released", x + width / 2, y + height / 3)
    elif how == "button":
        browser.run("document.querySelectorAll('.why')[1].click()")
    else:
        browser.run("document.querySelectorAll('.hit')[1].focus()")
        browser.key("w", 87)
    browser.wait("document.querySelectorAll('.mat img.over').length === 1")
    browser.wait("alike.naturalWidth > 0 && !alike.hidden")
    assert browser.run("location.href") == before
    assert "from the left" in browser.run("meaning.textContent")
    assert (
        browser.run("document.querySelectorAll('.why')[1].getAttribute('aria-pressed')") == "true"
    )
    # The map lies on its image, to the pixel.
    places = browser.run(
        "[query, alike].map((one) => { const r = one.getBoundingClientRect();"
        " return [r.x, r.y, r.width, r.height]; })"
    )
    assert places[0] == pytest.approx(places[1], abs=1)
    shot(browser, tmp_path, f"alike-{how}")
    browser.run("document.querySelector('#suggested').click()")
    browser.wait(f"location.search.includes('box=') && {SETTLED}")
    assert browser.run("alike.hidden && legend.hidden && !box.hidden")
    browser.run("document.querySelector('.why').click()")
    browser.wait("!alike.hidden")
    browser.run("document.querySelector('.why').click()")
    browser.wait("alike.hidden && !document.querySelector('.mat img.over')")

"""The demo's page: the whole chain on one sheet."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vggfeat.report.confusion import DENSITY
from vggfeat.report.facts import Facts
from vggfeat.report.page import write_page
from vggfeat.report.probe import probe_view, protocol_facts
from vggfeat.report.search import QueryResult, query_views
from vggfeat.report.thumbnails import ImageSource, picture, png_picture

if TYPE_CHECKING:
    from vggfeat.probe import ProbeResult


@dataclass(frozen=True, slots=True)
class Extraction:
    """What one extraction made.

    Attributes
    ----------
    what : str
        Such as ``"handwritten digits"``.
    images, failed : int
        Rows of the store, and how many of them failed.
    seconds : float
        Time of the command that made it.
    computed : int
        How many images that command ran through the network.
    samples : sequence of (str, ImageSource)
        Captions and originals to show.
    """

    what: str
    images: int
    failed: int
    seconds: float
    computed: int
    samples: Sequence[tuple[str, ImageSource]] = ()

    @property
    def rate(self) -> float:
        """Images a second."""
        return self.computed / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class SweepBlock:
    """A sweep over layers, under a heading: its picture, and the table that was printed."""

    title: str
    text: str
    png: Path
    table: str


@dataclass(frozen=True, slots=True)
class SearchBlock:
    """Queries on one index, under a heading."""

    title: str
    text: str
    queries: Sequence[QueryResult]


@dataclass(frozen=True, slots=True)
class Guess:
    """What a saved probe says about a new image, and what it is."""

    path: str
    said: str
    truth: str
    image: ImageSource = None


@dataclass(frozen=True, slots=True)
class Step:
    """A command that was run.

    Attributes
    ----------
    command : str
        As it can be typed again.
    why : str
        What it is for, in one sentence.
    output : str
        What it printed.
    seconds : float
        How long it took.
    """

    command: str
    why: str
    output: str
    seconds: float


@dataclass(frozen=True)
class DemoReport:
    """Everything the demo's page shows.

    Attributes
    ----------
    model : str
        The network.
    layers : dict of str to str
        What each layer was used for.
    extractions : sequence of Extraction
    sweeps : sequence of SweepBlock
    probe : ProbeResult
    pixels : float
        Accuracy of the same classifier on the pixels themselves, in 0..1.
    probe_images : callable
        Gives the original of a path in the probe's store.
    facts : mapping of str to str
        What decided the features.
    searches : sequence of SearchBlock
    guesses : sequence of Guess
    steps : sequence of Step
    folder : str
        Where the commands were run.
    machine : str
        What they ran on.
    """

    model: str
    layers: dict[str, str]
    extractions: Sequence[Extraction]
    sweeps: Sequence[SweepBlock]
    probe: ProbeResult
    pixels: float
    probe_images: Callable[[str], ImageSource]
    facts: Facts
    searches: Sequence[SearchBlock]
    guesses: Sequence[Guess]
    steps: Sequence[Step]
    folder: str
    machine: str


def demo_page(path: str | os.PathLike[str], demo: DemoReport) -> Path:
    """Write the demo's page.

    Parameters
    ----------
    path : path
        The HTML file to make or replace.
    demo : DemoReport
        What it shows.

    Returns
    -------
    Path
        The file.
    """
    guesses = [
        asdict_without_image(guess)
        | {"picture": picture(guess.image), "right": guess.said == guess.truth}
        for guess in demo.guesses
    ]
    return write_page(
        path,
        "demo.html",
        demo=demo,
        extractions=[
            {
                "of": extraction,
                "samples": [(caption, picture(image)) for caption, image in extraction.samples],
            }
            for extraction in demo.extractions
        ],
        sweeps=[
            {"title": sweep.title, "text": sweep.text, "table": sweep.table.rstrip()}
            | {"figure": png_picture(sweep.png.read_bytes(), DENSITY)}
            for sweep in demo.sweeps
        ],
        probe=probe_view(demo.probe, demo.probe_images, 12),
        facts=protocol_facts(demo.probe) | dict(demo.facts),
        searches=[
            {"title": block.title, "text": block.text, "queries": query_views(block.queries)}
            for block in demo.searches
        ],
        guesses=guesses,
        guessed=sum(guess["right"] for guess in guesses),
        steps=[asdict(step) for step in demo.steps],
        seconds=sum(step.seconds for step in demo.steps),
    )


def asdict_without_image(guess: Guess) -> dict[str, object]:
    """Return a guess's texts."""
    return {"path": guess.path, "said": guess.said, "truth": guess.truth}

"""``vggfeat demo``: the whole chain, narrated, on pictures that travel with scikit-learn."""

from __future__ import annotations

import io
import shlex
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import click

from vggfeat.cli.demo_diary import Diary, Done
from vggfeat.cli.demo_pictures import ALL

WEIGHTS = "random:0"
DIGITS_LAYER = "relu7"
PHOTOS_LAYER = "conv5_3"
LAYERS = f"{PHOTOS_LAYER},{DIGITS_LAYER}"
_SECONDS = 70.0  # for the digits' extraction; the rest takes about 40 more
_LEAST = 100


class _Step(NamedTuple):
    arguments: list[str]
    why: str
    store: Path | None = None  # where it extracts to


@click.command()
@click.argument("folder", metavar="[DIR]", default="vggfeat-demo", type=click.Path(file_okay=False))
@click.option(
    "--digits",
    type=click.IntRange(min=20, max=ALL),
    help="How many digits to extract.  [default: what fits into about two minutes]",
)
@click.option("--open", "show", is_flag=True, help="Open the report in the browser.")
def demo(folder: str, digits: int | None, show: bool) -> None:
    """Show the whole chain, offline, in a folder of its own (./vggfeat-demo).

    Writes scikit-learn's handwritten digits and its two photographs as image files, then runs
    vggfeat's own commands on them, each printed so that it can be typed again, and ends with a
    page to look at: DIR/report.html. The network is a full VGG-16 with random weights, so
    the scores show that everything works, not what trained features can do.

    Run again in the same DIR it goes on where it was stopped, and does nothing twice.

    \b
    Example:
      vggfeat demo
      vggfeat demo /tmp/look --digits 200 --open
    """
    from vggfeat.cli import demo_report

    here = Path(folder)
    diary = Diary.open(here)
    report = here / "report.html"
    if diary.finished(digits):
        click.echo(
            f"{folder} holds a finished demo of {diary.digits} digits; there is nothing to do. "
            "Delete the folder to see it run again."
        )
    else:
        _introduce()
        if diary.digits is None or (digits or 0) > diary.digits:
            diary.begin(digits or _affordable())
        _write_pictures(here, diary)
        for step in _steps(folder, here):
            _perform(step, diary)
        click.echo(_heading("The report"))
        click.echo(demo_report.write(report, here, diary))
        diary.finish()
    click.echo(f"Report: {report.resolve().as_uri()}")
    if show:
        click.launch(str(report.resolve()))


def _introduce() -> None:
    click.echo(
        "The network is a full VGG-16 with RANDOM weights: nothing in it was learnt. The\n"
        "numbers below show that the chain works, and how far an untrained network gets with\n"
        "a linear classifier on top; trained weights (--weights imagenet) are another matter."
    )


def _affordable() -> int:
    """Measure the speed on a few digits and return how many fit into the time."""
    from vggfeat.cli.demo_pictures import sample_digits
    from vggfeat.extract import FeatureExtractor

    click.echo(_heading("How fast is this machine?"))
    extractor = FeatureExtractor(weights=WEIGHTS, layers=LAYERS)
    few = sample_digits(16)
    extractor(few[:8])  # loads the network, and warms up
    started = time.perf_counter()
    extractor(few)
    rate = len(few) / (time.perf_counter() - started)
    count = min(max(int(rate * _SECONDS / 10) * 10, _LEAST), ALL)
    share = "all" if count == ALL else f"{count} of the {ALL:,}"
    click.echo(
        f"{rate:.1f} images/s. Taking {share} digits, so that the whole demo takes about two "
        "minutes (--digits N takes more or fewer)."
    )
    return count


def _write_pictures(here: Path, diary: Diary) -> None:
    from vggfeat.cli import demo_pictures as pictures

    click.echo(_heading("The pictures"))
    digits = pictures.write_digits(here / "digits", here / "new-digits", diary.digits or 0)
    photos = pictures.write_photos(here / "photos", here / "crops")
    click.echo(
        f"{here / 'digits'}: {digits:,} handwritten digits, a folder for each of the ten classes; "
        "10 others are kept for later.\n"
        f"{here / 'photos'}: 2 photographs and the {photos - 2} tiles they are cut into."
    )


def _steps(folder: str, here: Path) -> list[_Step]:
    """Return the commands, with paths as the user wrote them."""

    def at(*names: str) -> str:
        path = str(Path(folder, *names))
        return f"./{path}" if path.startswith("-") else path  # it is not an option

    unseen = sorted(path.name for path in (here / "new-digits").glob("*.png"))
    asked = [at("new-digits", name) for name in unseen if name[0] in "0368"]
    crops = [at("crops", name) for name in ("china.jpg", "flower.jpg")]
    chosen = ["--weights", WEIGHTS, "--layers", LAYERS]
    return [
        _Step(
            ["extract", at("digits"), at("digits.h5"), *chosen],
            "Features of the digits, from two layers of the network",
            here / "digits.h5",
        ),
        _Step(
            ["extract", at("photos"), at("photos.h5"), *chosen],
            "The same for the photographs and their tiles",
            here / "photos.h5",
        ),
        _Step(["info", at("digits.h5")], "What is in the file"),
        _Step(
            ["probe", at("digits.h5"), "--layer", DIGITS_LAYER, "--save", at("digits.probe"),
             "--html", at("probe.html")],
            "A linear classifier that tells the digits apart, scored on a quarter held out",
        ),
        _Step(
            ["predict", at("digits.probe"), at("new-digits")],
            "The classifier on ten digits it has never seen; their names begin with the truth",
        ),
        _Step(
            ["index", "build", at("digits.h5"), at("digits.index"), "--layer", DIGITS_LAYER],
            "An index of the digits to search in",
        ),
        _Step(
            ["search", at("digits.index"), *asked, "-k", "5", "--html", at("search.html")],
            "The digits most like four that are not in the index",
        ),
        _Step(
            ["index", "build", at("photos.h5"), at("photos.index"), "--layer", PHOTOS_LAYER],
            "An index of the photographs and their tiles",
        ),
        _Step(
            ["search", at("photos.index"), *crops, "-k", "5"],
            "The tiles most like a part cut from each photograph",
        ),
    ]  # fmt: skip


def _perform(step: _Step, diary: Diary) -> None:
    """Run a command in this process, or say that it has been run."""
    command = shlex.join(["vggfeat", *step.arguments])
    click.echo(_heading(step.why))
    click.secho(f"$ {command}", fg="cyan")
    if before := diary.find(command):
        click.echo(f"(done before, in {before.seconds:.1f} s)")
        return
    tee = _Tee(sys.stdout)
    already = _extracted(step.store)
    started = time.perf_counter()
    with redirect_stdout(tee):
        status = _invoke(step.arguments)
    if status:
        raise click.exceptions.Exit(status)
    seconds = time.perf_counter() - started
    images = _extracted(step.store) - already
    diary.add(Done(command, step.why, tee.getvalue(), seconds, images))


def _extracted(store: Path | None) -> int:
    """Return how many images a store holds features of; 0 while there is none."""
    from vggfeat.store import FeatureStore

    if store is None or not store.exists():
        return 0
    with FeatureStore(store) as opened:
        return opened.counts()["done"]


def _invoke(arguments: list[str]) -> int:
    from vggfeat.cli import main

    chosen: dict[str, Any] = click.get_current_context().find_root().params
    flags = [f"--{name}" for name in ("debug", "quiet") if chosen.get(name)]
    result = main.main(args=[*flags, *arguments], prog_name="vggfeat", standalone_mode=False)
    # Click gives back what the command returns, or the status that it exits with.
    return result if isinstance(result, int) else 0


def _heading(text: str) -> str:
    return "\n" + click.style(text, bold=True)


class _Tee(io.StringIO):
    """Keeps what is printed, and prints it."""

    def __init__(self, shown: TextIO) -> None:
        super().__init__()
        self._shown = shown

    def write(self, text: str) -> int:
        self._shown.write(text)
        return super().write(text)

    def flush(self) -> None:
        self._shown.flush()

    def isatty(self) -> bool:
        return False  # what is kept has no colours

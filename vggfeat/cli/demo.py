"""``vggfeat demo``: the whole chain, narrated, on pictures that travel with scikit-learn."""

from __future__ import annotations

import io
import shlex
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, TextIO

import click

from vggfeat.demo.commands import Command, commands
from vggfeat.demo.diary import Diary, Done
from vggfeat.demo.pictures import ALL, USUAL


@click.command()
@click.argument("folder", metavar="[DIR]", default="vggfeat-demo", type=click.Path(file_okay=False))
@click.option(
    "--photos",
    metavar="SOURCE",
    help="A folder of your own photos: their features, neighbours and, where its sub-folders are "
    "classes, a sweep of the layers join the report.",
)
@click.option(
    "--digits",
    type=click.IntRange(min=20, max=ALL),
    help=f"How many digits to extract, of 1,797.  [default: {USUAL}]",
)
@click.option("--open", "show", is_flag=True, help="Open the report in the browser.")
def demo(folder: str, photos: str | None, digits: int | None, show: bool) -> None:
    """Show the whole chain, offline, in a folder of its own (./vggfeat-demo).

    Writes scikit-learn's handwritten digits and its two photographs as image files, then runs
    vggfeat's own commands on them, each printed so that it can be typed again, and ends with a
    page to look at: DIR/report.html. The network is vgg16-tiny, whose trained weights travel
    with the package: right for a quick look, while research uses --model vgg16.

    Run again in the same DIR, it continues where it stopped and does nothing twice. Nothing is
    written into your own folder.

    \b
    Example:
      vggfeat demo
      vggfeat demo /tmp/look --photos ~/Pictures --open
    """
    from vggfeat.demo import page
    from vggfeat.sources import open_source

    if photos is not None:
        count = len(open_source(photos).entries)  # refused now rather than after the work
        photos = str(Path(photos).absolute())
    here = Path(folder)
    diary = Diary.open(here)
    digits = max(digits or 0, diary.digits) or USUAL
    report = here / "report.html"
    if diary.finished(digits, photos):
        click.echo(
            f"{folder} holds a finished demo of {diary.digits} digits; there is nothing to do. "
            "Delete the folder to see it run again."
        )
    else:
        yours = " and on yours" if photos else ""
        click.echo(
            f"This runs vggfeat's commands on sample pictures{yours}: features, classifiers,\n"
            "search, heat maps. It takes half a minute to one on two cores and no network, writes\n"
            f"into the folder {folder} alone, and ends with a report to open: {report}\n"
        )
        click.echo(
            "The network is vgg16-tiny: VGG-16 with a quarter of the channels, which has learnt\n"
            "200 classes from images of 64 x 64 pixels. These pictures it has never seen."
        )
        if (digits, photos) != (diary.digits, diary.photos):
            diary.begin(digits, photos)
        _write_pictures(here, diary)
        if photos is not None:
            click.echo(f"{photos}: {count:,} images of yours.")
        for command in commands(folder, photos):
            _run(command, diary)
        click.echo(_heading("The report"))
        click.echo(page.write(report, here, diary))
        diary.finish()
    click.echo(f"Report: {report.resolve().as_uri()}")
    if show:
        click.launch(str(report.resolve()))


def _write_pictures(here: Path, diary: Diary) -> None:
    from vggfeat.demo import pictures

    click.echo(_heading("The pictures"))
    digits = pictures.write_digits(here / "digits", here / "new-digits", diary.digits)
    photos = pictures.write_photos(here / "photos", here / "crops")
    places = pictures.write_places(here / "places")
    click.echo(
        f"{here / 'digits'}: {digits:,} handwritten digits, a folder for each of the ten classes; "
        "10 others are kept for later.\n"
        f"{here / 'photos'}: 2 photographs and the {photos - 2} tiles they are cut into.\n"
        f"{here / 'places'}: {places} views of 24 places in them, a folder for each place."
    )


def _run(command: Command, diary: Diary) -> None:
    """Run a command in this process, or say that it has been run."""
    from vggfeat.cli import main

    line = shlex.join(["vggfeat", *command.arguments])
    click.echo(_heading(command.why))
    click.secho(f"$ {line}", fg="cyan")
    if before := diary.find(line):
        click.echo(f"(done before, in {before.seconds:.1f} s)")
        return
    chosen: dict[str, Any] = click.get_current_context().find_root().params
    flags = [f"--{name}" for name in ("debug", "quiet") if chosen.get(name)]
    tee = _Tee(sys.stdout)
    already = _extracted(command.store)
    started = time.perf_counter()
    with redirect_stdout(tee):
        status = main.main([*flags, *command.arguments], "vggfeat", standalone_mode=False)
    # Click gives back what the command returns, or the status that it exits with.
    if isinstance(status, int) and status:
        raise click.exceptions.Exit(status)
    seconds = time.perf_counter() - started
    images = _extracted(command.store) - already
    diary.add(Done(line, command.why, tee.getvalue(), seconds, images))


def _extracted(store: Path | None) -> int:
    """Return how many images a store holds features of; 0 while there is none."""
    from vggfeat.store import open_features

    if store is None or not store.exists():
        return 0
    with open_features(store) as opened:
        return opened.counts()["done"]


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

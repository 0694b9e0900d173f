"""``vggfeat duplicates``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vggfeat.cli.choices import layer_option, only_layer, root_option
from vggfeat.cli.output import bars, json_option, print_json, printable, table

if TYPE_CHECKING:
    from vggfeat.duplicates import Duplicates, Moved
    from vggfeat.index import SimilarityIndex
    from vggfeat.progress import Progress
    from vggfeat.sources import Originals


@click.command()
@click.argument("where", metavar="STORE|INDEX", type=click.Path())
@layer_option
@click.option(
    "--threshold",
    type=float,
    metavar="COSINE",
    help="Least cosine (or greatest distance) of images whose pixels are compared.  "
    "[default: a quarter of the distance that usually lies between an image and the nearest that "
    "differs from it]",
)
@click.option(
    "--html",
    type=click.Path(dir_okay=False),
    metavar="REPORT",
    help="Write a page that shows each copy beside the image to keep, with what differs.",
)
@click.option(
    "--move-to",
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="Keep the best image of each group where it is and move its verified copies to DIR. "
    "Asks first.",
)
@click.option("--yes", is_flag=True, help="Move without asking.")
@root_option
@json_option
def duplicates(
    where: str,
    layer: str | None,
    threshold: float | None,
    html: str | None,
    move_to: str | None,
    yes: bool,
    roots: tuple[str, ...],
    as_json: bool,
) -> None:
    """Find copies: the same bytes, saved again, resized, cropped, mirrored, lighter.

    Features propose, pixels decide. What counts as near is computed from your photos, and printed:
    1 - cosine at most a quarter of its median between images and the nearest that differ from them.
    That takes about a hundred images; for fewer, give --threshold. Near images are laid over one
    another and compared pixel by pixel: a `copy` was verified in this way, `identical` has the same
    bytes, and `likely` could not be verified: it is another frame of a burst, say, or its original
    is missing. Images that plainly differ are in no group. A STORE is indexed on the fly. Many
    mirrored copies are missed, unless the features were extracted with --flip.

    Each image of a group was compared with its best, which is the most original: more pixels, less
    compressed, more bytes, with EXIF; without a border, without cut-off tones, not saved again from
    the other. --move-to moves only images that the best one contains completely, never a likely
    one. Nothing is deleted or overwritten; DIR/moved.csv lists where each image was and where it
    is.

    \b
    Example:
      vggfeat duplicates photos.h5 --layer relu7 --html copies.html
      vggfeat duplicates photos.index --threshold 0.98 --move-to ~/copies
    """
    from vggfeat.duplicates import check_target, find_duplicates
    from vggfeat.report import destination
    from vggfeat.report.text import counted

    if html:
        destination(html)  # refused now rather than after the work
    if move_to is not None and not yes and (as_json or not sys.stdin.isatty()):
        raise click.UsageError(
            "--move-to asks before it moves anything, which takes a terminal and no --json. "
            "Add --yes to move without being asked."
        )
    with bars("image") as progress:
        index, images = _opened(where, layer, roots, progress)
        if move_to is not None:
            check_target(move_to, [images.place(source) for source in images.sources])
        result = find_duplicates(index, threshold, progress, images)
    if html:
        _write_page(index, images, where, result, html)
    if not as_json:
        _tell(result, html)
    moved = None
    if move_to is not None and result.spare:
        if not yes:
            question = f"Move {counted(len(result.spare), 'image')} to {printable(move_to)}?"
            click.confirm(question, abort=True, err=True)
        moved = _moved(result, move_to)
    if as_json:
        payload = (
            {} if move_to is None else (moved.to_json() if moved else {"moved": [], "left": []})
        )
        print_json({"searched": where, "layer": index.layer} | result.to_json() | payload)
    elif moved:
        _tell_moved(moved, move_to or "")


def explained(result: Duplicates) -> str:
    """Say what the threshold is and how it was found, as a sentence."""
    threshold = result.threshold
    name, sign = ("distance", "at most") if result.metric == "l2" else ("cosine", "at least")
    said = f"Pixels are compared from a {name} of {sign} {threshold.score:.4f} on"
    if not threshold.calibrated:
        return f"{said}, as given."
    l2 = result.metric == "l2"
    rest = "this is half of that" if l2 else "this is three quarters of the way from there to 1"
    return (
        f"{said}: an image and the nearest that differs from it usually have "
        f"{threshold.typical:.4f} (median of {threshold.images:,} images), and {rest}."
    )


def _opened(
    where: str, layer: str | None, roots: tuple[str, ...], progress: Progress
) -> tuple[SimilarityIndex, Originals]:
    from vggfeat.index import SimilarityIndex, is_index
    from vggfeat.report import stored_originals
    from vggfeat.sources import Originals
    from vggfeat.store import open_features

    if is_index(where):
        if layer is not None:
            raise click.UsageError("--layer is for a STORE; an INDEX has one layer.")
        index = SimilarityIndex.open(where)
        return index, Originals(index.sources, roots)
    with open_features(where) as store:
        images = stored_originals(store, roots)  # refused now rather than after the work
        built = SimilarityIndex.build(store, only_layer(store, layer), progress=progress)
        return built, images


def _tell(result: Duplicates, html: str | None) -> None:
    click.echo(explained(result))
    click.echo(summary(result))
    rows: list[list[str]] = []
    for number, group in enumerate(result.groups, 1):
        for one in group.images:
            first, file = one is group.images[0], one.file
            size = "" if file.problem else f"{file.width} x {file.height}"
            stays = "; stays" if one.verdict == "copy" and not one.spare else ""
            rows.append([
                str(number) if first else "",
                one.verdict,
                "" if first else f"{one.score:.4f}",
                size,
                "" if file.problem else f"{file.bytes:,}",
                one.path,
                file.problem or "; ".join(one.differences) + stays,
            ])  # fmt: skip
    if rows:
        header = ["group", "verdict", "score", "pixels", "bytes", "image", "what differs"]
        click.echo(f"\n{table(rows, header, right='group score bytes')}")
    if html:
        click.echo(f"Report: {html}")


def summary(result: Duplicates) -> str:
    """Say how many copies there are, how many may go, and what else was near."""
    from vggfeat.report import size_text
    from vggfeat.report.text import counted

    copies, spare = result.count("identical", "copy"), result.spare
    said = [
        f"{counted(copies, 'copy', 'copies')} in {counted(len(result.groups), 'group')} among "
        f"{counted(result.images, 'image')}"
    ]
    if spare:
        size = size_text(sum(one.file.bytes for one in spare))
        said.append(f"{counted(len(spare), 'copy', 'copies')} may go: {size}")
    if likely := result.count("likely"):
        said.append(f"{counted(likely, 'likely copy', 'likely copies')}, not verified")
    said.append(
        f"pixels of {counted(result.compared, 'pair')} compared, {result.different:,} plainly "
        "different"
    )
    if result.left_out:
        said.append(
            f"{counted(result.left_out, 'pair')} near by features not compared: an image is "
            "compared with its 32 nearest, so give a closer --threshold"
        )
    return "; ".join(said)


def _write_page(
    index: SimilarityIndex, images: Originals, where: str, result: Duplicates, html: str
) -> None:
    from vggfeat.report import config_facts, duplicates_page, run_facts

    provenance = index.provenance
    with bars("image") as progress:
        duplicates_page(
            html,
            result,
            name=Path(where).name,
            explanation=explained(result),
            facts=config_facts(provenance.config, index.layer) | run_facts(provenance.run),
            images=images,
            progress=progress,
        )


def _moved(result: Duplicates, target: str) -> Moved:
    from vggfeat.duplicates import move_spare

    with bars("image") as progress:
        return move_spare(result.groups, target, progress)


def _tell_moved(moved: Moved, target: str) -> None:
    from vggfeat.duplicates.moving import LIST
    from vggfeat.report.text import counted

    click.echo(
        f"moved {counted(len(moved.moved), 'image')} to {printable(target)}; {LIST} there says "
        "where each was"
    )
    for path, reason in moved.left:
        click.echo(f"left: {printable(path)}: {reason}", err=True)

"""``vggfeat explain``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vggfeat.cli.choices import query_options, scales_option
from vggfeat.cli.output import bars, json_option, print_json, printable, table
from vggfeat.cli.pixels import PIXELS, pixels_of, pixels_options
from vggfeat.layers import ARCHITECTURES
from vggfeat.views import VIEWS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vggfeat.explain import Explanation
    from vggfeat.explain.subjects import Subject
    from vggfeat.report import ImageSource

METHODS = ("auto", "exact", "gradcam", "layercam")
"""What `--method` takes; a test compares it with :data:`vggfeat.explain.METHODS`."""

method_option = click.option(
    "--method",
    type=click.Choice(METHODS),
    default="auto",
    show_default=True,
    help="How maps are made. exact: the score divided among the positions of the layer that is "
    "pooled; gradcam, layercam: by gradients; auto: exact where it can be, else gradcam.",
)

at_option = click.option(
    "--at",
    metavar="LAYER",
    help="Of gradients: the layer whose positions are mapped.  [default: the last ReLU with a map]",
)


@click.command()
@click.argument("subject", metavar="PROBE|WEIGHTS")
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@click.option(
    "--class",
    "classes",
    multiple=True,
    metavar="NAME",
    help="Explain this class, or number of one; may be given again.  [default: what each image is "
    "said to show]",
)
@click.option(
    "--html",
    type=click.Path(dir_okay=False),
    metavar="OUT",
    help="Write a page with the maps over the photographs.",
)
@click.option(
    "--npz",
    type=click.Path(dir_okay=False),
    metavar="OUT",
    help="Write the maps as arrays: maps (n, h, w) where all images are of one shape, else map_0, "
    "map_1 ...; with images, classes, scores and constants.",
)
@method_option
@at_option
@click.option(
    "--model",
    type=click.Choice(list(ARCHITECTURES)),
    show_default="vgg16",
    help="Of weights: the network.",
)
@click.option(
    "--view",
    type=click.Choice(list(VIEWS)),
    show_default="center",
    help="Of weights: which inputs an image gives, as for `vggfeat extract`.",
)
@scales_option
@click.option("--flip", is_flag=True, help="Of weights: average with the mirror image.")
@pixels_options(of="Of weights: ")
@query_options
@json_option
def explain(
    subject: str,
    images: tuple[str, ...],
    classes: tuple[str, ...],
    html: str | None,
    npz: str | None,
    method: str,
    at: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Show where in each IMAGE is what speaks for a class, or against it.

    PROBE is a file that `vggfeat probe --save` made: its classes, or numbers, are explained, and
    images are processed like its training images. For a probe of a pooled convolutional layer the
    map is exact: the score is the sum of the map and a constant. WEIGHTS that `vggfeat finetune`
    made are explained in the same way, by their head. Of other WEIGHTS, given as for `vggfeat
    classify`, the network's own classes are explained by Grad-CAM. IMAGE is an image, or a .txt or
    .csv list.

    Printed are the score, its parts (for, against, of no place), and the smallest box that holds
    80 % of all that speaks for the class, as `vggfeat search --box` takes it. Exit status 1 if an
    image could not be read; the others are explained all the same.

    \b
    Example:
      vggfeat explain photos.probe cat.jpg --html why.html
      vggfeat explain photos.probe cat.jpg dog.jpg --class cat --class dog --html why.html
      vggfeat explain imagenet cat.jpg --class "tiger cat" --method layercam --at relu4_3
    """
    from vggfeat.explain import explain as explained
    from vggfeat.explain.subjects import subject_of
    from vggfeat.extract import Failure
    from vggfeat.queries import listed
    from vggfeat.report import destination

    for out in filter(None, (html, npz)):
        destination(out)  # refused now rather than after the work
    judge = subject_of(subject, _settings(options))
    queries = listed(images)
    with bars("it") as progress:
        results = list(explained(judge, queries, classes, method=method, at=at, progress=progress))
    good = [one for one in results if not isinstance(one, Failure)]
    failed = [one for one in results if isinstance(one, Failure)]
    if html:
        write_page(html, judge, subject, good, failed)
    if npz:
        _write_arrays(npz, good)
    if as_json:
        payload = [
            one.to_json("image") if isinstance(one, Failure) else one.to_json() for one in results
        ]
        print_json({"subject": subject, "score": judge.what, "results": payload})
    else:
        if good:
            click.echo(_table(good))
        for name in filter(None, (html, npz)):
            click.echo(f"{'Report' if name == html else 'Maps'}: {printable(name)}")
    for failure in failed:
        click.echo(f"failed: {printable(failure.item)}: {failure.reason}", err=True)
    if failed:
        raise click.exceptions.Exit(1)


def _settings(options: dict[str, Any]) -> dict[str, Any]:
    """Return what the extractor is made with, leaving out all that was not given."""
    found = dict(options)
    given = any(found[name] is not None for name in PIXELS if name != "preprocessing")
    pixels = pixels_of(found)
    found["preprocessing"] = pixels if given or pixels != "auto" else None
    found["flip"] = found["flip"] or None
    found["scales"] = found["scales"] or None
    # Where these belong to, PROBE or WEIGHTS, the subject decides.
    return {name: value for name, value in found.items() if name not in PIXELS[1:]}


def _table(results: Sequence[Explanation]) -> str:
    exact = results[0].exact
    header = ["image", "class", "score", *(["for", "against", "constant"] if exact else []), "box"]
    rows = []
    for one in results:
        box = one.map.box()
        parts = [one.map.favour, one.map.against, one.constant] if exact else []
        told = [f"{value:.4f}" for value in (one.score, *parts)]
        rows.append([one.image, one.name, *told, "-" if box is None else str(box)])
    return table(rows, header, right="score for against constant")


def write_page(
    html: str,
    judge: Subject,
    subject: str,
    good: Sequence[Explanation],
    failed: Sequence[Any],
    originals: Callable[[str], ImageSource] | None = None,
) -> None:
    """Write the page of explanations; without `originals` an image's name is its file's."""
    from vggfeat.report import ExplainedClass, ExplainedImage, config_facts, explain_page

    by_image: dict[str, list[Explanation]] = {}
    for one in good:
        by_image.setdefault(one.image, []).append(one)
    shown = [
        ExplainedImage(
            image,
            [
                ExplainedClass(
                    one.name, one.score, one.map, one.constant, one.named, one.probability
                )
                for one in several
            ],
            originals(image) if originals else image,
        )
        for image, several in by_image.items()
    ]
    shown += [ExplainedImage(one.item, [], problem=one.reason) for one in failed]
    first = good[0] if good else None
    explain_page(
        html,
        shown,
        subject=Path(subject).name,
        what=judge.what,
        method=first.method if first else "exact",
        layer=first.layer if first else judge.column,
        facts=config_facts(judge.extractor.config, judge.column),
    )


def _write_arrays(path: str, results: Sequence[Explanation]) -> None:
    import io

    import numpy as np

    from vggfeat.report import write_whole

    maps = [one.map.values for one in results]
    one_shape = len({each.shape for each in maps}) == 1
    arrays: dict[str, Any] = (
        {"maps": np.stack(maps)}
        if one_shape
        else {f"map_{number}": each for number, each in enumerate(maps)}
    )
    arrays["images"] = np.array([one.image for one in results])
    arrays["classes"] = np.array([one.name for one in results])
    arrays["scores"] = np.array([one.score for one in results])
    arrays["constants"] = np.array([one.constant for one in results])
    file = io.BytesIO()
    np.savez(file, **arrays)
    write_whole(path, file.getvalue())

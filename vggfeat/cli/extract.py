"""``vggfeat extract``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from vggfeat.cli.choices import (
    WEIGHTS,
    combine_option,
    device_option,
    engine_option,
    flip_option,
    model_option,
    precision_option,
    ray_address,
    scales_option,
    view_option,
)
from vggfeat.cli.labelling import splits_of
from vggfeat.cli.output import json_option, print_json, printable, show_progress
from vggfeat.cli.pixels import pixels_of, pixels_options
from vggfeat.cli.store_settings import extractor_for
from vggfeat.errors import ImageError, LayerError
from vggfeat.extract import DTYPES, ExtractSummary, FeatureExtractor
from vggfeat.labels.splits import usable
from vggfeat.pooling import POOLINGS, canonical
from vggfeat.rgb import parse_range
from vggfeat.store import LabelReport
from vggfeat.truncation import TRUNCATED

DEFAULTS: dict[str, Any] = {field.name: field.default for field in fields(FeatureExtractor)}
_NAMED = 20  # failures named in the summary
_MOST_PARTS = 1_000_000


class _AutoOrCount(click.IntRange):
    """A whole number from 1 on, or ``auto``, which becomes None."""

    def __init__(self) -> None:
        super().__init__(min=1)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return None if value == "auto" else super().convert(value, param, ctx)


def _pooling(_context: click.Context, _option: click.Parameter, value: str) -> str:
    """Check a pooling and write out its parameter."""
    try:
        return canonical(value)
    except LayerError as error:
        raise click.BadParameter(str(error)) from error


def _value_range(_context: click.Context, _option: click.Parameter, value: str) -> str:
    """Check a value range."""
    try:
        return parse_range(value)
    except ImageError as error:
        raise click.BadParameter(str(error)) from error


def _part_numbers(
    _context: click.Context, _option: click.Parameter, value: str | None
) -> list[int] | None:
    """Read numbers of parts: 17, 0-9, or several such."""
    if value is None:
        return None
    numbers: list[int] = []
    for text in value.split(","):
        match = re.fullmatch(r"\s*(\d{1,9})(?:-(\d{1,9}))?\s*", text)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not 0 <= last - first < _MOST_PARTS:
            raise click.BadParameter(f"{text!r} is no part: give 17, 0-9, or several with commas.")
        numbers += range(first, last + 1)
    return list(dict.fromkeys(numbers))


@click.command()
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@click.argument("store", type=click.Path())
@model_option
@click.option(
    "--weights",
    default=DEFAULTS["weights"],
    show_default="imagenet; builtin for vgg16-tiny",
    metavar=WEIGHTS,
    help="torchvision's ImageNet weights, those in the package, a file of PyTorch, safetensors, "
    "Caffe, Keras, MatConvNet or ONNX, or random ones; `vggfeat weights list` names those "
    "published.",
)
@pixels_options()
@click.option(
    "--layers",
    default=",".join(DEFAULTS["layers"]),
    show_default=True,
    metavar="NAME[:POOL],...",
    help="Layers to keep, as in conv5_3:max,relu7, or all; `vggfeat layers` lists them. fc7 is "
    "the linear output, relu7 what follows the ReLU (and what Caffe calls fc7). A layer may have "
    "several poolings: relu5_3:gem,relu5_3:rmac.",
)
@view_option(DEFAULTS["view"])
@scales_option
@flip_option
@combine_option
@click.option(
    "--pool",
    callback=_pooling,
    default=DEFAULTS["pool"],
    show_default=True,
    metavar="|".join(kind.usage for kind in POOLINGS.values()),
    help="How maps of convolutional layers become features. "
    + "; ".join(f"{kind.name}: {kind.summary}" for kind in POOLINGS.values())
    + ".",
)
@click.option(
    "--batch-size",
    type=_AutoOrCount(),
    default="auto",
    show_default=True,
    metavar="auto|N",
    help="Images at a time; auto chooses for the device.",
)
@click.option(
    "--workers",
    type=_AutoOrCount(),
    default="auto",
    show_default=True,
    metavar="auto|N",
    help="Decoding threads; auto takes one for each processor, at most 8, and 24 for images that "
    "come over a network.",
)
@device_option
@precision_option
@engine_option
@click.option(
    "--dtype",
    type=click.Choice(DTYPES),
    default=DEFAULTS["dtype"],
    show_default=True,
    help="Type the features are stored in.",
)
@click.option(
    "--max-pixels",
    type=click.IntRange(min=1),
    default=DEFAULTS["max_pixels"],
    show_default=True,
    help="Images with more pixels fail, against decompression bombs.",
)
@click.option(
    "--truncated",
    type=click.Choice(TRUNCATED),
    default=DEFAULTS["truncated"],
    show_default=True,
    help="Refuse images whose end is missing, or accept what is there of them.",
)
@click.option(
    "--value-range",
    callback=_value_range,
    default=DEFAULTS["value_range"],
    show_default=True,
    metavar="full|minmax|LOW:HIGH",
    help="Which values of images with more than 8 bits become 0..255: all that the file's type "
    "allows, each image's own from least to largest, or those from LOW to HIGH.",
)
@click.option(
    "--labels",
    "--labels-from",
    "labels",
    default="auto",
    show_default=True,
    metavar="auto|none|folder[:N]|source|FILE",
    help="Class names. auto: the list's or archive's own, else the first folder in which paths "
    "differ; in a store that has labels, whatever they came from. folder:2 is the second folder "
    "of a path, source the list's or archive's own, FILE a table with columns path and label or a "
    "list of lines 'path label'. Anything but auto replaces what was there; docs/labels.md.",
)
@click.option(
    "--split",
    "splits",
    multiple=True,
    metavar="auto|none|folder:N|NAME=LIST",
    help="Which images train and which test. auto, the default: a column split of a list or table, "
    "else first folders that are called train, val and test; below them folders are classes. "
    "train=train.txt takes a list of images; give one for each split.",
)
@click.option(
    "--group-by",
    metavar="REGEX|folder:N|none",
    help="Images that belong together, such as those of one patient or scene, and are never on "
    "both sides of training and test: by what the parentheses of a regular expression match "
    "in their paths, such as 'patient_(\\d+)'.  [default: a column group of a list or table]",
)
@click.option(
    "--groups",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="The same from a table with columns path and group.",
)
@click.option(
    "--on-error",
    type=click.Choice(["skip", "stop"]),
    default="skip",
    show_default=True,
    help="What to do with an image that cannot be decoded.",
)
@click.option("--retry-failed", is_flag=True, help="Try images again that failed before.")
@click.option(
    "--prune",
    is_flag=True,
    help="Remove images from the store that are no longer in their source. Run `vggfeat index add`"
    " first for indexes of several stores, which cannot tell afterwards what was removed.",
)
@click.option(
    "--resume/--overwrite",
    default=True,
    show_default=True,
    help="Continue an existing store, or begin it anew.",
)
@click.option(
    "--part-rows",
    type=click.IntRange(min=1),
    metavar="N",
    help="Make a store of parts, a folder with at most N images in each file. A name that ends in "
    "/ or .store makes one, too.  [default: 50000, or what takes 2 GiB if that is fewer]",
)
@click.option(
    "--part",
    "parts",
    callback=_part_numbers,
    metavar="K|K-L|...,...",
    help="Compute only these parts of a store of parts, counted from 0: for one task of many.",
)
@click.option(
    "--plan",
    "plan_only",
    is_flag=True,
    help="List the images, cut them into parts, and compute nothing.",
)
@click.option(
    "--ray",
    is_flag=False,
    flag_value="local",
    metavar="[ADDRESS]",
    callback=ray_address,
    help="Let workers of a Ray cluster compute the parts, one for each GPU or for up to 16 CPUs; "
    "all nodes must see SOURCE and STORE under the same paths. ADDRESS is auto, HOST:PORT or "
    "ray://HOST:PORT; without one Ray starts on this machine. docs/clusters.md.",
)
@json_option
def extract(sources: tuple[str, ...], store: str, **options: Any) -> None:
    """Extract features of the images in SOURCE into STORE, an HDF5 file or a folder of them.

    SOURCE is a folder (searched recursively), an image, a .txt or .csv list of paths, a .tar or
    .zip (shards as in 'train-{000..012}.tar'), a .parquet with a column of images (another one as
    in 'data.parquet#image:photo,label:breed'), an array of images (.npy, .mat, .h5#NAME), or one of
    these as a URL (s3://, gs://, hf://, https://); docs/sources.md. The same command continues
    where it stopped: it adds new images, computes changed ones again, lets moved ones keep their
    features, and leaves out those that are gone. If STORE exists, every option that changes the
    features (--model, --weights, --layers and so on) may be left out: the store's own settings are
    taken, so that `vggfeat extract SOURCE STORE` is enough.

    With several sources, the path of an image begins with the name of its source: the last part of
    the source's path, or NAME where it is given as NAME=PATH.

    STORE is a folder of parts if its name ends in .store or /, or if it has no ending and there are
    more than 200,000 images. Such a store grows without being copied, and several processes, also
    on other machines, may run the same command at once.

    \b
    Example:
      vggfeat extract photos/ photos.h5 --layers conv5_3,relu7
      vggfeat extract photos/ photos.store --part-rows 20000
      vggfeat extract photos/ photos.store --ray auto
      vggfeat extract train/ test/ both.h5
      vggfeat extract s3://bucket/photos/ photos.h5
      vggfeat extract photos/ dense.h5 --view dense --scales 256,384,512 --flip
      vggfeat extract nsd_stimuli.hdf5#imgBrick nsd.h5 --layers all
    """
    options["preprocessing"] = pixels_of(options)
    settings = {name: options[name] for name in DEFAULTS}
    extractor = extractor_for(store, settings, resume=options["resume"])
    try:
        summary = extractor.extract(
            list(sources),
            store,
            labels=options["labels"],
            split=splits_of(options["splits"]),
            group_by=options["group_by"],
            groups=options["groups"],
            on_error=options["on_error"],
            overwrite=not options["resume"],
            retry_failed=options["retry_failed"],
            prune=options["prune"],
            part_rows=options["part_rows"],
            parts=options["parts"],
            plan_only=options["plan_only"],
            ray=options["ray"],
            progress=show_progress(),
        )
    except KeyboardInterrupt:
        if Path(store).exists():
            again = "the same command" + ("" if options["resume"] else " without --overwrite")
            click.echo(
                f"Stopped. What was done is in {store}; {again} continues from there.", err=True
            )
        raise
    if options["as_json"]:
        print_json(summary.to_json())
    else:
        click.echo(describe(summary))
    if options["plan_only"]:
        return
    if summary.failed_parts:
        part, why = summary.failed_parts[0]
        click.echo(
            f"Error: {len(summary.failed_parts):,} parts failed, each in several attempts; part "
            f"{part}: {printable(why)} `vggfeat parts {printable(store)}` lists them. Mend the "
            "cause, and the same command tries them again.",
            err=True,
        )
        raise click.exceptions.Exit(1)
    if not summary.done or (summary.tried and not summary.computed):
        click.echo(f"Error: {_nothing_done(summary)}", err=True)
        raise click.exceptions.Exit(1)


def _nothing_done(summary: ExtractSummary) -> str:
    count, text = (summary.tried, " of this run") if summary.done else (summary.images, "")
    why = ""
    if summary.failures:
        path, reason = summary.failures[-1 if summary.done else 0]
        why = f", for example {printable(path)}: {reason}"
    return f"Not one of the {count:,} images{text} could be done{why}."


def describe(summary: ExtractSummary) -> str:
    """Return the summary of a run as a few lines of text."""
    lines = [
        f"{summary.store}: {summary.done:,} of {summary.images:,} images done, "
        f"{summary.failed:,} failed"
        + (f", {summary.pending:,} pending" if summary.pending else "")
        + "."
    ]
    if summary.computed:
        lines.append(
            f"This run: {summary.computed:,} images in {summary.seconds:.1f} s, "
            f"{summary.images_per_second:.1f} images/s."
        )
    elif not summary.tried:
        left = summary.pending > 0  # of parts, which this run was not asked for
        lines.append("Nothing was computed." if left else "Nothing to do in this run.")
    if summary.parts:
        finished = summary.parts - summary.parts_left
        lines.append(f"Parts: {finished:,} of {summary.parts:,} finished.")
    notes = {
        "changed since they were extracted, done again": summary.changed,
        "moved or renamed, with the features they had": summary.moved,
        "no longer in the source, left out until they return (--prune removes them)": (
            summary.missing
        ),
        "no longer in the source, removed": summary.pruned,
        "left out: not recognised as images": summary.left_out,
        "truncated, accepted as far as they go": summary.truncated,
        "with several pages or frames, of which the first was taken": summary.several_pages,
    }
    lines += [f"  {count:,} {what}" for what, count in notes.items() if count]
    lines += describe_labels(summary.labels)
    lines += [f"  failed: {printable(path)}: {why}" for path, why in summary.failures[:_NAMED]]
    if len(summary.failures) > _NAMED:
        more = len(summary.failures) - _NAMED
        lines.append(f"  and {more:,} more: vggfeat info {summary.store} --failed")
    return "\n".join(lines)


def describe_labels(labels: LabelReport) -> list[str]:
    """Say in a few lines what the labels are, where they came from, and what was not used."""
    kind, _, detail = labels.origin.partition(":")
    where = {
        "folder": f"folder {detail} of each path",
        "source": f"{detail or 'the source'} itself",
        "table": detail,
    }.get(kind, "an earlier run")
    if not labels.classes:
        lines = ["Labels: none. Folders that differ are classes, or give --labels FILE."]
    else:
        classes = f"{labels.classes:,} class" + ("es" if labels.classes > 1 else "")
        several = ", several an image" if labels.multi_label else ""
        lines = [
            f"Labels: {labels.images:,} of {labels.images + labels.unlabelled:,} images, "
            f"{classes}{several}, from {printable(where)}."
        ]
    if labels.matched:
        how = f" ({labels.how})" if labels.how else ""
        lines.append(f"  paths of the table that are images of the source: {labels.matched:,}{how}")
        lines += _some("that are not", labels.unmatched_paths, labels.unmatched)
        lines += _some("images that the table does not name", labels.unnamed_images)
    if labels.changed:
        lines.append(f"  images that had another label, or lost theirs: {labels.changed:,}")
    lines += _described_splits(labels)
    if labels.unused:
        lines.append(f"  columns not used: {', '.join(map(printable, labels.unused))}")
    return lines + [f"  {printable(note)}" for note in labels.notes]


def _some(what: str, examples: Sequence[str], count: int | None = None) -> list[str]:
    """Return a line with examples and perhaps a count; none where there is nothing."""
    if not examples:
        return []
    number = "" if count is None else f": {count:,}"
    return [f"  {what}{number}, for example {', '.join(map(printable, examples))}"]


def _described_splits(labels: LabelReport) -> list[str]:
    """Say which splits and groups there are, and where they came from."""
    lines = []
    if labels.splits:
        counts = ", ".join(f"{n:,} {printable(name)}" for name, n in labels.splits.items())
        rest = f", {labels.unsplit:,} in none" if labels.unsplit else ""
        goes = (
            "Probes train and test by them."
            if usable(labels.splits)
            else ("Probes go by train, val and test alone.")
        )
        lines.append(f"Splits: {counts}{rest}; from {_origin_text(labels.split_origin)}. {goes}")
    if labels.groups:
        rest = f", {labels.ungrouped:,} images in none" if labels.ungrouped else ""
        lines.append(f"Groups: {labels.groups:,}{rest}; from {_origin_text(labels.group_origin)}.")
    return lines


def _origin_text(origin: str) -> str:
    """Say where splits or groups came from, as people do."""
    kind, _, detail = origin.partition(":")
    if kind == "folder":
        return f"folder {detail} of each path"
    words = {"source": "", "table": "", "lists": "the lists ", "pattern": "the pattern "}
    return words.get(kind, "") + printable(detail) if kind else "nobody noted where"

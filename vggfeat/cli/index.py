"""``vggfeat index``."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from vggfeat.cli.choices import layer_option, metric_option, only_layer, ray_address
from vggfeat.cli.index_info import tell
from vggfeat.cli.output import bars, json_option, print_json, printable
from vggfeat.cli.whiten import whitening_of
from vggfeat.errors import VggfeatError

if TYPE_CHECKING:
    from vggfeat.feature_table import FeatureTable

_log = logging.getLogger(__name__)

index_argument = click.argument("index_path", metavar="INDEX", type=click.Path())
_store_argument = click.argument("store", type=click.Path())
_memory_option = click.option(
    "--memory", default="4GB", show_default=True, metavar="SIZE",
    help="Memory that building may take at most. Vectors are written to the disk as they come, and"
    " take none.",
)  # fmt: skip


@click.group()
def index() -> None:
    """Build indexes for similarity search, change them, and look at them."""


@index.command()
@_store_argument
@index_argument
@layer_option
@metric_option
@click.option(
    "--kind",
    default="auto",
    show_default=True,
    metavar="auto|flat|hnsw|ivf|ivfpq|FACTORY",
    help="Exact (flat), or a structure of FAISS, also by its index_factory string. "
    "auto: flat for small collections, else ivfpq.",
)
@_memory_option
@click.option(
    "--recall",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.95,
    show_default=True,
    help="Share of the ten nearest images that a search is to find, measured on images held out.",
)
@click.option(
    "--whiten",
    metavar="DIMENSION|FILE",
    help="Whiten all features: by a DIMENSION, learnt here and keeping so many numbers, or by a "
    "FILE of `vggfeat whiten`.",
)
@click.option(
    "--augment",
    metavar="N[:ALPHA]",
    help="Average each image with its N nearest (database-side augmentation), weighted by their "
    "similarity to the power ALPHA.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Encode vectors in N processes, for kinds ivf and ivfpq; the index is the same.",
)
@click.option(
    "--ray",
    is_flag=False,
    flag_value="local",
    metavar="[ADDRESS]",
    callback=ray_address,
    help="Encode vectors on a Ray cluster whose nodes see the folder of INDEX; without ADDRESS "
    "(such as auto, HOST:6379, ray://HOST:10001) Ray starts on this machine.",
)
@json_option
def build(
    store: str,
    index_path: str,
    layer: str | None,
    metric: Any,
    kind: str,
    memory: str,
    recall: float,
    whiten: str | None,
    augment: str | None,
    workers: int | None,
    ray: str | None,
    as_json: bool,
) -> None:
    """Index one layer of STORE for search.

    Makes INDEX, a folder with the vectors, the paths, the labels and how the features were made. An
    index of that name is replaced once the new one is complete; where STORE has several layers and
    --layer is left out, its layer and metric are taken. `index info` shows what was measured.

    \b
    Example:
      vggfeat index build photos.h5 photos.index --layer relu7
      vggfeat index build photos.h5 photos.index --layer pool5 --whiten 256 --recall 0.99
      vggfeat index build photos.h5 photos.index --layer relu7 --kind ivfpq --ray auto
    """
    from vggfeat.index import Expansion, LocalWorkers, RayWorkers, SimilarityIndex
    from vggfeat.store import open_features

    if workers and ray:
        raise click.UsageError("--workers and --ray exclude each other.")
    by = None if augment is None else Expansion.parse(augment)
    cluster = RayWorkers(None if ray == "local" else ray) if ray else None
    with open_features(store) as opened, bars("image") as progress:
        if layer is None and len(opened.layers) > 1:
            layer, metric = _as_before(opened, index_path, metric)
        built = SimilarityIndex.build(
            opened,
            only_layer(opened, layer),
            path=index_path,
            metric=metric,
            kind=kind,
            memory=memory,
            recall=recall,
            whitening=whitening_of(whiten),
            augment=by,
            progress=progress,
            workers=LocalWorkers(workers) if workers else cluster,
        )
    tell(built.info(), index_path, as_json)


def _as_before(store: FeatureTable, index_path: str, metric: Any) -> tuple[str | None, Any]:
    """Return the layer, and the metric unless one was given, of the index that is replaced."""
    from vggfeat.index import SimilarityIndex

    try:
        before = SimilarityIndex.open(index_path)
    except (VggfeatError, OSError):  # none is there, or none that can be read
        return None, metric
    config = before.provenance.config
    layer = store.provenance.config.column(before.layer, config.layers[before.layer])
    given = click.get_current_context().get_parameter_source("metric")
    if given is ParameterSource.DEFAULT:
        metric = before.metric
    if layer is not None:
        _log.info("As %s was built: --layer %s --metric %s", printable(index_path), layer, metric)
    return layer, metric


@index.command()
@index_argument
@_store_argument
@click.option(
    "--again", is_flag=True, help="Take back images of STORE that `index remove` removed."
)
@json_option
def add(index_path: str, store: str, again: bool, as_json: bool) -> None:
    """Add the images of STORE that INDEX does not hold, or that have changed since.

    Images that have left the sources of STORE, or moved to another path there, are removed. If
    STORE has been extracted from a new place since, INDEX looks for its images there. Images that
    `vggfeat index remove` took away stay out, changed or not, unless --again is given.

    \b
    Example:
      vggfeat extract photos/ photos.h5
      vggfeat index add photos.index photos.h5
    """
    from vggfeat.index import SimilarityIndex
    from vggfeat.store import open_features

    opened = SimilarityIndex.open(index_path)
    with open_features(store) as images, bars("image") as progress:
        report = opened.add(images, progress, again=again)
    if as_json:
        print_json({"index": index_path, "images": len(opened)} | report.to_json())
        return
    click.echo(
        f"{printable(index_path)}: {report.added:,} images added, {report.replaced:,} replaced, "
        f"{report.unchanged:,} as they were"
        + (f", {report.gone:,} gone" if report.gone else "")
        + f"; {len(opened):,} in all"
    )
    if report.excluded:
        click.echo(f"{report.excluded:,} removed by hand stay out (--again takes them back)")


@index.command()
@index_argument
@click.argument("paths", metavar="PATH...", nargs=-1)
@click.option(
    "--matching",
    multiple=True,
    metavar="PATH",
    help="Remove all images below this folder, or that fit a pattern as '*/old-*'; may be given "
    "again.",
)
@json_option
def remove(
    index_path: str, paths: tuple[str, ...], matching: tuple[str, ...], as_json: bool
) -> None:
    """Remove images from INDEX by their paths, as `vggfeat search` prints them.

    Image files are not touched. INDEX remembers what was removed, and `vggfeat index add` leaves it
    out (--again there takes it back) until the index is built anew. Vectors of removed images stay
    in the files of the index until `vggfeat index compact`.

    \b
    Example:
      vggfeat index remove photos.index cat/01.jpg
      vggfeat index remove photos.index --matching beach
    """
    from vggfeat.index import SimilarityIndex

    if not paths and not matching:
        raise click.UsageError("Give PATH... or --matching PATH.")
    opened = SimilarityIndex.open(index_path)
    fitting = opened.select(paths=matching, some=True).ids.tolist() if matching else []
    named = dict.fromkeys([*paths, *(opened.path(image_id) for image_id in fitting)])
    count = opened.remove(list(named))
    if as_json:
        print_json({"index": index_path, "removed": count, "images": len(opened)})
        return
    click.echo(f"{printable(index_path)}: {count:,} images removed, {len(opened):,} left")


@index.command()
@index_argument
@json_option
def compact(index_path: str, as_json: bool) -> None:
    """Drop the vectors of removed images from the files of INDEX.

    \b
    Example:
      vggfeat index compact photos.index
    """
    from vggfeat.index import SimilarityIndex

    opened = SimilarityIndex.open(index_path)
    with bars("image") as progress:
        count = opened.compact(progress)
    if as_json:
        print_json({"index": index_path, "dropped": count, "images": len(opened)})
        return
    click.echo(f"{printable(index_path)}: {count:,} vectors dropped, {len(opened):,} kept")


@index.command()
@click.argument("out", type=click.Path())
@click.argument("indexes", metavar="INDEX...", nargs=-1, required=True, type=click.Path())
@click.option("--kind", metavar="KIND", help="See `index build`.  [default: that of the first]")
@click.option(
    "--recall",
    type=click.FloatRange(0, 1, min_open=True),
    help="See `index build`.  [default: that of the first]",
)
@_memory_option
@json_option
def merge(
    out: str,
    indexes: tuple[str, ...],
    kind: str | None,
    recall: float | None,
    memory: str,
    as_json: bool,
) -> None:
    """Unite indexes that were made with the same options into OUT.

    Where several hold an image of the same path, that of the first is taken. An image that `index
    remove` removed from any of them is left out.

    \b
    Example:
      vggfeat index merge all.index 2025.index 2026.index
    """
    from vggfeat.index import SimilarityIndex

    opened = [SimilarityIndex.open(path) for path in indexes]
    with bars("image") as progress:
        merged = SimilarityIndex.merge(
            opened, path=out, kind=kind, recall=recall, memory=memory, progress=progress
        )
    tell(merged.info(), out, as_json)


@index.command()
@index_argument
@click.option("--verify", is_flag=True, help="Read all files and compare their checksums.")
@json_option
def info(index_path: str, verify: bool, as_json: bool) -> None:
    """Say what INDEX holds, and what was measured as it was built.

    \b
    Example:
      vggfeat index info photos.index
    """
    from vggfeat.index import SimilarityIndex

    opened = SimilarityIndex.open(index_path)
    if verify:
        opened.verify()
    tell(opened.info(), index_path, as_json)
    if verify and not as_json:
        click.echo("all files are as they were written")

"""``vggfeat whiten``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vggfeat.cli.choices import layer_option, only_layer
from vggfeat.cli.output import bars, json_option, print_json, printable

if TYPE_CHECKING:
    from vggfeat.whitening import Whitening


@click.command()
@click.argument("store", type=click.Path())
@click.argument("out", type=click.Path(dir_okay=False))
@layer_option
@click.option(
    "--dimension",
    type=click.IntRange(min=1),
    help="How many numbers to keep.  [default: 512, or as many as there can be]",
)
@json_option
def whiten(store: str, out: str, layer: str | None, dimension: int | None, as_json: bool) -> None:
    """Learn a PCA-whitening from one layer of STORE and write it to OUT.

    OUT is a .npz file of plain arrays, for `vggfeat index build --whiten OUT`. Learn from many
    images that are like those to search, though not necessarily these.

    \b
    Example:
      vggfeat whiten landmarks.h5 landmarks.npz --layer pool5
      vggfeat index build photos.h5 photos.index --layer pool5 --whiten landmarks.npz
    """
    from vggfeat.index import learn_whitening
    from vggfeat.store import open_features

    with open_features(store) as opened, bars("image") as progress:
        name = only_layer(opened, layer)
        learnt = learn_whitening(opened, name, dimension, progress=progress)
    learnt.save(out)
    if as_json:
        print_json({"whitening": out, "layer": name} | learnt.summary())
        return
    click.echo(
        f"{printable(out)}: {learnt.width:,} numbers of {name} to {learnt.dimension:,}, which "
        f"hold {learnt.explained:.1%} of the variance of {learnt.count:,} images"
    )


def whitening_of(given: str | None) -> Whitening | int | None:
    """Read what an option `--whiten` was given: a dimension to learn, or the file of a whitening.

    Raises
    ------
    WhiteningError
        There is no such file, or it is damaged.
    """
    if given is None or given.isdigit():
        return None if given is None else int(given)
    from vggfeat.whitening import Whitening

    return Whitening.load(given)

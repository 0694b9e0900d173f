"""``vggfeat parts``."""

from __future__ import annotations

import click

from vggfeat.cli.output import json_option, print_json, printable, table

_SHOWN = 60


@click.command()
@click.argument("store", type=click.Path())
@click.option("--all", "every", is_flag=True, help="List all parts, not only those to look at.")
@click.option(
    "--retry",
    is_flag=True,
    help="Forget that parts failed, and mark failed images pending, so that the next extract does "
    "them again.",
)
@json_option
def parts(store: str, every: bool, retry: bool, as_json: bool) -> None:
    """Show the state of each part of a store: done, begun, missing, failed or damaged.

    A part that is missing has not been begun. One that failed says why, and the next `vggfeat
    extract` takes it up again. Exit status 1 if one is damaged.

    \b
    Example:
      vggfeat parts photos.store
      vggfeat parts photos.store --retry
    """
    from vggfeat.errors import StoreError
    from vggfeat.store.parts import forget_failures, part_states

    forgotten, images = forget_failures(store) if retry else (0, 0)
    states = part_states(store)
    counts = {word: sum(one.state == word for one in states) for word in _WORDS}
    rows = {name: sum(getattr(one, name) for one in states) for name in _COLUMNS}
    if as_json:
        retried = {"parts": forgotten, "images": images} if retry else None
        print_json({
            "store": store,
            "states": counts,
            **rows,
            "retried": retried,
            "parts": [one.to_json() for one in states],
        })  # fmt: skip
    else:
        shown = [one for one in states if every or one.state != "done" or one.failed]
        if shown:
            cells = [
                [
                    str(one.part),
                    one.state,
                    *(f"{getattr(one, name):,}" for name in _COLUMNS),
                    printable(one.note),
                ]
                for one in shown[: None if every else _SHOWN]
            ]
            right = f"part {' '.join(_COLUMNS)}"
            click.echo(table(cells, ["part", "state", *_COLUMNS, "note"], right=right))
            if len(shown) > _SHOWN and not every:
                click.echo(f"and {len(shown) - _SHOWN:,} more: --all lists them")
            click.echo()
        kinds = ", ".join(f"{count:,} {word}" for word, count in counts.items() if count)
        click.echo(f"{printable(store)}: {len(states):,} parts: {kinds}.")
        click.echo(
            f"{rows['rows']:,} images: {rows['done']:,} done, {rows['failed']:,} failed, "
            f"{rows['pending']:,} pending; {rows['bytes']:,} bytes."
        )
        if retry:
            click.echo(f"To be done again: {forgotten:,} failed parts, {images:,} failed images.")
    if damaged := [one for one in states if one.state == "damaged"]:
        raise StoreError(
            f"{len(damaged)} parts of {printable(store)} are damaged: {damaged[0].note}. Put the "
            "right files in their places; or delete them and their markers, as "
            f"{damaged[0].file} and {damaged[0].file.replace('.h5', '.json')}, and run `vggfeat "
            "extract` again, which computes these parts anew."
        )


_WORDS = ("done", "begun", "missing", "failed", "damaged")
_COLUMNS = ("rows", "done", "failed", "pending", "bytes")

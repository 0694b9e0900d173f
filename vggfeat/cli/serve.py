"""``vggfeat serve``."""

from __future__ import annotations

from typing import Any

import click

from vggfeat.cli.choices import query_options, root_option
from vggfeat.cli.index import index_argument
from vggfeat.cli.output import printable
from vggfeat.web.limits import Limits

_DEFAULTS = Limits()


@click.command()
@index_argument
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen at; with 0.0.0.0 others can reach the page.",
)
@click.option(
    "--allow-host",
    "names",
    multiple=True,
    metavar="NAME",
    help="Another name under which the page is opened, such as that of a proxy; may be given "
    "again.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="0 takes a free one.",
)
@click.option("--open", "browse", is_flag=True, help="Open the page in the browser.")
@root_option
@click.option(
    "--max-upload",
    type=click.IntRange(1, 4096),
    default=_DEFAULTS.upload >> 20,
    show_default=True,
    metavar="MB",
    help="Largest image that is accepted, as a file.",
)
@click.option(
    "--max-pixels",
    type=click.IntRange(min=1),
    default=_DEFAULTS.pixels,
    show_default=True,
    metavar="N",
    help="Largest image that is accepted, in pixels; by default as in extraction.",
)
@query_options
def serve(
    index_path: str,
    browse: bool,
    max_upload: int,
    max_pixels: int,
    **options: Any,
) -> None:
    """Search INDEX in the browser: a page on this machine, and a JSON API.

    Drag a photo in, paste or choose one, draw a box on it, click a result to search from there. The
    API is described at /api. The page shows images from the folders that the index was made from,
    which are printed at the start, and from --root. There is no password: with --host, everybody
    who reaches the address sees these images. Ctrl-C stops it.

    \b
    Example:
      vggfeat serve photos.index --open
      curl -F image=@query.jpg -F k=5 http://127.0.0.1:8000/api/search
    """
    from vggfeat.web import serve as run

    def ready(address: str) -> None:
        click.echo(f"Serving {printable(index_path)} at {address}  (Ctrl-C stops)")
        if browse:
            click.launch(address)

    limits = Limits(upload=max_upload << 20, pixels=max_pixels)
    run(index_path, limits=limits, ready=ready, **options)

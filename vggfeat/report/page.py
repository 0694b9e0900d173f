"""From a template, or bytes, to a file that is there whole or not at all."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from vggfeat._version import __version__
from vggfeat.atomic import atomic_file
from vggfeat.errors import VggfeatError
from vggfeat.provenance import now
from vggfeat.report import text


def destination(path: str | os.PathLike[str]) -> Path:
    """Return where a page will be written; ask before long work whose result it shows.

    Raises
    ------
    VggfeatError
        Its folder does not exist or takes no files, or the path is a folder.
    """
    target = Path(path)
    if target.is_dir():
        raise VggfeatError(f"{target} is a folder. Give the name of a file, as report.html.")
    if not target.parent.is_dir():
        raise VggfeatError(f"{target}: the folder {target.parent} does not exist. Make it first.")
    try:
        TemporaryFile(dir=target.parent).close()
    except OSError as error:
        raise _unwritable(target, error) from error
    return target


def write_whole(path: str | os.PathLike[str], data: bytes) -> Path:
    """Write a file that is there whole or not at all.

    Parameters
    ----------
    path : path
        The file to make or replace.
    data : bytes
        All of it.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    VggfeatError
        The file cannot be written; what was there stays.
    """
    target = destination(path)
    try:
        with atomic_file(target) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        raise _unwritable(target, error) from error
    return target


def write_page(path: str | os.PathLike[str], template: str, **values: Any) -> Path:
    """Render a template into a file.

    Parameters
    ----------
    path : path
        The file to make or replace.
    template : str
        Name of a file in ``templates/``.
    **values
        What the template shows; text is escaped.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    VggfeatError
        The file cannot be written.
    """
    target = destination(path)
    page = (
        _environment()
        .get_template(template)
        .render(
            **values, version=__version__, made=now().replace("T", " ").replace("+00:00", " UTC")
        )
    )
    # A file name's lone surrogates have no UTF-8; they are shown by their numbers.
    return write_whole(target, page.encode("utf-8", "backslashreplace"))


def _unwritable(target: Path, error: OSError) -> VggfeatError:
    return VggfeatError(
        f"{target} cannot be written: {error.strerror or error}. Give another place."
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("vggfeat.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for function in (text.shown, text.counted, text.percent, text.number, text.duration):
        environment.filters[function.__name__] = function
    return environment

"""What files of probes have in common: how they are opened, refused and replaced."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import h5py

from vggfeat import hdf5
from vggfeat.errors import ProbeError
from vggfeat.failures import writing
from vggfeat.locking import WriterLock, destination, replacing


def format_of(path: str | os.PathLike[str]) -> str | None:
    """Return the ``format`` of an HDF5 file; None where it has none or is no such file."""
    try:
        with hdf5.opened(Path(path), ProbeError, ()) as file:
            return hdf5.text(file, "format")
    except (*hdf5.DAMAGED, ProbeError):
        return None


@contextmanager
def reading_probe(
    path: str | os.PathLike[str], kind: str, newest: int, datasets: Sequence[str], remedy: str
) -> Iterator[tuple[h5py.File, int]]:
    """Open a probe's file, and say in words what is wrong with it.

    Parameters
    ----------
    path : path
        The file.
    kind : str
        Its ``format``.
    newest : int
        The newest ``format_version`` that can be read.
    datasets : sequence of str
        What it may have, which is looked at before HDF5 reads any of it.
    remedy : str
        The command that makes such a file.

    Yields
    ------
    file : h5py.File
    version : int

    Raises
    ------
    ProbeError
        The file is missing, damaged, something else, or newer; also instead of what HDF5 raises,
        and ValueError, in the ``with`` statement.
    """
    where = Path(path)
    if not where.is_file():
        raise ProbeError(f"{path} is not a file. `{remedy}` makes one.")
    if format_of(where) != kind:
        raise ProbeError(f"{path} is not such a probe, or damaged. `{remedy}` makes one.")
    try:
        with hdf5.opened(where, ProbeError, datasets) as file:
            if (version := hdf5.integer(file, "format_version")) > newest:
                raise ProbeError(
                    f"{path} was made by a newer vggfeat (format {version}; this one reads up to "
                    f"{newest}). Upgrade vggfeat."
                )
            yield file, version
    except ProbeError:
        raise
    except hdf5.DAMAGED as error:
        raise ProbeError(
            f"{path} is damaged ({' '.join(str(error).split())}). "
            "Copy it again from where it came, or train it anew."
        ) from error


@contextmanager
def replacing_probe(path: str | os.PathLike[str], kind: str) -> Iterator[Path]:
    """Give the path to write a probe's file to, which takes its place once it is whole.

    Raises
    ------
    ProbeError
        A file that is no such probe has this name.
    StoreError
        The folder is missing or cannot be written, the disk is full, or another process is
        writing the same file.
    """
    target = destination(path)
    if target.exists() and target.stat().st_size and format_of(target) != kind:
        raise ProbeError(f"{path} exists and is not such a probe; it stays. Give another name.")
    with WriterLock(target) as lock, writing(target), replacing(target, lock) as temporary:
        yield temporary

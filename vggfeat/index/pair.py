"""The two files of an index, PATH of FAISS and PATH.h5 with its catalogue, kept as one.

Both are written whole under other names first. Then the FAISS file is put in its place, and last
the catalogue, which holds the other's size and checksum. Whatever stops this before the first of
the two leaves the old pair; between them, an old catalogue that refuses the new FAISS file. So
vectors never go under names that are not theirs.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from vggfeat.errors import SearchError
from vggfeat.index.catalogue import FORMAT, Catalogue, format_of
from vggfeat.store.failures import writing
from vggfeat.store.locking import WriterLock
from vggfeat.store.replacing import destination, replacing

_MAGIC = (b"IxM2", b"IxMp")  # how FAISS begins the file of an index with ids


def write(path: str | os.PathLike[str], index: Any, catalogue: Catalogue) -> None:
    """Write both files; see :meth:`vggfeat.index.SimilarityIndex.save`."""
    import faiss

    target = destination(path)
    beside = _beside(target)
    for file, ours in ((target, _is_faiss), (beside, _is_catalogue)):
        if file.exists() and file.stat().st_size and not ours(file):
            raise SearchError(f"{file} exists and is no index; it stays. Give another name.")
    with (
        writing(target),
        WriterLock(target) as lock,
        WriterLock(beside) as lock_beside,
        # Left in reverse: the FAISS file takes its place first.
        replacing(beside, lock_beside) as new_catalogue,
        replacing(target, lock) as new_index,
    ):
        faiss.write_index(index, os.fspath(new_index))
        size, crc32 = _sum(new_index)
        catalogue.write(new_catalogue, faiss_size=size, faiss_crc32=crc32)


def read(path: str | os.PathLike[str]) -> tuple[Any, Catalogue]:
    """Read and check both files; see :meth:`vggfeat.index.SimilarityIndex.load`."""
    import faiss

    target = Path(os.path.realpath(path))
    beside = _beside(target)
    for file in (target, beside):
        if not file.is_file():
            raise SearchError(
                f"{file} is missing: an index is two files, {target.name} and {beside.name}. "
                "Copy both, or make them with `vggfeat index build STORE INDEX`."
            )
    catalogue, size, crc32 = Catalogue.read(beside)
    # Before FAISS reads it: damaged sizes make its reader ask for any amount of memory.
    if (found := _sum(target)) != (size, crc32):
        raise SearchError(
            f"{target} is not the file that {beside.name} was written with: size and CRC-32 "
            f"are {found}, not {(size, crc32)}. Copy both again, or build the index anew."
        )
    try:
        index: Any = faiss.read_index(os.fspath(target))
        ids = faiss.vector_to_array(index.id_map)
    except (RuntimeError, AttributeError) as error:
        raise SearchError(
            f"FAISS cannot read {target}: {' '.join(str(error).split())}. Build it anew."
        ) from error
    if not np.array_equal(ids, catalogue.rows):
        raise SearchError(f"{target} and {beside.name} name other rows. Build them anew.")
    return index, catalogue


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.h5")


def _is_faiss(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) in _MAGIC


def _is_catalogue(path: Path) -> bool:
    return format_of(path) == FORMAT


def _sum(path: Path) -> tuple[int, int]:
    """Return a file's size in bytes and its CRC-32."""
    size = crc32 = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            size, crc32 = size + len(block), zlib.crc32(block, crc32)
    return size, crc32

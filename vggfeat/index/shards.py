"""Inverted lists filled in parts: ranges of vectors are encoded apart, and their lists united.

Each range of the vectors' file is encoded with one trained, empty structure into a *shard*: the
numbers of its vectors and their codes, sorted by inverted list. Shards in the order of their
ranges, list by list, are the lists that adding one vector after another makes, bit for bit: vectors
are encoded in the same blocks as there, and lists hold them in the order of their numbers.

FAISS's own ``merge_from`` is not used: for the packed codes of fast scan (``PQ...x4fs``) it reads
codes that are not there (FAISS 1.15).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vggfeat.atomic import atomic_file
from vggfeat.errors import SearchError
from vggfeat.index import structures
from vggfeat.index.folder import checksum
from vggfeat.index.named_files import open_plain

if TYPE_CHECKING:
    import numpy.typing as npt

    from vggfeat.index.preparing import Integers, Vectors

    Codes = npt.NDArray[np.uint8]

RANGE_BYTES = (128 << 20, 1 << 30)
"""Least and most bytes of vectors in a range; between them there are 64 ranges."""
_RANGES = 64


@dataclass(frozen=True, slots=True)
class RangeTask:
    """Vectors to be encoded by one worker, and where.

    Attributes
    ----------
    number : int
        Which range it is.
    trained : str
        FAISS's file of the trained, empty structure.
    vectors : str
        File of float32 vectors.
    dimension : int
        Numbers in each.
    start : int
        Number of the first vector.
    blocks : tuple of int
        How many vectors are encoded at a time, one block after another.
    shard : str
        The file to be written.
    """

    number: int
    trained: str
    vectors: str
    dimension: int
    start: int
    blocks: tuple[int, ...]
    shard: str


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard that was written.

    Attributes
    ----------
    number : int
        Of its range.
    path : str
    count : int
        Vectors in it.
    size, crc32 : int
        Bytes of its file, and their CRC-32.
    """

    number: int
    path: str
    count: int
    size: int
    crc32: int


def can_be_united(structure: Any) -> bool:
    """Return whether a structure has inverted lists that shards can fill, as HNSW has none."""
    import faiss

    inner = structures.core(structure)
    if not isinstance(inner, faiss.IndexIVF):
        return False
    lists = faiss.downcast_InvertedLists(inner.invlists)
    if isinstance(lists, faiss.BlockInvertedLists):
        return isinstance(inner, faiss.IndexIVFPQFastScan)
    return isinstance(lists, faiss.ArrayInvertedLists)


def cut(blocks: Sequence[int], bytes_each: int) -> Iterator[tuple[int, list[int]]]:
    """Cut blocks of vectors into ranges of :data:`RANGE_BYTES`.

    Yields
    ------
    start : int
        Number of the first vector.
    blocks : list of int
        Of the range, one or more.
    """
    least, most = RANGE_BYTES
    aim = min(most, max(least, -(-sum(blocks) * bytes_each // _RANGES))) // bytes_each
    start = count = 0
    some: list[int] = []
    for block in blocks:
        if some and count + block > aim:
            yield start, some
            start, count, some = start + count, 0, []
        some.append(block)
        count += block
    if some:
        yield start, some


def encode(task: RangeTask, threads: int = 1) -> Shard:
    """Encode a range of vectors, and write their shard; it appears whole or not at all.

    Depends on nothing but the task, so that any worker can do it, on any machine that has the
    files, and do it again. The file is the number of vectors in each list (int64), the numbers of
    the vectors (int64) and their codes (uint8), in the order of the lists.

    Parameters
    ----------
    task : RangeTask
    threads : int
        For FAISS; the shard does not depend on it.

    Raises
    ------
    SearchError
        The vectors' file is too short, or FAISS refuses.
    OSError
        A file cannot be read or written.
    """
    import faiss

    faiss.omp_set_num_threads(threads)
    with open_plain(Path(task.trained)):  # an OSError rather than FAISS's
        structure = faiss.read_index(task.trained)
    inner = structures.core(structure)
    count = sum(task.blocks)
    lists = np.empty(count, np.int64)
    codes = np.zeros((count, inner.code_size), np.uint8)
    at = 0
    with open_plain(Path(task.vectors)) as file, structures.refusing("add to"):
        file.seek(4 * task.dimension * task.start)
        for block in task.blocks:
            vectors = np.fromfile(file, "<f4", block * task.dimension)
            if len(vectors) != block * task.dimension:
                raise SearchError(f"{task.vectors} is shorter than the vectors to be encoded.")
            vectors = _transformed(structure, vectors.reshape(block, -1))
            quantizer = faiss.downcast_index(inner.quantizer)
            assigned = np.ascontiguousarray(quantizer.assign(vectors, 1).reshape(-1))
            _encode(inner, vectors, assigned, codes[at : at + block])
            lists[at : at + block] = assigned
            at += block
    if lists.min(initial=0) < 0:
        raise SearchError("FAISS finds no list for a vector; build the index anew.")
    order = np.argsort(lists, kind="stable")
    sizes = np.bincount(lists, minlength=inner.nlist).astype("<i8")
    path = Path(task.shard)
    with atomic_file(path) as temporary, temporary.open("xb") as written:
        written.write(sizes.data)
        written.write((order + task.start).astype("<i8").data)
        written.write(codes[order].data)
    return Shard(task.number, task.shard, count, *checksum(path))


def unite(structure: Any, shards: Sequence[Shard]) -> None:
    """Put the vectors of shards into an empty structure, list by list.

    Memory holds the structure and one list beside it; shards stay on the disk.

    Parameters
    ----------
    structure : faiss.Index
        Trained and empty; :func:`can_be_united`.
    shards : sequence of Shard
        Of all ranges, in their order.

    Raises
    ------
    SearchError
        A shard is missing, or is not as it was written.
    """
    import faiss

    inner = structures.core(structure)
    lists = faiss.downcast_InvertedLists(inner.invlists)
    opened = [_opened(shard, inner) for shard in shards]
    for number in range(inner.nlist):
        parts = [part for one in opened for part in one.of_list(number)]
        if not parts:
            continue
        ids = np.concatenate([part for part, _ in parts])
        codes = np.concatenate([part for _, part in parts])
        packed = _packed(lists, codes)
        lists.add_entries(number, len(ids), faiss.swig_ptr(ids), faiss.swig_ptr(packed))
    total = sum(shard.count for shard in shards)
    layer = faiss.downcast_index(structure)
    while isinstance(layer, faiss.IndexPreTransform):
        layer.ntotal += total
        layer = faiss.downcast_index(layer.index)
    inner.ntotal += total


@dataclass(frozen=True, slots=True)
class _Opened:
    ends: Integers
    ids: Integers
    codes: Codes

    def of_list(self, number: int) -> Iterator[tuple[Integers, Codes]]:
        start, end = int(self.ends[number]), int(self.ends[number + 1])
        if end > start:
            yield self.ids[start:end], self.codes[start:end]


def _opened(shard: Shard, inner: Any) -> _Opened:
    path, lists = Path(shard.path), int(inner.nlist)
    try:
        right = checksum(path) == (shard.size, shard.crc32)
    except OSError as error:
        raise SearchError(
            f"{path} cannot be read: {error.strerror}. Build the index anew."
        ) from error
    if not right:
        raise SearchError(f"{path} is not as its worker wrote it. Build the index anew.")
    mapped = np.memmap(path, np.uint8, "r")
    sizes = mapped[: 8 * lists].view("<i8")
    ids = mapped[8 * lists :][: 8 * shard.count].view("<i8")
    codes = mapped[8 * (lists + shard.count) :].reshape(shard.count, inner.code_size)
    return _Opened(np.concatenate([[0], np.cumsum(sizes)]), ids, codes)


def _transformed(structure: Any, vectors: Vectors) -> Vectors:
    """Apply what a structure does to vectors before they are encoded."""
    import faiss

    layer = faiss.downcast_index(structure)
    while isinstance(layer, faiss.IndexPreTransform):
        for at in range(layer.chain.size()):
            vectors = faiss.downcast_VectorTransform(layer.chain.at(at)).apply(vectors)
        layer = faiss.downcast_index(layer.index)
    return np.ascontiguousarray(vectors, np.float32)


def _encode(inner: Any, vectors: Vectors, lists: Integers, codes: Codes) -> None:
    import faiss

    pointers = [faiss.swig_ptr(one) for one in (vectors, lists, codes)]
    inner.encode_vectors(len(vectors), *pointers, False)


def _packed(lists: Any, codes: Codes) -> Codes:
    """Return codes as a list keeps them: one by one, or for fast scan in blocks of 32."""
    import faiss

    if not isinstance(lists, faiss.BlockInvertedLists):
        return np.ascontiguousarray(codes)
    packer = lists.packer
    blocks = -(-len(codes) // packer.nvec)
    flat = np.zeros((blocks * packer.nvec, codes.shape[1]), np.uint8)
    flat[: len(codes)] = codes
    packed = np.zeros((blocks, packer.block_size), np.uint8)
    for block, out in zip(np.split(flat, blocks), packed, strict=True):
        packer.pack_all(faiss.swig_ptr(block), faiss.swig_ptr(out))
    return packed


def tasks(
    folder: Path, structure: Any, vectors: Path, dimension: int, blocks: Sequence[int]
) -> list[RangeTask]:
    """Write a trained structure into a folder, and say which ranges are to be encoded there."""
    import faiss

    trained = folder / "trained.faiss"
    faiss.write_index(structure, os.fspath(trained))
    paths = os.fspath(trained), os.fspath(vectors)
    return [
        RangeTask(
            number, *paths, dimension, start, tuple(some), os.fspath(folder / f"shard-{number:05d}")
        )
        for number, (start, some) in enumerate(cut(blocks, 4 * dimension))
    ]

"""Which structure of FAISS suits so many vectors, such memory and such a recall."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vggfeat.errors import SearchError
from vggfeat.failures import amount
from vggfeat.index import structures
from vggfeat.index.structures import FLAT

if TYPE_CHECKING:
    from vggfeat.index.preparing import Metric

KINDS = ("auto", "flat", "hnsw", "ivf", "ivfpq")
"""Kinds by name; anything else is taken as a factory string of FAISS."""
MEMORY = "4GB"
"""Memory that building may take, where nobody says how much."""
RECALL = 0.95
"""Recall of approximate search, where nobody asks for another."""

_EXACT_NUMBERS = 1 << 25  # in a matrix that is compared with a query in about 10 ms
_EXACT_COUNT = 10_000
_PER_LIST = 100  # vectors of the sample for each list
_PER_CODE = 20_000  # vectors of the sample where there are no lists
_LINKS = 4 * 64 + 16  # bytes a vector that a graph takes beside codes
_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_UNITS |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40, "k": 2**10, "m": 2**20}
_UNITS |= {"g": 2**30, "t": 2**40}


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be built.

    Attributes
    ----------
    factory : str
        FAISS's name of the structure; :data:`~vggfeat.index.structures.FLAT` for exact search.
    sample : int
        Number of vectors to train it on.
    size : int
        Bytes that it takes with all vectors.
    """

    factory: str
    sample: int
    size: int = 0


def parse_memory(text: str | int) -> int:
    """Return a number of bytes, given as one or as ``"4GB"``, ``"512MiB"``.

    Raises
    ------
    SearchError
        It is no amount of memory.
    """
    if isinstance(text, int):
        return text
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", text.lower())
    if not match or match[2] not in _UNITS or not float(match[1]):
        raise SearchError(f"{text!r} is no amount of memory. Write 4GB, 512MB or 2GiB.")
    return int(float(match[1]) * _UNITS[match[2]])


def plan(
    kind: str, count: int, dimension: int, metric: Metric, *, memory: int, recall: float
) -> Plan:
    """Choose a structure.

    Parameters
    ----------
    kind : str
        Of :data:`KINDS`, or a factory string.
    count, dimension : int
        Vectors, and numbers in each.
    metric : {"cosine", "l2", "ip"}
    memory : int
        Bytes that building may take.
    recall : float
        Asked for.

    Raises
    ------
    SearchError
        The structure does not fit into memory, or FAISS does not know it.
    """
    factory = _factory(kind, count, dimension, metric, memory=memory, recall=recall)
    if factory == FLAT:
        return Plan(FLAT, 0)
    index = structures.make(factory, dimension, metric)
    needed = count * bytes_each(index)
    if needed > memory:
        raise SearchError(
            f"{factory} of {count:,} vectors of {dimension} numbers takes about {amount(needed)} "
            f"of memory, and --memory allows {amount(memory)}. Allow more, or take --kind ivfpq "
            "or flat."
        )
    lists = int(getattr(structures.core(index), "nlist", 0))
    wanted = max(_PER_LIST * lists, _PER_CODE)
    return Plan(
        factory,
        max(1, min(wanted, count, max(memory - needed, memory // 4) // 2 // (4 * dimension))),
        needed,
    )


def _factory(
    kind: str, count: int, dimension: int, metric: Metric, *, memory: int, recall: float
) -> str:
    name = kind.strip()
    if name.lower() not in KINDS:
        return structures.cleaned(name)
    name = name.lower()
    if name == "auto":
        small = count * dimension <= _EXACT_NUMBERS or count <= _EXACT_COUNT
        name = "flat" if small or recall >= 1 else "ivfpq"
    if name == "flat":
        return FLAT
    if name == "hnsw":
        return _graph(count, dimension, metric, memory)
    coarse = f"IVF{_lists(count)}"
    if name == "ivf":
        return f"{coarse},SQ8"
    return f"{coarse},{_codes(count, dimension, memory)}"


def _graph(count: int, dimension: int, metric: Metric, memory: int) -> str:
    """Return a graph over the most precise numbers that fit, which are the quickest to compare.

    16 bits do for vectors of length 1, and may be too few for others, whose numbers can be large.
    """
    codes, width = ("SQfp16", 2) if metric == "cosine" else ("Flat", 4)
    fits = count * (width * dimension + _LINKS) <= memory
    return f"HNSW32,{codes if fits else 'SQ8'}"


def _lists(count: int) -> int:
    """Return a power of two near 4 sqrt(n), with at least some vectors a list."""
    lists = 2 ** round(math.log2(4 * math.sqrt(max(1, count))))
    return int(max(1, min(lists, 2 ** math.floor(math.log2(max(1, count / 32))))))


def _codes(count: int, dimension: int, memory: int) -> str:
    """Return product quantisation with 4 bits for about 8 numbers, coarser where memory asks."""
    aim = min(256, dimension / 8)
    while aim > 8 and count * (aim / 2 + 8) > memory / 2:
        aim /= 2
    divisors = [m for m in range(1, dimension + 1) if dimension % m == 0 and m <= 256]
    best = min(divisors, key=lambda m: abs(math.log2(m / max(1.0, aim))))
    if not 0.5 <= best / max(1.0, aim) <= 2:
        return "SQ4" if count * (dimension + 8) > memory / 2 else "SQ8"
    return f"PQ{best}x4fs"


def bytes_each(index: Any) -> int:
    """Estimate the memory that a structure takes for each vector."""
    import faiss

    inner = structures.core(index)
    if isinstance(inner, faiss.IndexIVF):
        return int(inner.code_size) + 8
    if isinstance(inner, faiss.IndexHNSW):
        storage = faiss.downcast_index(inner.storage)
        links = int(inner.hnsw.nb_neighbors(0))
        return int(storage.sa_code_size()) + 4 * links + 16
    return int(inner.sa_code_size())

"""Labelled datasets in their official layouts, with the splits and metrics they are known by.

:func:`open_dataset` reads one, :func:`download` fetches it; :func:`open_benchmark` reads one of
image retrieval. Nothing here imports torch, but for a
download.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from functools import partial

from vggfeat.datasets.benchmark import BENCHMARKS, RetrievalBenchmark, open_benchmark
from vggfeat.datasets.dataset import ABSENT, IGNORED, PRESENT, Dataset
from vggfeat.datasets.fetching import DOWNLOADABLE, fetch
from vggfeat.datasets.folders import read_caltech101, read_caltech256, read_folder
from vggfeat.datasets.protocols import PROTOCOLS, Protocol, Published
from vggfeat.datasets.splits import Split, SplitRule
from vggfeat.datasets.voc import read_voc2007, read_voc2012
from vggfeat.datasets.voc_action import read_voc2012_action
from vggfeat.errors import SourceError

__all__ = [
    "ABSENT",
    "BENCHMARKS",
    "DATASETS",
    "DOWNLOADABLE",
    "IGNORED",
    "PRESENT",
    "PROTOCOLS",
    "Dataset",
    "Protocol",
    "Published",
    "RetrievalBenchmark",
    "Split",
    "SplitRule",
    "download",
    "open_benchmark",
    "open_dataset",
]

_READERS: dict[str, Callable[[str | os.PathLike[str]], Dataset]] = {
    "voc2007": read_voc2007,
    "voc2012": read_voc2012,
    "voc2012-action": read_voc2012_action,
    "caltech101": read_caltech101,
    "caltech256": read_caltech256,
    "folder": read_folder,
}

DATASETS = tuple(_READERS)
"""Names of all datasets; ``folder`` is one's own, with a sub-folder for each class."""


def open_dataset(name: str, root: str | os.PathLike[str]) -> Dataset:
    """Read a dataset's lists and labels, and check that its images are there.

    Parameters
    ----------
    name : str
        One of :data:`DATASETS`.
    root : path
        Its folder, or the one that its archives were unpacked in.

    Raises
    ------
    SourceError
        The name is unknown; or the message says what is missing or damaged, what to fetch and
        where to put it.

    Examples
    --------
    >>> dataset = open_dataset("voc2007", "data")          # doctest: +SKIP
    >>> [split] = dataset.splits()                         # doctest: +SKIP
    >>> dataset.targets[split.train].shape                 # doctest: +SKIP
    (5011, 20)
    """
    return _reader(name)(root)


def download(name: str, root: str | os.PathLike[str]) -> None:
    """Fetch a dataset through torchvision and unpack it, unless it is there.

    Parameters
    ----------
    name : str
        One of :data:`DOWNLOADABLE`.
    root : path
        The folder to unpack into; it is made if need be.

    Raises
    ------
    SourceError
        The name is unknown or torchvision does not offer it; the network, the server or the disk
        failed. The message says what to fetch by hand.
    """
    fetch(name, root, partial(_reader(name), root))


def _reader(name: str) -> Callable[[str | os.PathLike[str]], Dataset]:
    try:
        return _READERS[name]
    except KeyError:
        near = difflib.get_close_matches(name, DATASETS, n=2)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        known = ", ".join(DATASETS)
        raise SourceError(f"Unknown dataset {name!r}.{hint} Known are {known}.") from None

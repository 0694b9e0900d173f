"""All labelled datasets, by name: a record stands in the file of its reader, and is named here."""

from __future__ import annotations

import difflib
import os

from vggfeat.datasets.caltech import CALTECH101, CALTECH256
from vggfeat.datasets.dataset import Dataset
from vggfeat.datasets.fetching import fetch
from vggfeat.datasets.folders import FOLDER
from vggfeat.datasets.record import DatasetRecord
from vggfeat.datasets.voc import VOC2007, VOC2012
from vggfeat.datasets.voc_action import VOC2012_ACTION
from vggfeat.errors import SourceError

DATASETS: dict[str, DatasetRecord] = {
    record.name: record
    for record in (VOC2007, VOC2012, VOC2012_ACTION, CALTECH101, CALTECH256, FOLDER)
}
"""Records of all datasets by name; ``folder`` is one's own, with a sub-folder for each class."""

DOWNLOADABLE = tuple(name for name, record in DATASETS.items() if record.download)
"""Names of the datasets that :func:`download` can fetch."""


def dataset_record(name: str) -> DatasetRecord:
    """Return a dataset's record.

    Raises
    ------
    SourceError
        The name is unknown.
    """
    if name not in DATASETS:
        near = difflib.get_close_matches(name, DATASETS, n=2)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise SourceError(f"Unknown dataset {name!r}.{hint} Known are {', '.join(DATASETS)}.")
    return DATASETS[name]


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
    return dataset_record(name).open(root)


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
    record = dataset_record(name)
    if not record.download:
        raise SourceError(
            f"{name!r} cannot be downloaded; {', '.join(DOWNLOADABLE)} can. Give the place of "
            "your images."
        )
    fetch(record, root)

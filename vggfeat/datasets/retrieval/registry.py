"""All benchmarks of image retrieval, by name: a record stands in the file of its reader."""

from __future__ import annotations

import os
from pathlib import Path

from vggfeat.datasets.layout import absolute, compare
from vggfeat.datasets.retrieval.benchmark import RetrievalBenchmark
from vggfeat.datasets.retrieval.folders import FOLDERS
from vggfeat.datasets.retrieval.named import HOLIDAYS, UKBENCH
from vggfeat.datasets.retrieval.oxford import OXFORD5K, PARIS6K
from vggfeat.datasets.retrieval.record import BenchmarkRecord
from vggfeat.datasets.retrieval.revisited import ROXFORD5K, RPARIS6K
from vggfeat.errors import SourceError
from vggfeat.sources import open_folder
from vggfeat.sources.base import as_text

BENCHMARKS: dict[str, BenchmarkRecord] = {
    record.name: record
    for record in (HOLIDAYS, UKBENCH, OXFORD5K, PARIS6K, ROXFORD5K, RPARIS6K, FOLDERS)
}
"""Records of all benchmarks by name; ``folders`` is one's own, with a sub-folder for each class."""


def open_benchmark(
    name: str, root: str | os.PathLike[str], files: str | os.PathLike[str] | None = None
) -> RetrievalBenchmark:
    """Read a benchmark's ground truth, and check that its images are there.

    Parameters
    ----------
    name : str
        One of :data:`BENCHMARKS`.
    root : path
        The folder of its images, at any depth.
    files : path, optional
        Of oxford5k and paris6k, the folder of NAME_query.txt; of roxford5k and rparis6k, the file
        ``gnd_roxford5k.pkl`` or ``gnd_rparis6k.pkl``. By default looked for below `root`.

    Raises
    ------
    SourceError
        The name is unknown; or the message says what is missing or damaged.
    """
    if name not in BENCHMARKS:
        raise SourceError(f"Unknown benchmark {name!r}. Known are {', '.join(BENCHMARKS)}.")
    record, folder = BENCHMARKS[name], absolute(root)
    if not folder.is_dir():
        raise SourceError(f"There is no folder {str(folder)!r}. Give that of the images.")
    if files is not None and not record.files:
        raise SourceError(f"{name} has no files of ground truth; its images' names tell all.")
    paths = [entry.path for entry in open_folder(str(folder)).entries]
    where = _ground_truth(record, folder, files) if record.files else folder
    images, levels = record.read(where, paths)
    queries = len(next(iter(levels.values())))
    if not queries:
        raise SourceError(f"There is nothing to find in {str(folder)!r}: no query has an answer.")
    counts = {"images": len(images), "queries": queries}
    return RetrievalBenchmark(
        name=name,
        root=as_text(str(folder)),
        images=images,
        levels=levels,
        protocol=record.protocol,
        deviations=compare(counts, record.protocol.counts),
    )


def _ground_truth(
    record: BenchmarkRecord, root: Path, given: str | os.PathLike[str] | None
) -> Path:
    if given is not None:
        return Path(given)
    listed = sorted(root.rglob(record.files))
    places = sorted({file.parent if "*" in record.files else file for file in listed})
    if len(places) != 1:
        present = ", ".join(map(str, places)) or "none"
        raise SourceError(
            f"The ground truth of {record.name}, {record.files}, should be in one place below "
            f"{root}; found: {present}. Say with --files which to take."
        )
    return places[0]

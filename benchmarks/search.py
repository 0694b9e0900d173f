"""Search an archive of a million features, beside plain FAISS built by hand from the same data.

In stages, which find what the earlier ones left in FOLDER; each takes minutes and 2 to 5 GiB:

    python benchmarks/search.py data FOLDER
    python benchmarks/search.py build FOLDER auto flat hnsw
    python benchmarks/search.py build FOLDER faiss-auto faiss-flat faiss-hnsw
    python benchmarks/search.py compare FOLDER auto
    python benchmarks/search.py compare FOLDER flat
    python benchmarks/search.py compare FOLDER hnsw
    python benchmarks/search.py limited FOLDER
    python benchmarks/search.py report FOLDER

`compare` sets plain FAISS to the least effort that finds as much, and lets both answer in turns.
`limited` builds and searches in a process that may not allocate more than a quarter of what the
features take, beside what the libraries set aside as they are loaded, most of which they never use.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
from archive import LAYER, make

from vggfeat.cli.output import table
from vggfeat.index import SimilarityIndex
from vggfeat.index.exact import propose
from vggfeat.index.structures import parameters
from vggfeat.progress import bars
from vggfeat.store import FeatureStore

K = 10
OURS = {"auto": "auto", "flat": "flat", "hnsw": "hnsw"}
PLAIN = ("faiss-auto", "faiss-flat", "faiss-hnsw")
HNSW = "HNSW32"

folder_argument = click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
Answer = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.int64]]


@click.group()
def main() -> None:
    """Measure search in a large archive."""


@main.command()
@folder_argument
@click.option("--count", default=1_000_000, show_default=True)
@click.option("--dimension", default=512, show_default=True)
@click.option("--clusters", default=20_000, show_default=True)
@click.option("--queries", default=2000, show_default=True)
def data(folder: Path, count: int, dimension: int, clusters: int, queries: int) -> None:
    """Make the store and the queries, and find the truth by exact search with plain FAISS."""
    folder.mkdir(exist_ok=True)
    make(folder / "photos.h5", folder / "queries.npy", count, dimension, clusters, queries)
    asked, found = np.load(folder / "queries.npy"), []
    start = time.perf_counter()
    with FeatureStore(folder / "photos.h5") as store:
        vectors = store.matrix(LAYER)[1]
    read = time.perf_counter()
    for first in range(0, len(asked), 500):
        found.append(propose(vectors, asked[first : first + 500], K, "ip")[1])
    exact = (time.perf_counter() - read) / len(asked)
    np.save(folder / "truth.npy", np.concatenate(found))
    _keep(folder, "data", {"count": count, "dimension": dimension, "clusters": clusters})
    click.echo(
        f"read in {read - start:.0f} s; exact search {1000 * exact:.1f} ms a query in batches"
    )


@main.command()
@folder_argument
@click.argument("names", nargs=-1, type=click.Choice([*OURS, *PLAIN]))
@click.option("--recall", default=0.99, show_default=True)
@click.option("--memory", default="4GB", show_default=True)
def build(folder: Path, names: tuple[str, ...], recall: float, memory: str) -> None:
    """Build indexes, each in a process of its own."""
    for name in names:
        command = [sys.executable, __file__, "one", str(folder), name]
        subprocess.run([*command, f"--recall={recall}", f"--memory={memory}"], check=True)


@main.command(hidden=True)
@folder_argument
@click.argument("name")
@click.option("--recall", type=float)
@click.option("--memory")
def one(folder: Path, name: str, recall: float, memory: str) -> None:
    """Build an index."""
    start = time.perf_counter()
    with FeatureStore(folder / "photos.h5") as store:
        if name in OURS:
            path = folder / f"{name}.index"
            with bars("image") as progress:
                made = SimilarityIndex.build(
                    store,
                    LAYER,
                    path=path,
                    kind=OURS[name],
                    recall=recall,
                    memory=memory,
                    progress=progress,
                )
            told: dict[str, Any] = made.info().to_json()
            size = told["bytes"]
        else:
            import faiss

            path = folder / f"{name}.faiss"
            index = _plain(folder, name, store)
            faiss.write_index(index, str(path))
            told, size = {"structure": name}, path.stat().st_size
    seconds = time.perf_counter() - start
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    told |= {"build_s": round(seconds, 1), "size_mb": round(size / 1e6), "peak_mib": round(usage)}
    told["anonymous_mib"] = _status("RssAnon")
    _keep(folder, name, told)
    click.echo(f"{name}: built in {seconds:.0f} s, {size / 1e6:,.0f} MB, peak {usage:,.0f} MiB")


def _plain(folder: Path, name: str, store: FeatureStore) -> Any:
    """Build with FAISS alone, as one would by hand: everything in memory."""
    import faiss

    vectors = store.matrix(LAYER)[1]
    if name == "faiss-flat":
        index = faiss.IndexFlatIP(vectors.shape[1])
    else:
        ours = _kept(folder)["auto"]["structure"] + ",RFlat" if name == "faiss-auto" else HNSW
        index = faiss.index_factory(vectors.shape[1], ours, faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    return index


@main.command()
@folder_argument
@click.argument("name", type=click.Choice(list(OURS)))
@click.option("--singles", default=1000, show_default=True, help="Queries asked one by one.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--mapped/--in-memory", default=True, show_default=True)
def compare(folder: Path, name: str, singles: int, rounds: int, mapped: bool) -> None:
    """Let an index and plain FAISS answer the same queries in turns."""
    import faiss

    queries, truth = np.load(folder / "queries.npy"), np.load(folder / "truth.npy")
    with FeatureStore(folder / "photos.h5") as store:
        dataset = store[LAYER]
        bounds = _bounds(dataset, queries, truth)
    index = SimilarityIndex.open(folder / f"{name}.index", mapped=mapped)
    vectors = index.vectors
    index.nearest(queries[:100], K)
    anonymous = _status("RssAnon")
    plain = faiss.read_index(str(folder / f"faiss-{name}.faiss"))
    if name == "flat":
        queries, bounds, singles = queries[:200], bounds[:200], 40

    def recall(places: npt.NDArray[np.int64], of: npt.NDArray[np.float32]) -> float:
        near = [of[own] @ query for own, query in zip(places, queries, strict=True)]
        return float((np.array(near) >= bounds[:, None] - 1e-6).mean())

    def ours(some: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        return index.nearest(some, K)[0]

    def named(some: npt.NDArray[np.float32]) -> Any:
        return index.search(some, K)

    told: dict[str, Any] = {"recall": recall(ours(queries), vectors)}
    position = np.empty(len(index), np.int64)
    position[index.catalogue.rows.row] = np.arange(len(index))

    def recall_plain(answer: Answer) -> float:
        return recall(position[answer(queries)], vectors)

    theirs, setting = _set(plain, name, recall_plain, told["recall"])
    told_plain: dict[str, Any] = {"recall": recall_plain(theirs), "setting": setting}
    contestants = {"ours": ours, "plain": theirs, "named": named}
    seconds: dict[str, list[list[float]]] = {one: [] for one in contestants}
    batches: dict[str, list[float]] = {one: [] for one in contestants}
    for _ in range(rounds):
        for which, answer in contestants.items():
            own = []
            for query in queries[:singles]:
                start = time.perf_counter()
                answer(query[None])
                own.append(time.perf_counter() - start)
            seconds[which].append(own)
            start = time.perf_counter()
            answer(queries)
            batches[which].append(len(queries) / (time.perf_counter() - start))
    for which, kept in (("ours", told), ("plain", told_plain), ("named", told)):
        suffix = "_named" if which == "named" else ""
        kept[f"p50_ms{suffix}"] = round(1e3 * float(np.median(seconds[which])), 4)
        kept[f"p99_ms{suffix}"] = round(1e3 * float(np.quantile(seconds[which], 0.99)), 4)
        kept[f"batch_qps{suffix}"] = round(float(np.median(batches[which])), 1)
    told["search_mib"] = anonymous
    _keep(folder, name, told)
    _keep(folder, f"faiss-{name}", told_plain)
    click.echo(f"ours  {told}\nplain {told_plain}")
    click.echo(
        f"ours / plain: single {told['p50_ms'] / told_plain['p50_ms']:.3f}, "
        f"batch {told_plain['batch_qps'] / told['batch_qps']:.3f}"
    )


def _bounds(dataset: Any, queries: Any, truth: Any) -> npt.NDArray[np.float32]:
    """Return the similarity of each query's tenth neighbour."""
    last = truth[:, K - 1]
    order = np.argsort(last)
    found = np.empty((len(last), dataset.shape[1]), np.float32)
    for at in order:
        found[at] = dataset[int(last[at])]
    return np.einsum("qd,qd->q", found, queries)


def _asking(index: Any, given: Any) -> Answer:
    return lambda some: index.search(some, K, params=given)[1]


def _set(
    plain: Any, name: str, recall: Callable[[Answer], float], wanted: float
) -> tuple[Answer, str]:
    """Return plain FAISS at the least effort of its recall, as one would find by trying."""
    import faiss

    if name == "flat":
        return _asking(plain, None), "all"
    if name == "hnsw":
        for effort in (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512):
            answer = _asking(plain, parameters(plain, effort))
            if recall(answer) >= wanted:
                break
        return answer, f"efSearch {effort}"
    fastest: tuple[float, Any, str] = (np.inf, None, "")
    queries = np.ascontiguousarray(
        faiss.downcast_index(plain.refine_index).reconstruct_n(0, 300), np.float32
    )
    for factor in (1.6, 3.2, 4.8, 6.4, 12.8):
        for lists in (1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128, 181, 256):
            base = parameters(plain.base_index, lists)
            given = faiss.IndexRefineSearchParameters(k_factor=factor, base_index_params=base)
            answer = _asking(plain, given)
            if recall(answer) >= wanted:
                start = time.perf_counter()
                for query in queries:
                    answer(query[None])
                taken = time.perf_counter() - start
                if taken < fastest[0]:
                    fastest = (taken, answer, f"nprobe {lists}, k_factor {factor}")
                break
    if fastest[1] is None:
        return answer, "all tried"
    return fastest[1], fastest[2]


@main.command()
@folder_argument
@click.option("--recall", default=0.99, show_default=True)
@click.option("--threads", default=1, show_default=True)
def limited(folder: Path, recall: float, threads: int) -> None:
    """Build and search where memory is limited to a quarter of what the features take."""
    with FeatureStore(folder / "photos.h5") as store:
        matrix = int(np.prod(store[LAYER].shape)) * 4
    limit = matrix // 4
    code = """
import json, resource, sys, numpy as np
import faiss
from vggfeat.index import SimilarityIndex
from vggfeat.store import FeatureStore
folder, limit, recall = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
def status(name):
    return int(open("/proc/self/status").read().partition(name + ":")[2].split()[0]) << 10
# Libraries set aside what they need for themselves, whatever comes.
ones = np.ones((500, 500), np.float32)
faiss.knn(ones, np.ones((5000, 500), np.float32), 3)
ones @ ones, np.ones((500, 500)) @ np.ones((500, 500))
taken = status("VmData")
# RLIMIT_DATA counts all that a process allocates, and not the files that it maps, whose pages
# the system takes back as it needs them.
resource.setrlimit(resource.RLIMIT_DATA, (taken + limit, taken + limit))
with FeatureStore(f"{folder}/photos.h5") as store:
    index = SimilarityIndex.build(
        store, "relu7", path=f"{folder}/limited.index", kind="auto", recall=recall,
        memory=limit // 2,
    )
queries, found = np.load(f"{folder}/queries.npy"), []
for first in range(0, len(queries), 100):
    found.append(index.nearest(queries[first:first + 100], 10)[0])
rows = index.catalogue.rows.row[np.concatenate(found)].tolist()
told = {"rows": rows, "set_aside_mib": taken >> 20, "anonymous_mib": status("RssAnon") >> 20}
print(json.dumps(index.info().to_json() | told))
"""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    environment["OPENBLAS_NUM_THREADS"] = str(threads)
    words = [sys.executable, "-c", code, str(folder), str(limit), str(recall)]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    told = json.loads(done.stdout)
    truth = np.load(folder / "truth.npy")
    shared = [len(set(a) & set(b)) for a, b in zip(told.pop("rows"), truth.tolist(), strict=True)]
    told |= {"limit_mib": limit >> 20, "threads": threads, "recall": sum(shared) / truth.size}
    told["build_s"] = told["seconds"]
    _keep(folder, "limited", told)
    click.echo(
        f"within {limit / 2**20:.0f} MiB: built in {told['build_s']:.0f} s, {told['structure']}, "
        f"recall {told['recall']:.4f}"
    )


@main.command()
@folder_argument
def report(folder: Path) -> None:
    """Print what was measured."""
    columns = (
        *("build_s", "size_mb", "peak_mib", "recall", "p50_ms", "p99_ms", "batch_qps"),
        *("search_mib", "setting"),
    )
    kept = _kept(folder)
    rows = [
        [name, str(one.get("structure", "")), *(str(one.get(column, "")) for column in columns)]
        for name, one in kept.items()
        if name != "data"
    ]
    click.echo(str(kept["data"]))
    click.echo(table(rows, ["name", "structure", *columns], right=" ".join(columns)))


def _kept(folder: Path) -> dict[str, Any]:
    path = folder / "results.json"
    return json.loads(path.read_text()) if path.exists() else {}  # type: ignore[no-any-return]


def _keep(folder: Path, name: str, values: dict[str, Any]) -> None:
    kept = _kept(folder)
    kept[name] = kept.get(name, {}) | values
    (folder / "results.json").write_text(json.dumps(kept, indent=1))


def _status(field: str) -> int:
    text = Path("/proc/self/status").read_text()
    return int(text.partition(f"{field}:")[2].split()[0]) >> 10


if __name__ == "__main__":
    main()

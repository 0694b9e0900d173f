"""Indexes whose vectors several workers encode are those that one process builds."""

from __future__ import annotations

import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import cli
from conftest import heed_interrupts
from index_rows import make_store

from vggfeat.errors import ClusterError, SearchError
from vggfeat.index import (
    LocalWorkers,
    RayWorkers,
    SimilarityIndex,
    shards,
    structures,
    vector_sources,
)
from vggfeat.index.shards import RangeTask, Shard, encode, unite
from vggfeat.ray_tasks import connected, run_tasks
from vggfeat.store import FeatureStore

COUNT, WIDTH = 1500, 64
KINDS = ["IVF16,SQ8", "IVF16,Flat", "IVF16,PQ16x4fs", "PCA30,IVF16,PQ15x4fs", "IVF16_HNSW8,PQ8x4"]
WITHOUT_RAY = "ray is not installed: the extra `ray`"


class Backwards:
    """Encodes in this process, the last range first."""

    def __init__(self) -> None:
        self.tasks: list[RangeTask] = []

    def encoded(self, tasks: Sequence[RangeTask]) -> Iterator[Shard]:
        for task in reversed(tasks):
            self.tasks.append(task)
            yield encode(task, threads=1 + task.number % 2)


@pytest.fixture(autouse=True)
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_sources, "_BLOCK_BYTES", 1)  # blocks of 256 vectors
    monkeypatch.setattr(shards, "RANGE_BYTES", (4 * WIDTH * 300, 1 << 30))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(40, WIDTH))
    X = centres[rng.integers(0, 40, COUNT)] + 0.5 * rng.normal(size=(COUNT, WIDTH))
    X[7] = 0  # left out
    X[900, 3] = np.nan  # which makes a row that failed
    path = tmp_path_factory.mktemp("shards") / "photos.h5"
    return make_store(path, X.astype(np.float32), left_out=(5, 1200))


def built(store: Path, path: Path, kind: str, workers: object = None) -> SimilarityIndex:
    with FeatureStore(store) as opened:
        return SimilarityIndex.build(
            opened, "relu7", path=path, kind=kind, workers=workers, metric="cosine"
        )


def contents(path: Path) -> dict[str, bytes]:
    """Return what is in an index's files but the catalogue, which holds times."""
    return {one.name.partition("-")[0]: one.read_bytes() for one in path.glob("*-*")}


@pytest.mark.parametrize("kind", KINDS)
def test_an_index_encoded_in_ranges_has_the_very_files_of_one_built_at_once(store, tmp_path, kind):
    alone = built(store, tmp_path / "alone.index", kind)
    workers = Backwards()
    together = built(store, tmp_path / "together.index", kind, workers)
    assert len(workers.tasks) >= 4
    # 149 were held out, one of which may be left out
    encoded = sum(sum(task.blocks) for task in workers.tasks)
    assert encoded + 149 - len(together) in (0, 1)
    assert set(contents(together.folder)) == {"vectors", "faiss"}
    assert contents(together.folder) == contents(alone.folder)
    assert sorted(os.listdir(together.folder)) == sorted(  # noqa: PTH208
        ["index.h5", together.catalogue.files.vectors, together.catalogue.files.faiss]
    )
    queries = np.random.default_rng(1).normal(size=(20, WIDTH))
    for index in (alone, together):  # the effort of a search was chosen by the clock
        index.searcher = index.searcher.set(4, 40)
    ids, scores = alone.nearest(queries, 10)
    again, same = together.nearest(queries, 10)
    assert np.array_equal(ids, again)
    assert scores.tobytes() == same.tobytes()
    together.verify()
    assert together.info().left_out == alone.info().left_out
    assert (together.info().left_out.zero, together.info().left_out.not_done) == (1, 3)


def test_processes_of_this_machine_build_the_same_index(store, tmp_path):
    alone = built(store, tmp_path / "alone.index", KINDS[2])
    done = cli(
        "index", "build", store, tmp_path / "t.index", "--layer", "relu7", "--kind", KINDS[2],
        "--workers", 2,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "t.index") == contents(alone.folder)


def test_workers_and_a_cluster_are_not_asked_for_at_once(store, tmp_path):
    done = cli("index", "build", store, tmp_path / "a.index", "--workers", 2, "--ray")
    assert (done.returncode, "exclude each other" in done.stderr) == (2, True)
    done = cli("index", "build", "--ray", store, tmp_path / "a.index")
    assert (done.returncode, "--ray=local" in done.stderr) == (2, True)


@pytest.mark.parametrize("kind", ["hnsw", "flat"])
def test_kinds_without_lists_are_built_as_ever_and_say_so(store, tmp_path, kind, caplog):
    workers = Backwards()
    with caplog.at_level(logging.WARNING, "vggfeat"):
        index = built(store, tmp_path / "a.index", kind, workers)
    assert len(index) == COUNT - 4
    assert not workers.tasks
    assert ("cannot be put together of parts" in caplog.text) == (kind == "hnsw")


def test_a_failing_worker_leaves_the_index_that_was_there(store, tmp_path):
    before = built(store, tmp_path / "a.index", KINDS[0])
    kept = contents(before.folder)

    class Failing(Backwards):
        def encoded(self, tasks: Sequence[RangeTask]) -> Iterator[Shard]:
            yield encode(tasks[0])
            list(LocalWorkers(2).encoded([replace(tasks[1], vectors="/nowhere")]))

    with pytest.raises(SearchError, match=r"failed 3 times: .*/nowhere'?\. .*--workers"):
        built(store, tmp_path / "a.index", KINDS[0], Failing())
    assert contents(before.folder) == kept
    assert [one.name for one in tmp_path.iterdir()] == ["a.index"]


def test_a_worker_that_dies_says_how(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    (tmp_path / "python").write_text("#!/bin/sh\necho out of luck >&2\nexit 3\n")
    (tmp_path / "python").chmod(0o755)
    task = RangeTask(0, "t", "v", 4, 0, (1,), "s")
    with pytest.raises(SearchError, match=r"failed 3 times: .* status 3 \(out of luck\)"):
        list(LocalWorkers(1).encoded([task]))


def test_a_shard_that_is_not_as_it_was_written_is_refused(store, tmp_path):
    class Damaging(Backwards):
        def encoded(self, tasks: Sequence[RangeTask]) -> Iterator[Shard]:
            for task in tasks:
                yield encode(task)
            with Path(tasks[2].shard).open("r+b") as file:
                file.seek(-3, os.SEEK_END)
                file.write(b"?")

    with pytest.raises(SearchError, match="shard-00002 is not as its worker wrote it"):
        built(store, tmp_path / "a.index", KINDS[0], Damaging())
    assert not (tmp_path / "a.index").exists()


def test_a_range_encoded_twice_is_the_same_and_the_same_shards_make_an_index(store, tmp_path):
    X = np.random.default_rng(2).normal(size=(900, 32)).astype(np.float32)
    structure = structures.make("IVF8,PQ8x4fs", 32, "l2")
    structures.train(structure, X)
    X.tofile(tmp_path / "v.f32")
    blocks = [100] * 9
    tasks = shards.tasks(tmp_path, structure, tmp_path / "v.f32", 32, blocks)
    assert [encode(task) for task in tasks] == [encode(task, threads=2) for task in tasks]
    unite(structure, [encode(task) for task in tasks])
    assert structure.ntotal == 900
    D, found = structure.search(X[:5], 1)
    assert np.isfinite(D).all()
    assert (found >= 0).all()


def test_ranges_hold_all_blocks_in_order_and_are_bounded():
    blocks = [random.Random(0).randrange(1, 500) for _ in range(1000)]
    parts = list(shards.cut(blocks, 4 * WIDTH))
    assert [block for _, some in parts for block in some] == blocks
    assert [start for start, _ in parts] == [
        sum(sum(some) for _, some in parts[:number]) for number in range(len(parts))
    ]
    assert max(sum(some) for _, some in parts) <= max(300, sum(blocks) // 64) + 500


@pytest.mark.skipif(os.name != "posix", reason="interrupts are of POSIX")
def test_an_interrupt_ends_the_workers_and_leaves_nothing(store, tmp_path):
    code = (
        "import sys, time\n"
        "from vggfeat.index import LocalWorkers, SimilarityIndex, shards, vector_sources\n"
        "from vggfeat.store import FeatureStore\n"
        f"shards.RANGE_BYTES = ({4 * WIDTH * 300}, 1 << 30); vector_sources._BLOCK_BYTES = 1\n"
        "def told(stage, *_):\n"
        "    if stage == 'encoding':\n"
        "        print(stage, flush=True)\n"
        "        time.sleep(99)  # the interrupt comes in the middle, however fast the machine is\n"
        "SimilarityIndex.build(FeatureStore(sys.argv[1]), 'relu7', path=sys.argv[2],\n"
        "    kind='IVF16,SQ8', workers=LocalWorkers(2), progress=told)"
    )
    command = [sys.executable, "-c", code, store, tmp_path / "a.index"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=heed_interrupts,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "encoding\n"
        process.send_signal(signal.SIGINT)
        _, told = process.communicate()
    assert "KeyboardInterrupt" in told
    assert list(tmp_path.iterdir()) == []


def slow(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def dying(path: str) -> str:
    """End the worker the first two times."""
    with Path(path).open("a") as file:
        file.write("x")
    if Path(path).stat().st_size < 3:
        os._exit(1)
    return "done"


def broken(path: str) -> str:
    with Path(path).open("a") as file:
        file.write("x")
    raise OSError(5, "the drive is gone")


def refusing(text: str) -> str:
    raise SearchError(text)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    ray = pytest.importorskip("ray", reason=WITHOUT_RAY)
    here = str(Path(__file__).parent)
    ray.init(  # one of its own, whatever cluster another test has started here
        address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
        logging_level="ERROR",
        runtime_env={"env_vars": {"PYTHONPATH": here}},
    )  # fmt: skip
    yield ray
    ray.shutdown()


def test_ray_builds_the_same_index(cluster, store, tmp_path):
    alone = built(store, tmp_path / "alone.index", KINDS[2])
    together = built(store, tmp_path / "together.index", KINDS[2], RayWorkers())
    assert contents(together.folder) == contents(alone.folder)
    assert cluster.is_initialized()  # a program's own connection stays


def test_a_task_of_ray_is_tried_again_as_often_as_said_and_no_more(cluster, tmp_path):
    [(number, result)] = run_tasks(dying, [str(tmp_path / "a")], retries=2)
    assert (number, result) == (0, "done")
    with pytest.raises(ClusterError, match=r"tried 2 times: .*the drive is gone"):
        list(run_tasks(broken, [str(tmp_path / "b")], retries=1))
    assert (tmp_path / "b").read_text() == "xx"
    with pytest.raises(SearchError, match="no such list"):
        list(run_tasks(refusing, ["no such list"]))


def test_tasks_of_ray_that_nobody_waits_for_are_taken_back(cluster):
    results = run_tasks(slow, [0.0, 600.0, 600.0])
    assert next(results)[0] == 0
    results.close()
    assert [number for number, _ in run_tasks(slow, [0.1, 0.0])] in ([0, 1], [1, 0])


def test_an_address_where_no_cluster_is_fails_at_once():
    pytest.importorskip("ray", reason=WITHOUT_RAY)
    code = (
        "from vggfeat.ray_tasks import connected\n"
        "from vggfeat.errors import ClusterError\n"
        "for address in ('127.0.0.1:1', 'ray://127.0.0.1:1'):\n"
        "    try:\n        connected(address).__enter__()\n"
        "    except ClusterError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.count("No Ray cluster answers at") == 2, done.stderr


def test_without_ray_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ClusterError, match=r'pip install "vggfeat\[ray\]"'), connected():
        pass

"""Parts of a store on Ray: a cluster of three nodes on this machine loses nothing, whoever dies."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import cli
from conftest import heed_interrupts
from PIL import Image

from vggfeat import FeatureExtractor, FeatureStore
from vggfeat.errors import ClusterError, DeviceError, ImageError, StoreError
from vggfeat.extract.on_ray import PartWorker
from vggfeat.extract.part_queue import PartQueue
from vggfeat.extract.parts import PartsJob
from vggfeat.extract.ray_pool import RayPool
from vggfeat.extract.ray_slots import slots_of
from vggfeat.ray_tasks import connected
from vggfeat.store.parts import part_states

IMAGES = 36
LAYERS = "relu3_1:none,relu5_3,relu7"
TORN = "b/torn.jpg"


class Nodes:
    """A cluster of two nodes with a CPU each; tests add the third, and kill it."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self._options = {"num_cpus": 1, "object_store_memory": 80 << 20}
        quiet = {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True}
        head = {**self._options, **quiet}
        self.cluster = patiently(lambda: Cluster(initialize_head=True, head_node_args=head))
        self.add()

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    def add(self) -> Any:
        return patiently(lambda: self.cluster.add_node(**self._options, include_log_monitor=False))


def patiently(start: Callable[[], Any]) -> Any:
    """Start a node: Ray gives its processes 30 s, which a busy machine may exceed."""
    said = ""
    for _ in range(3):
        try:
            return start()
        except Exception as error:
            said = str(error)
            if "timed out" not in said.lower():
                raise
    return pytest.skip(f"Ray's processes do not start in time here, tried thrice: {said}")


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    pytest.importorskip("ray", reason="needs the extra ray")
    pytest.importorskip("numba", reason="the Winograd engine gives the same bits everywhere")
    folder = tempfile.mkdtemp(prefix="r", dir="/tmp")  # names of sockets have to be short
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
        environment.setenv("RAY_worker_niceness", "0")
        environment.setenv("RAY_TMPDIR", folder)
        made = Nodes()
        yield made
        made.cluster.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of two classes, and a torn one."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i in range(IMAGES):
        file = folder / "ab"[i % 2] / f"{i:02}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (300, 320 + i, 3), np.uint8)).save(file)
    (folder / TORN).write_bytes(b"\xff\xd8\xff\xe0 torn")
    return folder


@pytest.fixture(scope="module")
def extractor() -> FeatureExtractor:
    return FeatureExtractor("vgg16-tiny", layers=LAYERS, engine="winograd", batch_size=2)


@pytest.fixture(scope="module")
def alone(extractor, photos, tmp_path_factory) -> Path:
    """The store that one process makes."""
    path = tmp_path_factory.mktemp("alone") / "one.h5"
    extractor.extract(photos, path, progress=False)
    return path


def check_equal(path: Path, alone: Path) -> None:
    """Check that a store has all rows, and every bit of them, that one process computes."""
    with FeatureStore(path) as several, FeatureStore(alone) as one:
        assert several.counts() == {"done": IMAGES, "failed": 1, "pending": 0}
        assert several.paths.tolist() == one.paths.tolist()
        assert several.failures() == one.failures()
        assert [path for path, _ in several.failures()] == [TORN]
        assert several.targets == one.targets
        for layer in one.layers:
            assert several[layer][:].tobytes() == one[layer][:].tobytes()
        assert several.verify().ok


def planned(extractor: FeatureExtractor, photos: Path, path: Path, rows: int = 4) -> PartsJob:
    extractor.extract(photos, path, part_rows=rows, plan_only=True)
    return PartsJob.of_store(extractor, path)


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


@pytest.mark.timeout(600)
def test_a_node_that_is_killed_in_the_middle_costs_no_row(
    nodes, extractor, photos, alone, tmp_path, caplog, capfd
):
    caplog.set_level(logging.WARNING)
    third = nodes.add()
    path = tmp_path / "photos.store"
    job = planned(extractor, photos, path)
    told: list[float] = []
    killed: list[str] = []
    doomed, halfway = third.node_id, tmp_path / "halfway"

    class Held(PartWorker):
        """Stands still on the third node, in the middle of a part; others begin when it does."""

        def compute(self, number: int) -> Any:
            while not self._is_doomed() and not halfway.exists():
                time.sleep(0.05)
            return super().compute(number)

        def _count(self, stage: str, more: float, total: float) -> None:
            super()._count(stage, more, total)
            if self._is_doomed():
                halfway.touch()
                time.sleep(600)

        def _is_doomed(self) -> bool:
            import ray

            return bool(ray.get_runtime_context().get_node_id() == doomed)

    with connected(nodes.address) as ray, RayPool(ray, Held, job) as pool:

        def progress(_stage: str, more: float, total: float) -> None:
            assert total == IMAGES + 1
            told.append(more)
            if not killed and halfway.exists():
                killed.append(third.node_id)
                nodes.cluster.remove_node(third, allow_graceful=False)

        run = pool.run(job.chosen(None), progress)
    assert killed
    assert re.search(r"Part \d+ failed on \S+, and is tried again", caplog.text)
    assert sum(told) == IMAGES + 1
    assert not run.failed
    assert (sum(one.tried for one in run.results), sum(one.computed for one in run.results)) == (
        IMAGES + 1,
        IMAGES,
    )
    check_equal(path, alone)
    printed = capfd.readouterr()
    assert not lines(printed.out)
    assert "raylet" not in printed.err


@pytest.mark.timeout(600)
def test_workers_that_end_are_replaced_and_parts_that_never_work_are_left_after_three_attempts(
    nodes, extractor, photos, tmp_path, caplog
):
    caplog.set_level(logging.WARNING)
    path = tmp_path / "photos.store"
    job = planned(extractor, photos, path)
    tally = tmp_path / "tally"

    class Fragile(PartWorker):
        """Ends once, in the middle of part 1, and always with part 4."""

        def compute(self, number: int) -> Any:
            with tally.open("a") as file:
                file.write(f"{number}\n")
            if number == 4 or (number == 1 and tally.read_text().split().count("1") == 1):
                os._exit(1)
            return super().compute(number)

    with connected(nodes.address) as ray, RayPool(ray, Fragile, job) as pool:
        run = pool.run(job.chosen(None), False)
    assert tally.read_text().split().count("4") == 3
    assert tally.read_text().split().count("1") == 2
    assert list(run.failed) == [4]
    states = part_states(path)
    assert [one.state for one in states if one.part != 4] == ["done"] * 9
    assert states[4].state == "failed"
    assert "its worker process ended" in states[4].note
    assert "Part 4 failed" in caplog.text
    assert "in 3 attempts, and is left" in caplog.text
    assert "\n" not in states[4].note


@pytest.mark.timeout(600)
def test_a_part_that_cannot_be_written_ends_in_words_and_status_1_after_all_others_are_done(
    nodes, extractor, photos, alone, tmp_path
):
    path = tmp_path / "photos.store"
    planned(extractor, photos, path, rows=13)
    (path / ".part-00001.h5.lock").mkdir()
    command = [
        "extract", photos, path, "--model", "vgg16-tiny", "--layers", LAYERS, "--engine",
        "winograd", "--json", "--ray", nodes.address,
    ]  # fmt: skip
    done = cli(*command)
    assert done.returncode == 1
    facts = json.loads(done.stdout)
    assert [one["part"] for one in facts["failed_parts"]] == [1]
    assert (facts["parts"], facts["parts_left"]) == (3, 1)
    assert "1 parts failed" in done.stderr
    assert "part-00001.h5" in done.stderr
    assert "Traceback" not in done.stderr
    (path / ".part-00001.h5.lock").rmdir()
    again = cli(*command)
    assert again.returncode == 0, again.stderr
    facts = json.loads(again.stdout)
    assert (facts["computed"] + facts["failed"], facts["parts_left"]) == (13, 0) or (
        facts["computed"], facts["parts_left"]) == (13, 0)  # fmt: skip
    check_equal(path, alone)


@pytest.mark.timeout(600)
def test_with_on_error_stop_the_first_bad_image_ends_the_run(nodes, extractor, photos, tmp_path):
    with pytest.raises(ImageError, match=r"torn\.jpg"):
        extractor.extract(
            photos, tmp_path / "p.store", part_rows=20, on_error="stop", ray=nodes.address
        )


@pytest.mark.timeout(600)
def test_ctrl_c_leaves_finished_parts_finished_and_no_process_of_ray(extractor, tmp_path):
    pytest.importorskip("ray", reason="needs the extra ray")
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for i in range(120):
        pixels = rng.integers(0, 256, (160, 200, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{i:03}.png", compress_level=0)
    path = tmp_path / "photos.store"
    folder = tempfile.mkdtemp(prefix="r", dir="/tmp")
    program = subprocess.Popen(
        [
            sys.executable, "-m", "vggfeat", "extract", str(tmp_path / "photos"), str(path),
            "--model", "vgg16-tiny", "--part-rows", "4", "--ray",
        ],
        env={**os.environ, "RAY_TMPDIR": folder}, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts,
    )  # fmt: skip
    try:
        until(lambda: program.poll() is not None or any(path.glob("part-*.json")))
        finished = {one.name: one.stat().st_mtime_ns for one in path.glob("part-*.json")}
        os.killpg(program.pid, signal.SIGINT)  # as a terminal does
        out, err = program.communicate(timeout=300)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
    assert program.returncode == 130, err
    assert finished
    assert not lines(out)
    assert "the same command continues" in err
    assert "Traceback" not in err
    until(lambda: not processes_with(folder))
    shutil.rmtree(folder, ignore_errors=True)
    states = part_states(path)
    assert any(one.state != "done" for one in states)
    done = {one.file.replace(".h5", ".json") for one in states if one.state == "done"}
    assert set(finished) <= done
    for name, written in finished.items():
        assert (path / name).stat().st_mtime_ns == written
    again = replace(extractor, layers="relu7", engine="auto").extract(
        tmp_path / "photos", path, progress=False
    )
    assert again.done == 120
    assert again.computed < 120


def until(true: Callable[[], bool], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def processes_with(word: str) -> list[str]:
    """Return commands of running processes that name something."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if word.encode() in (text := file.read_bytes()):
                found.append(text.decode(errors="replace"))
    return found


def test_a_machine_without_the_store_the_weights_or_the_same_store_says_so(
    extractor, photos, tmp_path
):
    job = planned(extractor, photos, tmp_path / "photos.store")
    path, key = str(job.plan.path), job.plan.manifest.id
    with pytest.raises(StoreError, match="no store of parts"):
        PartWorker(extractor, str(tmp_path / "no.store"), key, stop=False, cpus=1).prepare()
    with pytest.raises(StoreError, match="another store on this machine"):
        PartWorker(extractor, path, "0" * 32, stop=False, cpus=1).prepare()
    other = FeatureExtractor("vgg16-tiny", weights="random:1", layers=LAYERS)
    with pytest.raises(StoreError, match="weights_sha256"):
        PartWorker(other, path, key, stop=False, cpus=1).prepare()
    facts = PartWorker(extractor, path, key, stop=False, cpus=1).prepare()
    assert facts.engine == "winograd"
    assert facts.deciding()["device"] == "cpu"


def test_one_file_is_refused_before_ray_is_started(extractor, photos, tmp_path):
    with pytest.raises(StoreError, match=r"would be one file.*\.store"):
        extractor.extract(photos, tmp_path / "photos.h5", ray="local")


def test_a_path_behind_ray_is_not_taken_for_an_address(photos, tmp_path):
    done = cli("extract", "--ray", photos, tmp_path / "photos.store", photos)
    assert done.returncode == 2
    assert "--ray=local" in done.stderr


def test_where_ray_is_missing_the_extra_is_named(extractor, photos, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ClusterError, match=r"vggfeat\[ray\]"):
        extractor.extract(photos, tmp_path / "photos.store", ray="local")


def node(name: str, alive: bool = True, **resources: float) -> dict[str, Any]:
    return {
        "NodeID": name, "NodeManagerHostname": f"host-{name}", "Alive": alive,
        "Resources": resources,
    }  # fmt: skip


def test_workers_are_one_a_gpu_or_shares_of_at_most_16_cpus_and_spread_over_the_nodes():
    cpus = [node("a", CPU=2), node("b", CPU=40), node("c", CPU=8, alive=False), node("d")]
    assert [(one.node, one.cpus, one.gpus) for one in slots_of(cpus, "auto")] == [
        ("a", 2, 0), ("b", 13, 0), ("b", 13, 0), ("b", 13, 0),
    ]  # fmt: skip
    both = [*cpus, node("g", CPU=64, GPU=2), node("h", CPU=0, GPU=1)]
    assert [(one.node, one.cpus, one.gpus) for one in slots_of(both, "auto")] == [
        ("g", 32, 1), ("h", 0, 1), ("g", 32, 1),
    ]  # fmt: skip
    assert {one.gpus for one in slots_of(both, "cpu")} == {0}
    with pytest.raises(DeviceError, match="offers a GPU"):
        slots_of(cpus, "cuda")
    with pytest.raises(DeviceError, match="a GPU of its own"):
        slots_of(both, "cuda:1")


def test_attempts_are_bounded_and_a_lock_is_waited_for_only_where_a_worker_was_lost():
    now = 0.0
    queue = PartQueue([0, 1, 2], clock=lambda: now)
    assert [queue.take() for _ in range(4)] == [0, 1, 2, None]
    assert queue.again(0, "torn") is True
    assert queue.again(1, "gone", lost=True) is True
    queue.locked(2, "process 7")
    assert queue.left == {2: "process 7"}
    assert [queue.take() for _ in range(3)] == [0, 1, None]
    assert (queue.again(0, "torn"), queue.take(), queue.again(0, "worn")) == (True, 0, False)
    assert queue.failed == {0: "worn"}
    queue.locked(1, "process 8")
    assert (queue.take(), len(queue)) == (None, 1)
    now = 2.0
    assert queue.take() == 1
    now = 1000.0
    queue.locked(1, "process 8")
    assert queue.left == {2: "process 7", 1: "process 8"}
    assert queue.lost == {1}

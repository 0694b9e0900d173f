"""The Winograd engine keeps to its memory, to its threads, and to the process it is in."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba", reason="the Winograd engine needs numba, the extra `fast`")

from test_engine import MAPS, maps, winograd

import vggfeat
from vggfeat.engine import memory, processor
from vggfeat.engine.buffers import BUFFERS
from vggfeat.engine.machine_code import kernels_for, places, read_kept
from vggfeat.engine.memory import Lifetime, placed
from vggfeat.engine.plan import compiled
from vggfeat.engine.target import targets
from vggfeat.errors import EngineError, LayerError
from vggfeat.layers import architecture
from vggfeat.processors import usable_cores

VGG16 = architecture("vgg16")
PIXELS = np.random.default_rng(0).normal(size=(5, 41, 58, 3)).astype(np.float32)


@settings(max_examples=25)
@given(
    layers=st.sets(st.sampled_from(MAPS), min_size=1, max_size=5),
    count=st.integers(1, 7),
    height=st.integers(32, 70),
    width=st.integers(32, 70),
    threads=st.integers(1, 3),
)
def test_debug_mode_finds_nothing_whatever_runs(layers, count, height, width, threads):
    pixels = np.random.default_rng(0).normal(size=(count, height, width, 3)).astype(np.float32)
    checked = maps(winograd(threads=threads, debug=True), pixels, layers)
    plain = maps(winograd(threads=threads), pixels, layers)
    for name in layers:
        assert np.array_equal(checked[name], plain[name])


def test_debug_mode_is_switched_on_by_the_environment(monkeypatch):
    monkeypatch.setenv("VGGFEAT_ENGINE_DEBUG", "1")
    engine = winograd()
    assert engine.plan({"pool1"}, 1, 40, 40).guards == memory.GUARD
    assert engine.connect("fc7", np.ones((3, 1024), np.float32)).shape == (3, 1024)
    monkeypatch.setenv("VGGFEAT_ENGINE_DEBUG", "0")
    assert winograd().plan({"pool1"}, 1, 40, 40).guards == 0


@pytest.mark.parametrize("where", [-1, 1])
def test_debug_mode_notices_a_single_value_outside_of_a_buffer(where):
    engine = winograd(debug=True)

    def harm(_name: str, found: np.ndarray) -> None:
        height, width, channels = found.shape[1:]
        past = len(found) * height * width * channels if where > 0 else -1
        at = found.ctypes.data + 4 * past
        ctypes.c_float.from_address(at).value = 3

    with pytest.raises(EngineError, match="wrote outside of its buffer"):
        engine.maps(PIXELS, {"relu2_1", "pool2"}, harm)


def test_a_checked_kernel_stops_before_it_leaves_its_memory():
    engine = winograd(debug=True)
    target = engine._packed.targets[0]
    taps, out, counter = memory.aligned(9 * 16 * 64), memory.aligned(99), np.zeros(1, np.int64)
    memory.guard(out)
    addresses = (taps.ctypes.data, out.ctypes.data)
    fault = kernels_for(target).pack(counter.ctypes.data, 16, 16, 64, *addresses, 4)
    assert BUFFERS[fault] == "filters"
    assert memory.unharmed(out)


def test_wrong_sizes_are_refused_before_an_address_is_formed(monkeypatch):
    engine = winograd()
    with pytest.raises(EngineError, match="fc6 takes rows of 512 values"):
        engine.connect("fc6", np.ones((3, 500), np.float32))
    with pytest.raises(LayerError, match="too small for pool5"):
        engine.maps(PIXELS[:, :20, :20], {"pool5"}, lambda *_: None)
    wrong = compiled(VGG16, {"pool1"}, 5, 41, 58, threads=1)
    monkeypatch.setattr(engine, "plan", lambda *_: wrong)
    with pytest.raises(EngineError, match="weights are for other channels"):
        engine.maps(PIXELS, {"pool1"}, lambda *_: None)


@given(st.lists(st.tuples(st.integers(0, 9000), st.integers(0, 6), st.integers(0, 6)), min_size=1))
def test_buffers_alive_together_never_overlap(drawn):
    buffers = [Lifetime(size, min(a, b), max(a, b)) for size, a, b in drawn]
    offsets, total = placed(buffers)
    for i, one in enumerate(buffers):
        assert offsets[i] % memory.ALIGNMENT == 0
        assert offsets[i] + one.bytes <= total
        for j, other in enumerate(buffers[:i]):
            if one.overlaps(other) and one.bytes and other.bytes:
                apart = offsets[i] + one.bytes <= offsets[j]
                assert apart or offsets[j] + other.bytes <= offsets[i]


def test_a_plan_shows_what_is_fused_and_what_is_captured():
    plan = compiled(VGG16, {"conv3_2", "relu5_3"}, 16, 224, 224, threads=2)
    steps = {step.layers: step for step in plan.steps}
    assert steps["conv1_2", "relu1_2", "pool1"].pooled
    assert steps["conv3_2",].captured
    assert not steps["conv3_2",].rectified
    assert steps["relu3_2",].source == steps["relu3_2",].target, "in place, nobody needs the rest"
    assert steps["conv5_3", "relu5_3"].captured
    assert "pool5" not in str(steps), "nothing deeper runs"
    assert [section.images for section in plan.sections] == [1, 2, 16]
    text = plan.describe()
    assert "conv1_2 + relu1_2 + pool1" in text
    assert text.count("captured") == 2


def test_memory_is_planned_and_bounded():
    alone, many = (compiled(VGG16, {"pool5"}, n, 224, 224, threads=2).bytes for n in (1, 16))
    assert alone < 48 << 20
    assert many < 80 << 20, "half of what one pair of torch's maps of the first block takes"


def test_ten_extractors_in_threads_do_not_disturb_each_other():
    asked = {"relu3_1", "pool5"}
    engines = [winograd(threads=1 + number % 3) for number in range(10)]
    alone = maps(engines[0], PIXELS, asked)
    with ThreadPoolExecutor(10) as pool:
        for found in pool.map(lambda engine: maps(engine, PIXELS, asked), engines * 3):
            for name in asked:
                assert np.array_equal(found[name], alone[name])


def _pool5(_number: int) -> np.ndarray:
    return maps(winograd(threads=2), PIXELS, {"pool5"})["pool5"]


@pytest.mark.parametrize("start", multiprocessing.get_all_start_methods())
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_processes_started_in_any_way_have_an_engine_of_their_own(start):
    here = _pool5(0)  # threads are running when the process forks
    with multiprocessing.get_context(start).Pool(2) as pool:
        for found in pool.map(_pool5, range(2)):
            assert np.array_equal(found, here)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs POSIX timers")
def test_an_interrupted_run_leaves_the_engine_usable():
    engine = winograd(threads=2)
    before = maps(engine, PIXELS, {"pool5"})["pool5"]

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    former = signal.signal(signal.SIGALRM, interrupt)
    try:
        for delay in np.random.default_rng(0).uniform(0.0005, 0.01, 150).tolist():
            # Again after some seconds: what is raised within a callback of the garbage collector,
            # which Hypothesis has one of, goes nowhere. On a busy machine the second one may come
            # while the first is dealt with.
            try:
                signal.setitimer(signal.ITIMER_REAL, delay, 5)
                with suppress(KeyboardInterrupt):
                    while True:
                        maps(engine, PIXELS, {"pool5"})
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
    assert np.array_equal(maps(engine, PIXELS, {"pool5"})["pool5"], before)


def test_a_read_only_installation_compiles_without_keeping_anything(tmp_path):
    shutil.copytree(
        Path(vggfeat.__file__).parent, tmp_path / "vggfeat",
        ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"),
    )  # fmt: skip
    (tmp_path / "vggfeat" / "engine" / "__pycache__").write_text("no folder can be made here")
    program = (
        "import numpy as np\n"
        "from vggfeat.engine import machine_code, processor, target\n"
        "targets, counter = target.targets(processor.widths()[0]), np.zeros(1, np.int64)\n"
        "kernels = machine_code.kernels_for(targets[0])\n"
        "assert kernels.rectify(counter.ctypes.data, 16, 0, 0, 0, 0) == 0\n"
        "print(machine_code.__file__)"
    )
    nowhere = str(tmp_path / "vggfeat" / "__init__.py")  # a file, so no cache folder either
    environment = {
        **{k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"},
        "PYTHONPATH": str(tmp_path), "HOME": nowhere, "XDG_CACHE_HOME": nowhere,
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True,
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert str(tmp_path) in done.stdout


def test_a_container_that_grants_less_time_gets_fewer_threads(tmp_path, monkeypatch):
    limit = tmp_path / "cpu.max"
    monkeypatch.setattr("vggfeat.processors._CGROUPS", (limit,))
    everything = usable_cores()
    for text, expected in (("100000 100000", 1), ("max 100000", everything), ("50000 100000", 1)):
        limit.write_text(text)
        assert usable_cores() == expected


def test_kept_kernels_are_loaded_without_numba_and_damaged_ones_are_not_taken(
    tmp_path, monkeypatch
):
    target = targets(processor.widths()[0])[0]
    kernels_for(target)
    kept = next((file for file in places(target) if file.exists()), None)
    if kept is None:
        pytest.skip("no folder can be written in which compiled kernels would be kept")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    copy = next(places(target))
    assert copy.parent == tmp_path
    content = kept.read_bytes()
    copy.write_bytes(content)
    program = (
        "import sys\n"
        "import numpy as np\n"
        "from vggfeat import FeatureExtractor\n"
        "pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)\n"
        "made = {'model': 'vgg16', 'weights': 'random:0', 'layers': 'pool2', 'device': 'cpu'}\n"
        "found = [FeatureExtractor(**made, engine=one)(pixels) for one in ('torch', 'winograd')]\n"
        "assert np.allclose(*[one['pool2'] for one in found], rtol=1e-4)\n"
        "assert 'numba' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    for damaged in (b"", content[:-1], content[:5000] + b"?" + content[5001:], b"?" + content[1:]):
        copy.write_bytes(damaged)
        assert read_kept(copy) is None
    assert read_kept(kept) is not None

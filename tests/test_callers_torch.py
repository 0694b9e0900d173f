"""What a program has set in torch changes no feature, and is afterwards what it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import pytest
import torch
from conftest import draw

from vggfeat import FeatureExtractor, FeatureStore
from vggfeat.engine import processor

needs_winograd = pytest.mark.skipif(bool(processor.unsuited()), reason=processor.unsuited() or "-")
ENGINES = ["torch", pytest.param("winograd", marks=needs_winograd)]
VIEWS = [{"flip": True}, {"view": "dense", "scales": (64, 80), "combine": "stack"}]
LAYERS = "conv1_1,relu2_2:gem,conv4_3:rmac,pool5:spp,fc6,relu7,prob"


@contextmanager
def default_dtype(kind: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(kind)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def default_device(place: str) -> Iterator[None]:
    torch.set_default_device(place)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def products(precision: str) -> Iterator[None]:
    """Set the precision of float32 products by torch's older interface."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def convolutions() -> Iterator[None]:
    """Set the precision of float32 convolutions by torch's newer interface."""
    part = torch.backends.mkldnn.conv
    before = part.fp32_precision
    part.fp32_precision = "bf16"
    try:
        yield
        assert part.fp32_precision == "bf16"
    finally:
        part.fp32_precision = before


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


SETTINGS: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "float64": lambda: default_dtype(torch.float64),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "default device": lambda: default_device("meta"),
    "device": lambda: torch.device("meta"),
    "inference mode": torch.inference_mode,
    "no grad": torch.no_grad,
    "grad": torch.enable_grad,
    "medium products": lambda: products("medium"),
    "bfloat16 convolutions": convolutions,
    "deterministic": deterministic,
}


BUILDING = ("autocast", "float64", "bfloat16", "default device", "inference mode")
"""What might change how a network is built, too."""


def extractor(engine: str, options: dict[str, object]) -> FeatureExtractor:
    given = {"weights": "random:0", "layers": LAYERS, "device": "cpu", "engine": engine}
    return FeatureExtractor("vgg16-tiny", workers=1, **given, **options)


@pytest.mark.parametrize("options", VIEWS, ids=["center", "dense"])
@pytest.mark.parametrize("engine", ENGINES)
def test_what_the_caller_set_in_torch_changes_no_feature(engine, options):
    images = [draw(90, 70, 1)]
    built = extractor(engine, options)
    expected = built(images)
    for name, setting in SETTINGS.items():
        with setting():
            found = [built(images)]
            if name in BUILDING:  # where it is set, too
                found.append(extractor(engine, options)(images))
        for rows in found:
            for layer, values in expected.items():
                assert rows[layer].dtype == values.dtype
                assert rows[layer].tobytes() == values.tobytes(), (name, layer)


def test_a_store_says_float32_and_holds_it_whatever_the_caller_set(photos, tmp_path):
    rows = {}
    for name in ("grad", "autocast", "float64"):
        store = tmp_path / f"{name}.h5"
        with SETTINGS[name]():
            extractor("torch", {}).extract(photos / "cat", store, progress=False)
        with FeatureStore(store) as opened:
            rows[name] = opened["fc6"][:]
    for name, values in rows.items():
        assert values.dtype == np.float32
        assert values.tobytes() == rows["grad"].tobytes(), name


@needs_winograd
def test_an_engine_may_be_chosen_in_another_mode_than_the_network_was_built_in():
    images = [draw(90, 70, 1)]
    expected = extractor("winograd", {})(images)
    for built_in, chosen_in in [("inference mode", "grad"), ("grad", "inference mode")]:
        auto = extractor("auto", {})
        with SETTINGS[built_in]():
            _ = auto.network
        with SETTINGS[chosen_in]():
            auto.hint_workload(10**9)
        assert auto.network.engine.name == "winograd"
        for layer, values in auto(images).items():
            assert values.tobytes() == expected[layer].tobytes()

"""Whether a weight file makes a network that works: tried on a synthetic image."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vggfeat.errors import WeightsError
from vggfeat.layers import Architecture
from vggfeat.network.figures import FIGURES, Reference, convolutions, reference
from vggfeat.network.running import Network
from vggfeat.network.synthetic import synthetic
from vggfeat.preprocessing import PRESETS, ByHand, Preprocessing
from vggfeat.weights import AUTO, STRICT, Weights, inspect, names, resolve
from vggfeat.weights.pairing import alike

FIGURES_KEY = "vggfeat.figures"
"""Where a safetensors file's metadata may hold what its layers put out, as JSON."""

_TOLERANCE = 1e-3
"""Relative difference of a layer's figure that is put down to rounding, also that of float16."""

_USUAL_SPREAD = 2.5
"""By how much, as a standard deviation over classes, an image moves the logits of a network trained
by cross-entropy: the best of a thousand classes stands some 10 above the middle."""

_FARTHER = 4.0
"""By how much nearer to the usual another preprocessing must bring the logits to be suggested."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LayerCheck:
    """What a layer put out for the synthetic image.

    Attributes
    ----------
    name : str
        Canonical name.
    rms : float
        Square root of the mean of its squared values.
    silent : float
        Share of its channels or units that are zero everywhere.
    expected : float or None
        What `rms` is known to be.
    """

    name: str
    rms: float
    silent: float
    expected: float | None


@dataclass(frozen=True)
class Check:
    """Whether a weight file makes a network that works.

    Attributes
    ----------
    path : Path
        The file.
    model : str
        The network.
    layers : tuple of LayerCheck
        Every layer that the file serves, in the order they run.
    spread : dict of str to float
        By how much the image moves the logits away from what an image of nothing but the mean
        colour gives, as a standard deviation over classes, by preprocessing; ``"own"`` is that
        which was used. Empty where there are no logits.
    problems : tuple of str
        What is wrong, each in one line; empty if nothing is.
    whose : str
        Whose the convolutions are, to the last bit; empty if nobody's that is known.
    """

    path: Path
    model: str
    layers: tuple[LayerCheck, ...]
    spread: Mapping[str, float]
    problems: tuple[str, ...]
    whose: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    @property
    def compared(self) -> bool:
        """Whether there were figures to compare with."""
        return any(layer.expected is not None for layer in self.layers)

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values; what is not finite becomes None."""
        return {
            "file": str(self.path),
            "model": self.model,
            "ok": self.ok,
            "problems": list(self.problems),
            "compared": self.compared,
            "convolutions": self.whose or None,
            "logits_spread": {k: v if math.isfinite(v) else None for k, v in self.spread.items()},
            "layers": [
                asdict(layer) | {"rms": layer.rms if math.isfinite(layer.rms) else None}
                for layer in self.layers
            ],
        }


def check(
    path: str | os.PathLike[str],
    *,
    model: str | None = None,
    preprocessing: str | Preprocessing | ByHand = AUTO,
) -> Check:
    """Load a weight file and try it on a synthetic image, on the CPU in float32.

    Every layer must put out finite numbers that are not all the same, and where figures are known
    (for weights in the package, in files that :func:`~vggfeat.network.convert` wrote, and for the
    authors' convolutions in any file, with their own preprocessing) those.
    The scale of the logits tells whether the preprocessing can be right: where weights for 0..255
    get inputs of about -2..2, it is off by a factor of up to 60. That is evidence against
    a preprocessing, not for one: networks trained with batch normalisation, as that in the
    package, hardly change the scale of their logits. It counts where the preprocessing is assumed
    or chosen, not where the file is known.

    Parameters
    ----------
    path : path
        The file.
    model : str, optional
        The network; by default the one whose convolutions the file has.
    preprocessing : str, Preprocessing or ByHand
        As for :func:`vggfeat.weights.resolve`.

    Raises
    ------
    WeightsError
        The file is unreadable, or no layer of it can be used.
    """
    inspected = inspect(path, model)
    network, problems = inspected.network, []
    weights = resolve(str(inspected.path), network, preprocessing)
    try:
        loaded = _loaded(network, weights, inspected.deepest)
    except WeightsError as error:  # such as fully connected layers of nothing but NaN
        problems.append(str(error))
        loaded = _loaded(network, weights, "pool5")
    outputs = _outputs(loaded, network)
    known = _reference(network, weights, inspected.deepest)
    tolerance, expected = _TOLERANCE, known_figures(inspected.path, inspected.sha256)
    if known and not expected and alike(weights.preprocessing, known.preprocessing):
        tolerance, expected = known.tolerance, dict(known.figures)
    layers = tuple(
        LayerCheck(name, rms(value), _silent(value), expected.get(name))
        for name, value in outputs.items()
    )
    problems += _problems(layers, outputs, tolerance)
    spread = _spread(loaded, network) if "fc8" in outputs else {}
    certain = inspected.pairing.sure and preprocessing in (AUTO, STRICT)
    if not certain and (suggested := _suggested(spread)):
        problems.append(
            f"an image moves the logits by {spread['own']:.3g}, where {_USUAL_SPREAD:g} is usual; "
            f"with --preprocessing {suggested} by {spread[suggested]:.3g}"
        )
    whose = known.whose if known else ""
    return Check(inspected.path, network.name, layers, spread, tuple(problems), whose)


def figures(network: Architecture, weights: Weights, deepest: str) -> dict[str, float]:
    """Return what each layer puts out for the synthetic image: the :func:`rms` by layer."""
    loaded = _loaded(network, weights, deepest)
    return {name: rms(value) for name, value in _outputs(loaded, network).items()}


def known_figures(path: Path, sha256: str) -> dict[str, float]:
    """Return the figures that are known of a file, or none."""
    if path.suffix.lower() == ".safetensors":
        from vggfeat.weights import safetensors_file

        if text := safetensors_file.metadata(path).get(FIGURES_KEY):
            try:
                return {str(name): float(value) for name, value in json.loads(text).items()}
            except (ValueError, TypeError, AttributeError) as error:
                raise WeightsError(f"{path}: its metadata {FIGURES_KEY!r}: {error}.") from error
    return dict(FIGURES.get(sha256, {}))


def rms(values: Tensor) -> float:
    """Return the square root of the mean of squares."""
    return float(values.double().square().mean().sqrt())


def _loaded(network: Architecture, weights: Weights, deepest: str) -> Network:
    layers = {
        layer.name: "none" if layer.spatial else "" for layer in network.upto([deepest or "pool5"])
    }
    return Network.load(network, weights, layers, "cpu")


def _outputs(loaded: Network, network: Architecture) -> dict[str, Tensor]:
    return loaded.activations([synthetic(network.input_size)])


def _silent(values: Tensor) -> float:
    channels = values[0].flatten(1) if values.ndim == 4 else values[0][:, None]  # (C, H * W)
    return float((channels == 0).all(1).float().mean())


def _reference(network: Architecture, weights: Weights, deepest: str) -> Reference | None:
    served = {layer.name for layer in network.upto([deepest])} if deepest else set()
    if network.batch_norm or not served.issuperset(one.name for one in convolutions(network)):
        return None
    return reference(network, weights.load(network, names(convolutions(network))))


def _problems(
    layers: tuple[LayerCheck, ...], outputs: Mapping[str, Tensor], tolerance: float
) -> list[str]:
    """Return what is wrong with the first layer that something is wrong with."""
    for layer in layers:
        value = outputs[layer.name].flatten()
        if not math.isfinite(layer.rms):
            return [f"{layer.name} puts out values that are not finite"]
        if bool((value == value[0]).all()):
            return [f"{layer.name} is dead: all that it puts out is {value[0]:g}"]
        known = layer.expected
        if known is not None and not math.isclose(layer.rms, known, rel_tol=tolerance):
            return [f"{layer.name} puts out {layer.rms:.6g}, where {known:.6g} is right"]
    return []


def _spread(loaded: Network, network: Architecture) -> dict[str, float]:
    spread = {}
    side = network.input_size
    nothing = torch.zeros(1, 3, side, side, dtype=torch.float32, device="cpu")
    for name, spec in ({"own": loaded.preprocessing} | PRESETS).items():
        tried = replace(loaded, preprocessing=spec, layers={"fc8": ""})
        moved = _outputs(tried, network)["fc8"] - tried.run([nothing])["fc8"]
        spread[name] = float(moved.double().std())
    return spread


def _suggested(spread: Mapping[str, float]) -> str:
    """Return the preprocessing that brings the logits far nearer to what is usual, if any does."""
    if not spread or not all(value > 0 and math.isfinite(value) for value in spread.values()):
        return ""
    off = {name: abs(math.log(value / _USUAL_SPREAD)) for name, value in spread.items()}
    best = min(off, key=off.__getitem__)
    return best if off["own"] - off[best] > math.log(_FARTHER) else ""

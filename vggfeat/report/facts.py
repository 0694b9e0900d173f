"""Provenance as names and values that a person reads."""

from __future__ import annotations

import os
from collections.abc import Mapping

from vggfeat.provenance import FeatureConfig, RunInfo
from vggfeat.report.text import shown

Facts = Mapping[str, str]
"""Names and values, in the order they are shown."""


def config_facts(config: FeatureConfig, layer: str | None = None) -> dict[str, str]:
    """Name everything that decides the numbers.

    Parameters
    ----------
    config : FeatureConfig
        Of a store, a probe or an index.
    layer : str, optional
        Canonical name of the one layer the page is about; all by default.
    """
    layers = config.layers if layer is None else {layer: config.layers.get(layer, "")}
    named = [f"{name}, pooling {pool}" if pool else name for name, pool in layers.items()]
    facts = {
        "network": config.model,
        "layer" if len(named) == 1 else "layers": "; ".join(named),
        "weights' SHA-256": config.weights_sha256,
        "view": config.view,
    }
    if config.scales:
        facts["scales"] = ", ".join(map(str, config.scales))
    if config.flip:
        facts["flip"] = "averaged with the mirrored image"
    spec = config.preprocessing
    known = {"resize", "crop", "interpolation", "channels", "scale", "mean", "std"}
    if known <= set(spec):
        facts["preprocessing"] = (
            f"smaller side to {spec['resize']} ({spec['interpolation']}), crop {spec['crop']}, "
            f"{spec['channels']}, x{_plain(spec['scale'])}, "
            f"mean {_list(spec['mean'])}, std {_list(spec['std'])}"
        )
    else:
        facts["preprocessing"] = ", ".join(f"{name} {value}" for name, value in spec.items())
    facts["stored as"] = config.dtype
    return facts


def run_facts(run: RunInfo) -> dict[str, str]:
    """Name the circumstances of a run: source, weights as asked for, device, versions, time."""
    weights = run.weights
    if os.sep in weights:
        weights = weights.rsplit(os.sep, 1)[1]
    return {
        "weights": shown(weights),
        "source": shown(run.source),
        "computed on": f"{run.device} in {run.precision}"
        + (f" by {run.engine}" if run.engine else ""),
        **({"prepared so because": shown(run.preprocessing)} if run.preprocessing else {}),
        "begun": run.start.replace("T", " ").replace("+00:00", " UTC"),
        "versions": ", ".join(f"{name} {version}" for name, version in run.versions.items()),
    }


def _plain(scale: float) -> str:
    return f" 1/{round(1 / scale)}" if 0 < scale < 1 else f" {scale:g}"


def _list(values: list[float]) -> str:
    return " ".join(f"{value:g}" for value in values)

"""How a run goes on with an existing store: with its settings, where none were given."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vggfeat.errors import LayerError, StoreMismatchError, WeightsError
from vggfeat.layers import architecture, layer_of
from vggfeat.pooling import parse_layers
from vggfeat.provenance import FeatureConfig, Provenance
from vggfeat.rgb import parse_range
from vggfeat.views import parse_view
from vggfeat.weights.formats import split
from vggfeat.weights.imagenet import SPECS
from vggfeat.weights.seeded import seed_of

_PLAIN = ("model", "view", "flip", "combine", "dtype", "truncated")
_NAMED = ("builtin", *SPECS)


def settings_of(provenance: Provenance) -> dict[str, Any]:
    """Return the settings that a store was made with, as a FeatureExtractor takes them.

    But for `preprocessing`, which belongs to the weights.
    """
    config = provenance.config
    layers = [f"{layer_of(name)}:{pool}" if pool else name for name, pool in config.layers.items()]
    return {
        **{name: getattr(config, name) for name in _PLAIN},
        "layers": layers,
        "scales": config.scales,
        "value_range": config.value_range,
        "weights": provenance.run.weights,
        "precision": provenance.run.precision,
    }


def check_given(name: str, provenance: Provenance, given: Mapping[str, Any]) -> None:
    """Refuse settings with which a store cannot go on, before any weights are looked for.

    Parameters
    ----------
    name : str
        The store's, for the message.
    provenance : Provenance
        The store's.
    given : dict
        Settings that were asked for. Weights that are files are not compared: their digest is,
        later.

    Raises
    ------
    StoreMismatchError
        Some differ from the store's; the message names each with both values.
    """
    config = provenance.config
    different = [
        f"{field} {_text(getattr(config, field))}, not {_text(given[field])}"
        for field in _PLAIN
        if field in given and given[field] != getattr(config, field)
    ]
    if "model" not in given or given["model"] == config.model:
        different += _layers(config, given)
        if "scales" in given:
            dense = parse_view("dense", given["scales"], False, "mean", architecture(config.model))
            if dense.scales != config.scales:
                different.append(f"scales {_text(config.scales)}, not {_text(dense.scales)}")
        if "value_range" in given and parse_range(given["value_range"]) != config.value_range:
            different.append(f"value range {config.value_range}, not {given['value_range']}")
        before, now = provenance.run.weights, str(given.get("weights", provenance.run.weights))
        if _named(before) and _named(now) and _named(before) != _named(now):
            different.append(f"weights {before}, not {now}")
    if different:
        raise StoreMismatchError(
            f"{name} was made with {'; '.join(different)}. All features of a store are made in "
            "one way. Leave out what differs to go on, give another STORE for other features, or "
            "--overwrite to begin this one anew."
        )


def check_weights(name: str, provenance: Provenance) -> None:
    """Refuse to go on where a store's weights are a file that is not there; WeightsError."""
    weights = provenance.run.weights
    if not _named(weights) and not split(Path(weights))[0].is_file():
        raise WeightsError(
            f"{name} was made with the weights {weights}, and there is no such file now. Give its "
            "new place by --weights FILE."
        )


def _layers(config: FeatureConfig, given: Mapping[str, Any]) -> list[str]:
    """Tell in which layers or poolings what was given differs from what a store has."""
    if "layers" not in given and "pool" not in given:
        return []
    network = architecture(config.model)
    layers = given.get("layers", [layer_of(name) for name in config.layers])
    # Layers without a pooling mean the store's, unless one was given for them.
    pools = [given["pool"]] if "pool" in given else ["avg", *filter(None, config.layers.values())]
    asked: dict[str, str] | None = None
    for pool in pools:
        try:
            parsed = parse_layers(layers, pool, network)
        except LayerError:  # a layer twice with one pooling, once it is that one
            if "layers" in given and pool == pools[0]:
                raise
            continue
        if parsed == config.layers:
            return []
        asked = asked or parsed
    text = _text(asked) if asked else f"those pooled by {given['pool']}"
    return [f"layers {_text(config.layers)}, not {text}"]


def _named(weights: str) -> str:
    """Return the name of weights that are known without a file; nothing for files."""
    if weights == "random" or weights.startswith("random:"):
        return f"random:{seed_of(weights)}"
    return weights if weights in _NAMED else ""


def _text(value: Any) -> str:
    """Write a setting as people do."""
    if isinstance(value, dict):
        pools = [f"{layer_of(name)}:{pool}" if pool else name for name, pool in value.items()]
        return ",".join(pools)
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "none"
    return ("off", "on")[value] if isinstance(value, bool) else str(value)

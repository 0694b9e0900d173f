"""Options of an existing store: they are the defaults of the run that goes on with it."""

from __future__ import annotations

import logging
import shlex
from typing import Any

import click
from click.core import ParameterSource

from vggfeat.cli.pixels import PIXELS
from vggfeat.errors import StoreError, StoreMismatchError
from vggfeat.extract import FeatureExtractor
from vggfeat.layers import architecture
from vggfeat.pooling import parse_layers
from vggfeat.weights import AUTO, usual

_log = logging.getLogger(__name__)
_OF_STORES = (
    *("model", "weights", "layers", "view", "scales", "flip", "combine", "pool", "dtype"),
    *("precision", "truncated", "value_range"),
)


def extractor_for(store: str, settings: dict[str, Any], *, resume: bool) -> FeatureExtractor:
    """Make the extractor of ``vggfeat extract``, with an existing store's settings as defaults.

    Parameters
    ----------
    store : str
        Where the features go.
    settings : dict
        All parameters of the extractor, from the command line or by default.
    resume : bool
        Whether an existing store is gone on with.

    Raises
    ------
    StoreMismatchError
        An option was given that is not the store's.
    """
    context = click.get_current_context()

    def was_given(name: str) -> bool:
        names = PIXELS if name == "preprocessing" else (name,)
        sources = [context.get_parameter_source(one) for one in names]
        return any(source not in (None, ParameterSource.DEFAULT) for source in sources)

    held = (*_OF_STORES, "preprocessing")
    given = {name: value for name, value in settings.items() if name not in held or was_given(name)}
    if not resume:
        return FeatureExtractor(**settings)
    try:
        extractor = FeatureExtractor.for_store(store, **given)
    except StoreMismatchError:
        raise
    except StoreError:  # there is none yet, or none that can be read, which extracting will tell
        return FeatureExtractor(**settings)
    taken = [shlex.join(_taken(extractor, given))]
    if extractor.preprocessing != AUTO and "preprocessing" not in given:
        taken.append("with its preprocessing")
    if text := ", ".join(filter(None, taken)):
        _log.info("Continuing as %s was made: %s", store, text)
    return extractor


def _taken(extractor: FeatureExtractor, given: dict[str, Any]) -> list[str]:
    """Return the options by which a store's settings are not those by default."""
    usual_ones = FeatureExtractor()
    texts = {
        "model": extractor.model,
        "weights": str(extractor.weights),
        "layers": ",".join(one.removesuffix(":avg") for one in extractor.layers),
        "scales": ",".join(map(str, extractor.scales)),
        **{name: str(getattr(extractor, name)) for name in _OF_STORES[3:] if name != "scales"},
    }
    default = {name: str(getattr(usual_ones, name)) for name in texts} | {
        "weights": usual(architecture(extractor.model)),
        "scales": "",
    }
    network = architecture(extractor.model)
    if parse_layers(usual_ones.layers, usual_ones.pool, network) == extractor.poolings:
        texts["layers"] = default["layers"]
    words: list[str] = []
    for name, text in texts.items():
        if name not in given and text != default[name]:
            option = f"--{name.replace('_', '-')}"
            words += [option] if name == "flip" else [option, text]
    return words

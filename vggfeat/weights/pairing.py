"""Which preprocessing belongs to a weight file, and why.

A file and its preprocessing are one thing: the wrong pairing gives plausible features that are
wrong. In this order count: what the file says of itself, its digest, whose its first filters are,
and at last its format, which is an assumption and called one.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vggfeat.errors import WeightsError
from vggfeat.layers import Architecture
from vggfeat.preprocessing import (
    PRESETS,
    TORCHVISION,
    TORCHVISION_FEATURES,
    ByHand,
    Preprocessing,
)
from vggfeat.weights import first_filters, known
from vggfeat.weights.formats import FORMATS, format_of, open_file
from vggfeat.weights.state import located
from vggfeat.weights.tensor_file import TensorFile, Understanding

AUTO, STRICT = "auto", "strict"
CHOICES = (AUTO, STRICT, *PRESETS)
"""What may be asked for: what belongs to the file; the same, or a refusal where that is only
assumed; or a preset whatever the file says."""

_BY_NAME = PRESETS | {"torchvision-features": TORCHVISION_FEATURES}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pairing:
    """A preprocessing and the reason for it.

    Attributes
    ----------
    preprocessing : Preprocessing
        What the pixels go through.
    why : str
        One clause for people, without a full stop.
    sure : bool
        Whether that is known, rather than assumed.
    """

    preprocessing: Preprocessing
    why: str
    sure: bool = True


def decided(
    path: Path, sha256: str, network: Architecture, md5: str = "", *, strange: bool = False
) -> Pairing:
    """Find out which preprocessing belongs to a file.

    Parameters
    ----------
    path : Path
        The file.
    sha256, md5 : str
        Its digests in hexadecimal; the latter may be left out.
    network : Architecture
        Gives the input size.
    strange : bool
        Pass over what a graph does to pixels where that is not understood, rather than refuse it;
        `why` then says so.

    Raises
    ------
    WeightsError
        The file is unreadable, or what it says is no preprocessing, or is not understood, or is
        for inputs of another size.
    """
    if (published := known.matching(sha256, md5)) is not None:
        spec = _BY_NAME[published.preprocessing].sized(network.input_size)
        return Pairing(spec, f"its digest is that of {published.file} ({published.publisher})")
    with open_file(path) as file:
        understood = file.understanding
        filters = None if understood.preprocessing else whose(file, network)
    if understood.unclear and not strange:
        raise WeightsError(
            f"{path}: {understood.unclear}. Say what the pixels go through: --preprocessing, or "
            "--scale with --mean and --std."
        )
    if understood.preprocessing is not None:
        return _said(understood.preprocessing, understood, network, path)
    if filters:
        spec = filters[0].preprocessing.sized(network.input_size)
        return Pairing(spec, f"its first filter is that of {filters[0].whose}")
    form = FORMATS[understood.origin] if understood.origin else format_of(path)
    return Pairing(
        form.preprocessing.sized(network.input_size),
        f"{understood.unclear or 'nothing in the file says so'}; assumed, as {form.usual}",
        sure=False,
    )


def _said(
    spec: Preprocessing, understood: Understanding, network: Architecture, path: Path
) -> Pairing:
    if understood.any_size:
        spec = spec.sized(network.input_size)
    if spec.crop != network.input_size:
        raise WeightsError(
            f"{path} is for inputs of {spec.crop} pixels, but {network.name} takes "
            f"{network.input_size}. Give the --model that it was made for."
        )
    return Pairing(spec, f"its own {understood.where} says so")


def chosen(
    default: Pairing, choice: str | Preprocessing | ByHand, network: Architecture, name: str
) -> Pairing:
    """Return what was asked for, warning where it contradicts the file.

    Parameters
    ----------
    default : Pairing
        What belongs to the file, as :func:`decided` says.
    choice : str, Preprocessing or ByHand
        One of :data:`CHOICES`, or a preprocessing itself, which is taken as it is, or its values.
    network : Architecture
        Gives the input size.
    name : str
        Of the file, for messages.

    Raises
    ------
    WeightsError
        The choice is unknown; or it is ``"strict"``, and what belongs to the file is assumed.
    """
    if isinstance(choice, Preprocessing):
        return Pairing(choice, "as given")
    if isinstance(choice, ByHand):
        requested = choice.applied(default.preprocessing)
        _warn(default, requested, "given by hand", name)
        return Pairing(requested, f"given by hand: {choice}")
    if choice == STRICT and not default.sure:
        raise WeightsError(
            f"{name}: which preprocessing belongs to it is not known ({default.why}). Say which: "
            f"--preprocessing {', '.join(PRESETS)}; `vggfeat weights check` measures which fits."
        )
    if choice in (AUTO, STRICT):
        if not default.sure:
            _log.info("%s: %s. --preprocessing says otherwise.", name, default.why)
        return default
    if choice not in PRESETS:
        raise WeightsError(f"Unknown preprocessing {choice!r}. Allowed are {', '.join(CHOICES)}.")
    requested = PRESETS[choice].sized(network.input_size)
    _warn(default, requested, choice, name)
    return Pairing(requested, f"chosen: {choice}")


def _warn(default: Pairing, requested: Preprocessing, choice: str, name: str) -> None:
    if default.sure and not alike(requested, default.preprocessing):
        _log.warning("%s: preprocessing %s contradicts the file: %s.", name, choice, default.why)


def standard_preprocessing(network: Architecture) -> Preprocessing:
    """Return torchvision's preprocessing; for networks of another input size, to that size."""
    return TORCHVISION.sized(network.input_size)


def name_of(spec: Preprocessing) -> str:
    """Return the name of a preprocessing whatever its size, or an empty text."""
    return next((name for name, one in _BY_NAME.items() if one.sized(spec.crop) == spec), "")


def whose(file: TensorFile, network: Architecture) -> tuple[first_filters.Filters, float] | None:
    """Tell whose a file's first filters are; None where they are nobody's that is known."""
    name = located(file.shapes, network).get("features.0.weight")
    if name is None:
        return None
    values = file.read(name)
    array = values if isinstance(values, np.ndarray) else values.double().numpy()
    return first_filters.recognised(array)


def alike(one: Preprocessing, other: Preprocessing) -> bool:
    """Tell whether two differ by no more than the ways the authors' mean colour is written."""
    scaled = []
    for spec in (one, other):
        gain = np.divide(spec.scale, spec.std)
        offset = np.divide(spec.mean, spec.std)
        order = slice(None, None, -1 if spec.channels == "BGR" else 1)
        scaled.append((spec.channels, gain[order], offset[order] / gain[order]))
    (a, gain_a, zero_a), (b, gain_b, zero_b) = scaled
    close = np.allclose(gain_a, gain_b, rtol=0.01) and np.allclose(zero_a, zero_b, atol=2)
    return a == b and bool(close)

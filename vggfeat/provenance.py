"""What decides a store's numbers, what happened while they were made, and how two of them differ.

Resuming, appending, predicting and searching all compare :class:`FeatureConfig` values and refuse
to mix; :class:`RunInfo` is for the reader only.
"""

from __future__ import annotations

import json
import platform
import reprlib
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple, Self

from vggfeat._version import __version__
from vggfeat.errors import StoreMismatchError

_TIME_WIDTH = len("2026-01-01T00:00:00+00:00")
NEVER = " " * _TIME_WIDTH
"""An end not reached yet: as wide as a time, so that a store can be stamped in place."""

_LATER = {"truncated": "refuse", "value_range": "full"}
"""Deciding fields that are left out where they say what was always so: earlier versions of vggfeat
then read the file too."""

_DEEPEST = 8  # levels of JSON; a preprocessing has two


@dataclass(frozen=True, slots=True)
class FeatureConfig:
    """Every setting that changes the features of a store.

    Attributes
    ----------
    model : str
        Canonical name of the network, such as ``"vgg16"``.
    weights_sha256 : str
        SHA-256 of the weight file in hexadecimal; for ``random:SEED`` that of its recipe.
    preprocessing : dict
        Fields of :class:`vggfeat.preprocessing.Preprocessing`.
    view : str
        How network inputs are cut from an image: a name of :data:`vggfeat.views.VIEWS`.
    scales : tuple of int
        Smallest sides in pixels of the dense view; empty for views of one fixed size.
    flip : bool
        Whether features are averaged with those of the mirrored image.
    combine : str
        What becomes of several scales: their ``"mean"``, or a ``"stack"``, one behind the other.
    layers : dict of str to str
        Canonical layer name to pooling; ``"none"`` keeps the map, ``""`` where there is none. A
        layer with several poolings has a key ``LAYER:POOL`` for each.
    dtype : str
        Type the features are stored in, ``"float32"`` or ``"float16"``.
    truncated : str
        ``"accept"`` where images whose end is missing were taken as far as they go.
    value_range : str
        Which values of more than 8 bits became 0..255, see :mod:`vggfeat.rgb`.
    """

    model: str
    weights_sha256: str
    preprocessing: dict[str, Any]
    view: str
    layers: dict[str, str]
    dtype: str = "float32"
    scales: tuple[int, ...] = ()
    flip: bool = False
    combine: str = "mean"
    truncated: str = "refuse"
    value_range: str = "full"

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values; those of :data:`_LATER` only where they differ from before."""
        told: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return {k: v for k, v in told.items() if _LATER.get(k) != v}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Rebuild from :meth:`to_json`; fields this version does not know are an error.

        Fields that later versions added have defaults: what all stores before were made with.
        """
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(data) - known):
            raise ValueError(f"deciding fields {unknown} are unknown to vggfeat {__version__}")
        found = cls(**{**data, "scales": tuple(data.get("scales", ()))})
        _check_types(found)
        if found.dtype not in ("float32", "float16"):
            raise ValueError(f"features are {found.dtype!r}, not float32 or float16")
        return found

    def differences(self, other: FeatureConfig) -> list[str]:
        """Name the fields in which `other` differs, each with both values.

        Returns
        -------
        list of str
            ``"field: ours, theirs"`` for each differing field; empty when all agree.
        """
        ours, theirs = _LATER | self.to_json(), _LATER | other.to_json()
        return [
            f"{name}: {_in_words(ours[name], theirs[name])}"
            for name in ours
            if ours[name] != theirs[name]
        ]

    def check(self, given: FeatureConfig, layer: str, holder: str) -> None:
        """Refuse features that were made in another way than those a probe or index holds.

        Parameters
        ----------
        given : FeatureConfig
            Of the features that are brought to it.
        layer : str
            Canonical name of its layer.
        holder : str
            What it is, for the message: ``"probe"`` or ``"index"``.

        Raises
        ------
        StoreMismatchError
            `given` lacks the layer, or differs; the message names the fields with both values.
        """
        if given.column(layer, self.layers[layer]) is None and not given.columns(layer):
            raise StoreMismatchError(
                f"The {holder} is of {layer}, and only {', '.join(given.layers)} is given. "
                f"Extract {layer}."
            )
        theirs = given.column(layer, self.layers[layer]) or given.columns(layer)[0]
        if differing := self.for_layer(layer).differences(given.for_layer(theirs)):
            raise StoreMismatchError(
                f"The {holder}'s features were made in another way: {'; '.join(differing)}. "
                f"Extract with the {holder}'s values, or make the {holder} anew."
            )

    def for_layer(self, layer: str) -> FeatureConfig:
        """Return the same values for one layer alone, as probes and indexes carry them.

        Its name is then the plain one, which finds the only pooling of it that there is.
        """
        return replace(self, layers={layer.partition(":")[0]: self.layers[layer]})

    def columns(self, layer: str) -> list[str]:
        """Return the keys of a layer's poolings, none where it is not there."""
        plain = layer.partition(":")[0]
        return [key for key in self.layers if key.partition(":")[0] == plain]

    def column(self, layer: str, pool: str) -> str | None:
        """Return the key of a layer with a pooling, None where it is not there."""
        return next((key for key in self.columns(layer) if self.layers[key] == pool), None)


@dataclass(frozen=True, slots=True)
class RunInfo:
    """Circumstances of a run; they never decide whether stores may be mixed.

    Attributes
    ----------
    source : str
        Absolute path of the folder, list or archive that the images came from.
    weights : str
        The weights as they were asked for: ``"imagenet"``, a path, or ``"random:SEED"``.
    device, precision : str
        Where and in which type the network ran.
    start, end : str
        ISO 8601 with seconds, UTC; `end` is blank until a run reaches its end.
    engine : str
        What ran the layers, ``"torch"`` or ``"winograd"``; empty where nobody noted it.
    versions : dict of str to str
        Versions of Python and of the packages that touch the numbers.
    preprocessing : str
        Why the pixels were prepared as they were: what the weight file says, or that somebody
        chose it. Empty in stores made before that was written down.
    """

    source: str
    weights: str
    device: str
    precision: str
    start: str
    end: str = NEVER
    engine: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    preprocessing: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Rebuild from :meth:`to_json`, leaving out fields of later versions."""
        known = {f.name for f in fields(cls)}
        found = cls(**{k: v for k, v in data.items() if k in known})
        _check_types(found)
        return found


class SourcePlace(NamedTuple):
    """A source of a store's images.

    Attributes
    ----------
    name : str
        First part of its images' paths, where a store has several sources; empty otherwise.
    root : str
        Absolute path of the folder or archive that the rest of the paths is relative to.
    spec : str
        What was extracted, as an absolute path: the same, or a list or image in that folder.
    """

    name: str = ""
    root: str = ""
    spec: str = ""

    @property
    def text(self) -> str:
        """What :func:`vggfeat.sources.open_stored` takes: ``root``, or ``name=root``."""
        return f"{self.name}={self.root}" if self.name else self.root

    @property
    def place(self) -> tuple[str, str]:
        """Where it is, whatever its name."""
        return self.root, self.spec


@dataclass(frozen=True, slots=True)
class Provenance:
    """Both halves, as a store's ``provenance`` attribute holds them."""

    config: FeatureConfig
    run: RunInfo

    def dumps(self) -> str:
        """Return the JSON text that a store holds."""
        both = {"deciding": self.config.to_json(), "happened": self.run.to_json()}
        return json.dumps(both, ensure_ascii=True, indent=1)

    @classmethod
    def loads(cls, text: str) -> Self:
        """Read what :meth:`dumps` wrote.

        Raises
        ------
        ValueError
            The text is not JSON, or lacks a field.
        """
        try:
            data = json.loads(text)
            return cls(
                FeatureConfig.from_json(data["deciding"]), RunInfo.from_json(data["happened"])
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"provenance is incomplete: {error}") from error


def _in_words(ours: Any, theirs: Any) -> str:
    """Say in what two values of a field differ, without the notation of a programming language."""
    if not isinstance(ours, dict):
        return f"{_written(ours)}, not {_written(theirs)}"
    if all(isinstance(pool, str) for pool in (*ours.values(), *theirs.values())):
        mine, others = (
            ",".join(f"{name.partition(':')[0]}:{pool}" if pool else name for name, pool in one)
            for one in (ours.items(), theirs.items())
        )
        return f"{mine}, not {others}"
    names = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
    return ", ".join(
        f"{name} {_written(ours.get(name))}, not {_written(theirs.get(name))}" for name in names
    )


def _written(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value)) or "none"
    return ("off", "on")[value] if isinstance(value, bool) else repr(value)


def _check_types(held: FeatureConfig | RunInfo) -> None:
    """Refuse JSON of other types than the fields have; ValueError."""
    for one in fields(held):
        value = getattr(held, one.name)
        kind, _, inner = str(one.type).partition("[")
        right = type(value).__name__ == kind
        if right and kind == "tuple":
            right = all(type(part) is int and 0 < part < 1 << 16 for part in value)
        elif right and inner == "str, str]":
            right = all(isinstance(part, str) for part in value.values())
        elif right and kind == "dict":
            right = _flat(value, _DEEPEST)
        if not right:
            raise ValueError(f"{one.name} is {reprlib.repr(value)}")


def _flat(value: Any, most: int) -> bool:
    """Whether JSON holds no more levels of lists and objects than `most`."""
    if not isinstance(value, dict | list):
        return True
    parts = value.values() if isinstance(value, dict) else value
    return most > 0 and all(_flat(part, most - 1) for part in parts)


_DECODERS = ("pillow-heif", "tifffile", "imagecodecs", "rawpy")


def now() -> str:
    """Return the present time in UTC as ISO 8601, always of the same width."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Return versions of Python and of the packages that touch the numbers, importing none."""
    found = {"vggfeat": __version__, "python": platform.python_version()}
    for package in ("torch", "torchvision", "numpy", "pillow", *_DECODERS, "h5py", "numba"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found

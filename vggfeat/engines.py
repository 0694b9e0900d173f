"""What can run a network's layers: a record an engine.

A record names the class that does it, which is imported when it is used: it may need torch or
numba. To add an engine, write a :class:`~vggfeat.network.engines.Runner` under ``vggfeat/network/``
and add its record; choices and help texts follow from it.
"""

from __future__ import annotations

from dataclasses import dataclass

from vggfeat.errors import DeviceError


@dataclass(frozen=True, slots=True)
class EngineRecord:
    """An engine.

    Attributes
    ----------
    name : str
        As on the command line and in a store's provenance.
    summary : str
        A few words for help texts.
    home : str
        ``module:class`` of its :class:`~vggfeat.network.engines.Runner`.
    """

    name: str
    summary: str
    home: str


ENGINES: dict[str, EngineRecord] = {
    record.name: record
    for record in (
        EngineRecord("torch", "runs everywhere", "vggfeat.network.torch_engine:TorchEngine"),
        EngineRecord(
            "winograd",
            "faster on CPUs in float32, needs numba (vggfeat[fast])",
            "vggfeat.network.winograd_engine:WinogradEngine",
        ),
    )
}
"""Engines by name; the first one runs everywhere, and those behind it are faster where they run."""

AUTO = "auto"
"""Takes a faster engine where it can run and there is enough to do."""

ENGINE_CHOICES = (AUTO, *ENGINES)
"""What may be asked to run a network."""


def check_engine(name: str) -> None:
    """Raise :class:`DeviceError` where there is no such engine."""
    if name != AUTO and name not in ENGINES:
        raise DeviceError(f"Unknown engine {name!r}. Known are {', '.join((AUTO, *ENGINES))}.")

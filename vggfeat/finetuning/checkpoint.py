"""A training run's state on disk, from which it goes on as if nothing had happened."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vggfeat.atomic import atomic_file, leftovers
from vggfeat.errors import TrainingError

ENDING, FORMAT = ".checkpoint.pt", 1
_SECONDS = 60.0
_SHARE = 20  # writing takes at most one part in so many of the time
_SHOWN = 6


@dataclass
class Checkpoint:
    """Where a run keeps its state.

    Attributes
    ----------
    path : Path
    about : dict
        JSON-ready values that a run must have in common with the one that is gone on with:
        ``settings``, ``classes``, ``images``.
    seconds : float
        Least time between two writings within an epoch.
    """

    path: Path
    about: dict[str, Any]
    seconds: float = _SECONDS
    _written: float = field(default_factory=time.monotonic)
    _took: float = 0.0

    @property
    def due(self) -> bool:
        """Whether it is time to write within an epoch."""
        return time.monotonic() - self._written >= max(self.seconds, _SHARE * self._took)

    def write(self, state: dict[str, Any]) -> None:
        """Replace the file, whole or not at all."""
        import torch

        begun = time.monotonic()
        whole = {"format": FORMAT, "about": json.dumps(self.about), **state}
        try:
            with atomic_file(self.path) as temporary:
                torch.save(whole, temporary)
        except (OSError, RuntimeError) as error:
            raise TrainingError(
                f"{self.path} cannot be written: {error}. Make room, or give another place "
                "(--cache); the same command goes on from the last checkpoint."
            ) from error
        self._written = time.monotonic()
        self._took = self._written - begun

    def read(self) -> dict[str, Any] | None:
        """Return the state, on the CPU; None where there is none yet.

        Raises
        ------
        TrainingError
            The file is damaged, or of a run with other settings, classes or images.
        """
        for one in leftovers(self.path) if self.path.parent.is_dir() else ():
            one.unlink()
        if not self.path.exists():
            return None
        import torch

        try:
            state: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
            about = json.loads(state["about"])
            number = state["format"]
        except Exception as error:  # of many kinds, by what is wrong with the file
            raise TrainingError(
                f"{self.path} cannot be read as a checkpoint ({type(error).__name__}). Begin anew "
                "with --overwrite."
            ) from error
        if number != FORMAT:
            raise TrainingError(
                f"{self.path} was written by another version of vggfeat. Begin anew with "
                "--overwrite."
            )
        self._check(about)
        return state

    def _check(self, begun: dict[str, Any]) -> None:
        ours = self.about
        lost, more = (
            [name for name in one if name not in other]
            for one, other in (
                (begun["classes"], ours["classes"]), (ours["classes"], begun["classes"])
            )
        )  # fmt: skip
        if lost or more:
            told = [f"{listed(more)} more"] if more else []
            told += [f"{listed(lost)} less"] if lost else []
            raise TrainingError(
                f"{self.path} is of a run on {len(begun['classes'])} classes, and there are "
                f"{len(ours['classes'])} now: {' and '.join(told)}. Restore the folders as they "
                "were to go on, or begin anew with --overwrite."
            )
        theirs = begun["settings"]
        changed = [
            f"{name} {theirs.get(name)!r}, not {value!r}"
            for name, value in ours["settings"].items()
            if theirs.get(name) != value
        ]
        if changed:
            raise TrainingError(
                f"{self.path} is of a run with other settings: {'; '.join(changed[:_SHOWN])}. Give "
                "the same to go on with it, or begin anew with --overwrite."
            )
        if begun["images"] != ours["images"]:
            raise TrainingError(
                f"{self.path} is of a run on other images, labels or splits than there are now. "
                "Restore them to go on, or begin anew with --overwrite."
            )


def listed(names: list[str]) -> str:
    """Name the first of some classes, and how many more there are."""
    shown = ", ".join(map(repr, names[:_SHOWN]))
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} others"

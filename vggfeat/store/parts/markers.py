"""What stands beside a part: that it is done, or why the last attempt at it failed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Self

from vggfeat.provenance import RunInfo

_REASON = 2000  # characters


@dataclass(frozen=True, slots=True)
class Marker:
    """What is known of a part without opening it.

    Attributes
    ----------
    id : str
        Of the store that it is of.
    done, failed : int
        Rows that hold features, and rows whose images could not be read.
    bytes : int
        Size of its file when it was finished.
    runs : tuple of RunInfo
        The runs that computed rows of it, oldest first.
    reason : str
        Why the last attempt at the whole part failed; empty where the part is done.
    """

    id: str
    done: int = 0
    failed: int = 0
    bytes: int = 0
    runs: tuple[RunInfo, ...] = ()
    reason: str = ""

    @property
    def finished(self) -> bool:
        """Whether the part is done: written, read again and found right."""
        return not self.reason

    def dumps(self) -> str:
        """Return its JSON text."""
        runs = [run.to_json() for run in self.runs]
        values = asdict(self) | {"runs": runs, "reason": self.reason[:_REASON]}
        return json.dumps(values, indent=1)

    @classmethod
    def loads(cls, text: str) -> Self:
        """Read what :meth:`dumps` wrote; ValueError where it is anything else."""
        try:
            data: dict[str, Any] = json.loads(text)
            runs = tuple(RunInfo.from_json(run) for run in data["runs"])
            found = cls(**{**data, "runs": runs})
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"it is incomplete: {error}") from error
        for name in ("done", "failed", "bytes"):
            value = getattr(found, name)
            if type(value) is not int or value < 0:
                raise ValueError(f"{name!r} is {str(value)[:80]!r}")
        if not isinstance(found.id, str) or not isinstance(found.reason, str):
            raise ValueError("'id' and 'reason' are no texts")
        return found

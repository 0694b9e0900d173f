"""Parts of a store that wait to be computed by somebody, each with so many attempts."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable

ATTEMPTS = 3
_PATIENCE = 180.0  # seconds until the lock of a machine that is gone must have ended
_PAUSE = 1.0


class PartQueue:
    """Says which part comes next, and what has become of those that could not be done.

    Parts come in the order of their numbers; one that failed comes again after the others. A part
    whose worker was lost may still be locked for a while, by a process that is ending or on a
    file server that waits for a machine that is gone: it is then tried again each second for three
    minutes. One that somebody else writes is left to them at once.

    Parameters
    ----------
    numbers : iterable of int
        The parts.
    attempts : int
        How often each is tried.
    clock : callable
        Gives the time in seconds.

    Attributes
    ----------
    failed : dict of int to str
        Parts that failed in all attempts, and why in the last.
    left : dict of int to str
        Parts that somebody else is writing, and who.
    lost : set of int
        Parts whose worker ended in one of the attempts.
    """

    def __init__(
        self,
        numbers: Iterable[int],
        *,
        attempts: int = ATTEMPTS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._waiting: list[tuple[int, float]] = [(number, 0.0) for number in numbers]
        self._attempts, self._clock = attempts, clock
        self._tried: Counter[int] = Counter()
        self._lost_at: dict[int, float] = {}
        self.failed: dict[int, str] = {}
        self.left: dict[int, str] = {}

    def __len__(self) -> int:
        """Return how many parts wait."""
        return len(self._waiting)

    @property
    def lost(self) -> set[int]:
        """Parts whose worker ended in one of the attempts."""
        return set(self._lost_at)

    def take(self) -> int | None:
        """Return the part to be tried now; None where none is, or each has to wait a little."""
        now = self._clock()
        for place, (number, ready) in enumerate(self._waiting):
            if ready <= now:
                del self._waiting[place]
                return number
        return None

    def again(self, number: int, why: str, *, lost: bool = False) -> bool:
        """Note that an attempt failed; return whether the part will be tried again.

        Parameters
        ----------
        number : int
            The part.
        why : str
            The reason.
        lost : bool
            Whether its worker ended, so that its lock may be held a while longer.
        """
        self._tried[number] += 1
        if lost:
            self._lost_at[number] = self._clock()
        if self._tried[number] >= self._attempts:
            self.failed[number] = why
            return False
        self._waiting.append((number, 0.0))
        return True

    def locked(self, number: int, why: str) -> None:
        """Note that somebody holds the part's lock; that is no attempt."""
        now = self._clock()
        if number in self._lost_at and now < self._lost_at[number] + _PATIENCE:
            self._waiting.append((number, now + _PAUSE))
        else:
            self.left[number] = why

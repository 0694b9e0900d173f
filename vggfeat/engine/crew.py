"""Threads that run kernels together, one crew for the whole process."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

import numpy as np

from vggfeat.engine.memory import Floats, aligned

_STOP = 1 << 40  # no kernel has as many jobs

Work = Callable[[int, int], int]
"""Address of the jobs' counter and number of the thread, to a kernel's answer."""


class Crew:
    """Threads, and the memory that they work in.

    There is one of a process, :func:`crew`, because there is one set of processors. Who holds
    :attr:`lock` has both to themselves, so that several extractors take turns.

    Attributes
    ----------
    lock : threading.Lock
        Hold it while a plan runs.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._size = 0
        self._memory = aligned(0)
        self._counter = np.zeros(1, np.int64)

    def memory(self, values: int) -> Floats:
        """Return `values` floats, the same ones as before where they suffice."""
        if self._memory.size < values:
            self._memory = aligned(0)  # let go of the old ones first
            self._memory = aligned(values)
        return self._memory[:values]

    def run(self, work: Work, threads: int) -> int:
        """Let threads, the caller among them, do a kernel's jobs.

        Parameters
        ----------
        work : callable
            Calls the kernel, which takes jobs from the counter until none is left.
        threads : int
            How many call it.

        Returns
        -------
        int
            0, or what a kernel answered that stopped at a fault.
        """
        self._counter[0] = 0
        counter = self._counter.ctypes.data
        helpers: list[Future[int]] = []
        try:
            if threads > 1:
                pool = self._threads(threads - 1)
                helpers = [pool.submit(work, counter, number) for number in range(1, threads)]
            answers = [work(counter, 0), *(helper.result() for helper in helpers)]
        except BaseException:  # Ctrl-C, say, which may come before `helpers` names all that work
            self._counter[0] = _STOP
            self._dismiss()
            raise
        return next((answer for answer in answers if answer), 0)

    def _threads(self, count: int) -> ThreadPoolExecutor:
        if self._pool is None or self._size < count:
            self._dismiss()
            self._pool = ThreadPoolExecutor(count, thread_name_prefix="vggfeat-engine")
            self._size = count
        return self._pool

    def _dismiss(self) -> None:
        """Wait until no thread uses the memory any more, however often Ctrl-C is pressed."""
        while self._pool is not None:
            with suppress(KeyboardInterrupt):
                self._pool.shutdown(cancel_futures=True)
                self._pool = None


_crew = Crew()


def crew() -> Crew:
    """Return the process's crew; a forked process gets a new one, with threads of its own."""
    return _crew


def _renew() -> None:
    global _crew
    _crew = Crew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)

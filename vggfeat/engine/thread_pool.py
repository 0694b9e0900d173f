"""Threads that run kernels together, one pool for the whole process."""

from __future__ import annotations

import _thread
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Any

import numpy as np

from vggfeat.engine.memory import Floats, aligned

_STOP = 1 << 40  # no kernel has as many jobs

Work = Callable[[int, int], int]
"""Address of the jobs' counter and number of the thread, to a kernel's result."""
Task = Callable[[], object]


class Worker:
    """A thread that does what it is given, in that order, and puts out what comes of it.

    Ctrl-C may interrupt the thread that gives the tasks anywhere, also while it takes a lock. Where
    that is several steps of Python, as in ``concurrent.futures`` and ``threading.Thread.start``,
    the lock then stays taken for ever. These queues take one step.
    """

    def __init__(self) -> None:
        self.tasks: SimpleQueue[Task] = SimpleQueue()
        self.results: SimpleQueue[Any] = SimpleQueue()
        _thread.start_new_thread(self._work, ())

    def _work(self) -> None:
        while True:
            self.results.put(_result(self.tasks.get()))


def _itself(mark: object) -> object:
    return mark


def _result(task: Task) -> Any:
    try:
        return task()
    except BaseException as error:
        return error


class ThreadPool:
    """Threads, and the memory that they work in.

    There is one of a process, :func:`thread_pool`, because there is one set of processors. Who
    holds :attr:`lock` has both to themselves, so that several extractors take turns.

    Attributes
    ----------
    lock : threading.Lock
        Hold it while a plan runs.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._workers: list[Worker] = []
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
            0, or what a kernel returned that stopped at a fault.
        """
        self._counter[0] = 0
        counter = self._counter.ctypes.data
        while len(self._workers) < threads - 1:
            self._workers.append(Worker())
        workers = self._workers[: threads - 1]
        try:
            for number, worker in enumerate(workers, 1):
                worker.tasks.put(partial(work, counter, number))
            results = [work(counter, 0), *(worker.results.get() for worker in workers)]
        except BaseException:  # Ctrl-C, say
            self._settle(workers)
            raise
        for result in results:
            if isinstance(result, BaseException):
                raise result
        fault: int = next((result for result in results if result), 0)
        return fault

    def _settle(self, workers: list[Worker]) -> None:
        """Wait until no worker is busy any more, however often Ctrl-C is pressed."""
        settled = False
        while not settled:
            with suppress(KeyboardInterrupt):
                self._counter[0] = _STOP
                mark = object()  # what comes out before it are results of what went in before
                for worker in workers:
                    worker.tasks.put(partial(_itself, mark))
                for worker in workers:
                    while worker.results.get() is not mark:
                        pass
                settled = True


_pool = ThreadPool()


def thread_pool() -> ThreadPool:
    """Return the process's pool; a forked process gets a new one, with threads of its own."""
    return _pool


def _renew() -> None:
    global _pool
    _pool = ThreadPool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)

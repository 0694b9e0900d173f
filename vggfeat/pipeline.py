"""Threads that keep a network fed and its results written, with bounded memory."""

from __future__ import annotations

import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeVar

from vggfeat.processors import usable_cores

__all__ = ["Background", "prefetch", "usable_cores"]

_log = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")


def prefetch(
    function: Callable[[Item], Result], items: Iterable[Item], *, workers: int, ahead: int
) -> Generator[Result, None, None]:
    """Map a function over items in threads, in order, at most `ahead` results in advance.

    Parameters
    ----------
    function : callable
        Releases the interpreter lock where it works, as decoding images does.
    items : iterable
        Read no faster than needed.
    workers : int
        Threads.
    ahead : int
        Results computed or being computed that were not asked for yet.

    Yields
    ------
    Result
        In the order of the items; what the function raises is raised here.
    """
    executor = ThreadPoolExecutor(workers, thread_name_prefix="vggfeat-decode")
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(executor.submit(function, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


class Background:
    """A thread that does what it is given, in order, so that the caller need not wait.

    Parameters
    ----------
    waiting : int
        Calls that may wait; :meth:`put` blocks beyond them.

    Notes
    -----
    What a call raises is raised from the next :meth:`put`, or at the end of the ``with`` block,
    and no later call is made. The block otherwise waits until all work is done - also when it is
    left by an exception, Ctrl-C say.
    """

    def __init__(self, waiting: int = 2) -> None:
        self._queue: queue.Queue[Callable[[], object] | None] = queue.Queue(waiting)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="vggfeat-write", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._queue.put(None)
        self._thread.join()
        if self._error is not None and error is None:
            raise self._error
        if self._error is not None and self._error is not error:
            _log.warning("%s", self._error)  # the one that ends the block tells the rest

    def put(self, call: Callable[[], object]) -> None:
        """Hand over a call, waiting while too many wait already."""
        if self._error is not None:
            raise self._error
        self._queue.put(call)

    def _run(self) -> None:
        while (call := self._queue.get()) is not None:
            if self._error is None:
                try:
                    call()
                except BaseException as error:  # raised again where the caller is
                    self._error = error

"""Threads that keep a network fed and its results written, with bounded memory."""

from __future__ import annotations

import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from queue import SimpleQueue
from types import TracebackType
from typing import Generic, Self, TypeVar, cast

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
    # Not ThreadPoolExecutor: Ctrl-C inside its submit() leaves a lock taken that its threads then
    # wait for. A SimpleQueue is used in one step that no signal can divide.
    tasks: SimpleQueue[_Task[Item, Result] | None] = SimpleQueue()
    stopped = threading.Event()

    def work() -> None:
        while (task := tasks.get()) is not None:
            if not stopped.is_set():
                task.run(function)

    threads = [
        threading.Thread(target=work, name=f"vggfeat-decode-{number}", daemon=True)
        for number in range(workers)
    ]
    waiting: deque[_Task[Item, Result]] = deque()
    try:
        for thread in threads:
            thread.start()
        for item in items:
            waiting.append(_Task(item))
            tasks.put(waiting[-1])
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        stopped.set()
        for _ in threads:
            tasks.put(None)
        for thread in threads:
            if thread.ident is not None:  # an interruption may come before it was started
                thread.join()


class _Task(Generic[Item, Result]):
    """An item on its way through a thread."""

    def __init__(self, item: Item) -> None:
        self._item = item
        self._answer: SimpleQueue[tuple[Result, None] | tuple[None, BaseException]] = SimpleQueue()

    def run(self, function: Callable[[Item], Result]) -> None:
        try:
            self._answer.put((function(self._item), None))
        except BaseException as error:  # raised again where the caller is
            self._answer.put((None, error))

    def result(self) -> Result:
        result, error = self._answer.get()
        if error is not None:
            raise error
        return cast("Result", result)


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

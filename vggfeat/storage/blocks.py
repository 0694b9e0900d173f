"""Blocks of a file far away: fetched once, some ahead, and kept for a while."""

from __future__ import annotations

import io
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue

BLOCK_BYTES = 4 << 20
"""Size of a block: large enough that latency matters little, small enough for a footer."""

_KEPT = 8
_AHEAD = 2


class Readers:
    """Threads that read ahead; they end with the program, whatever they wait for.

    Parameters
    ----------
    count : int
        How many, once there is something to do.
    """

    def __init__(self, count: int) -> None:
        self._count, self._started = count, False
        self._turn = threading.Lock()
        self._tasks: SimpleQueue[Callable[[], object] | None] = SimpleQueue()

    def submit(self, task: Callable[[], object]) -> None:
        """Have a call made, which raises nothing."""
        with self._turn:
            if not self._started:
                self._started = True
                for number in range(self._count):
                    name = f"vggfeat-fetch-{number}"
                    threading.Thread(
                        target=_work, args=(self._tasks,), name=name, daemon=True
                    ).start()
                weakref.finalize(self, _end, self._tasks, self._count)
        self._tasks.put(task)


def _work(tasks: SimpleQueue[Callable[[], object] | None]) -> None:
    while (task := tasks.get()) is not None:
        task()


def _end(tasks: SimpleQueue[Callable[[], object] | None], count: int) -> None:
    for _ in range(count):
        tasks.put(None)


class Blocks:
    """A file in blocks, for any thread.

    Parameters
    ----------
    fetch : callable
        Given start and size in bytes, gives them, or raises.
    size : int
        Of the file, in bytes.
    readers : Readers
        Fetch what is likely to come next.

    Notes
    -----
    Takes ``8 * BLOCK_BYTES`` at most.
    """

    def __init__(self, fetch: Callable[[int, int], bytes], size: int, readers: Readers) -> None:
        self._fetch, self.size, self._readers = fetch, size, readers
        self._turn = threading.Lock()
        self._kept: OrderedDict[int, Future[bytes]] = OrderedDict()
        self._last = -_AHEAD

    def follows(self, start: int) -> bool:
        """Whether what begins at `start` is near what was asked for before; notes it."""
        number = start // BLOCK_BYTES
        with self._turn:
            near = abs(number - self._last) <= 1
            self._last = number
        return near

    def read(self, start: int, size: int, *, ahead: bool = False) -> bytes:
        """Return a part, perhaps shorter where the file ends.

        Parameters
        ----------
        start, size : int
            In bytes.
        ahead : bool
            Whether what follows is likely to be asked for next.
        """
        end = min(start + size, self.size)
        parts = []
        while start < end:
            number, offset = divmod(start, BLOCK_BYTES)
            part = self._block(number, ahead=ahead)[offset : offset + end - start]
            if not part:
                break
            parts.append(part)
            start += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _block(self, number: int, *, ahead: bool) -> bytes:
        more = range(number + 1, number + 1 + _AHEAD) if ahead else ()
        with self._turn:
            future, mine = self._claimed(number)
            claimed = [(n, *self._claimed(n)) for n in more if n * BLOCK_BYTES < self.size]
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        for n, other, new in claimed:
            if new:
                self._readers.submit(partial(self._fill, n, other))
        if mine:
            self._fill(number, future)
        return future.result()

    def _claimed(self, number: int) -> tuple[Future[bytes], bool]:
        """Return the future of a block, and whether the caller has to see to it."""
        future = self._kept.pop(number, None)
        new = future is None
        self._kept[number] = future = future or Future()
        return future, new

    def _fill(self, number: int, future: Future[bytes]) -> None:
        start = number * BLOCK_BYTES
        try:
            future.set_result(self._fetch(start, min(BLOCK_BYTES, self.size - start)))
        except BaseException as error:
            with self._turn:
                if self._kept.get(number) is future:
                    del self._kept[number]  # whoever asks next tries again
            future.set_exception(error)


class BlockReader(io.RawIOBase):
    """Blocks as a file that is read in any order.

    Parameters
    ----------
    blocks : Blocks
    """

    def __init__(self, blocks: Blocks) -> None:
        super().__init__()
        self._blocks, self._at = blocks, 0
        self._last = -_AHEAD

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move, never before the start."""
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._blocks.size}[whence]
        if origin + offset < 0:
            raise ValueError(f"negative seek position {origin + offset}")
        self._at = origin + offset
        return self._at

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Read on, to the end of the file at most."""
        number = self._at // BLOCK_BYTES
        ahead = 0 <= number - self._last <= 1  # from one block into the next
        self._last = number
        data = self._blocks.read(self._at, len(buffer), ahead=ahead)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

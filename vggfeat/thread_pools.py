"""One thread where the order of additions decides, or where the work itself is cut into threads.

A BLAS with threads of its own keeps one number of them for the whole process, so that threads of
Python which limit it must share one setting. OpenMP, and a BLAS that asks it, keep a number for
each thread, which is set and brought back in that thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

from vggfeat.shared import SharedSetting

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController


@cache
def _every_blas() -> ThreadpoolController:
    import scipy.linalg  # noqa: F401  (has a BLAS of its own, which must be loaded to be limited)
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")


@cache
def _shared_blas() -> ThreadpoolController:
    own = [part["filepath"] for part in _every_blas().info() if not _asks_openmp(part)]
    return _every_blas().select(filepath=own)


def _asks_openmp(part: dict[str, object]) -> bool:
    return part.get("threading_layer") == "openmp"


def _limited() -> Callable[[], object]:
    with _in_control():
        restore: Callable[[], object] = _shared_blas().limit(limits=1).restore_original_limits

    def bring_back() -> None:
        with _in_control():
            restore()

    return bring_back


@contextmanager
def _in_control() -> Iterator[None]:
    """Let this thread set OpenBLAS, whose setting threadpoolctl 3.8 gives to one thread only.

    Other threads' wishes it ignores without a word, but the last to leave is to bring back what the
    first one found.
    """
    import threadpoolctl

    openblas = getattr(threadpoolctl, "OpenBLASController", None)
    clear = getattr(openblas, "clear_controlling_thread", lambda **_: None)
    clear(force=True)
    try:
        yield
    finally:
        clear(force=True)


one_blas_thread = SharedSetting(_limited)
"""Keeps NumPy's and SciPy's BLAS to one thread for the length of a ``with`` block."""


def blas_threads() -> int:
    """Return how many threads the BLAS uses, of NumPy or SciPy the more."""
    parts = _shared_blas().info() or _every_blas().info()
    return max((int(part["num_threads"]) for part in parts), default=1)


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep the BLAS, and OpenMP in this thread, to one thread for the length of a block.

    What runs in the block must have been imported before it: libraries that are loaded later are
    not limited.
    """
    from threadpoolctl import threadpool_limits

    with one_blas_thread(), threadpool_limits(limits=1, user_api="openmp"):
        yield

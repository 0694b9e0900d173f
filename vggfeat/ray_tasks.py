"""Functions run on a Ray cluster, or on this machine by Ray.

Ray says who does which task, and brings back what it gives; files that tasks name are seen by all
nodes alike, and nothing large goes through Ray's object store.
"""

from __future__ import annotations

import importlib
import os
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from vggfeat.errors import ClusterError, VggfeatError

T = TypeVar("T")
R = TypeVar("R")

_OBJECT_STORE = 100 << 20  # bytes, near the least that Ray takes; nothing large goes through it
_STARTED = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
"""Of a Ray that is started here: it tells nobody, and its workers do not yield to all others."""
_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
_STARTS = 3
_SWITCH = "_worker_logs_enabled"
_HOST = re.compile(r"(?:ray://)?\[?([^/\]]+?)\]?:(\d+)")
_PATIENCE = 10.0  # seconds
_AHEAD = 2  # tasks submitted for each CPU, so that Ctrl-C has few to take back


@contextmanager
def connected(address: str | None = None) -> Iterator[Any]:
    """Connect to Ray, and give its module; what was started here is stopped at the end.

    A program that has called ``ray.init`` itself keeps that connection.

    Parameters
    ----------
    address : str, optional
        ``"auto"`` for the cluster of this machine, ``"ray://HOST:10001"``, ``"HOST:6379"``; by
        default Ray is started on this machine.

    Raises
    ------
    ClusterError
        Ray is not installed, or there is no cluster at the address.
    """
    try:
        ray = importlib.import_module("ray")
    except ImportError:
        raise ClusterError('Ray is not installed: `pip install "vggfeat[ray]"`.') from None
    with _silent():
        if ray.is_initialized():
            yield ray
            return
        if address:
            _join(ray, address)
        else:
            _start(ray)
        try:
            yield ray
        finally:
            ray.shutdown()


def _join(ray: Any, address: str) -> None:
    try:
        if found := _HOST.fullmatch(address):
            # Ray itself would wait for minutes.
            socket.create_connection((found[1], int(found[2])), _PATIENCE).close()
        ray.init(address=address, **_QUIET)
    except Exception as error:  # of many kinds, also Exception itself
        reason = " ".join(str(error).split())
        raise ClusterError(
            f"No Ray cluster answers at {address!r} ({reason}). `ray status` there says whether it "
            "runs; without an address Ray is started on this machine."
        ) from error


def _start(ray: Any) -> None:
    """Start Ray on this machine; it gives its processes 30 s, which a busy machine may exceed."""
    for left in reversed(range(_STARTS)):
        try:
            with _environment(**_STARTED):
                ray.init(
                    address="local", include_dashboard=False, object_store_memory=_OBJECT_STORE,
                    **_QUIET,
                )  # fmt: skip
            return
        except Exception as error:  # of many kinds, also Exception itself
            ray.shutdown()
            if not left:
                reason = " ".join(str(error).split())
                raise ClusterError(
                    f"Ray does not start on this machine ({reason}). Is it very busy, or its "
                    "temporary folder full? RAY_TMPDIR names another one."
                ) from error


@contextmanager
def _silent() -> Iterator[None]:
    """Keep Ray from printing what happens to nodes and workers, in many lines on stdout.

    Whoever uses it hears of that by exceptions. Ray has a switch for the output of workers, not for
    its own; this one is its debugger's.
    """
    worker = importlib.import_module("ray._private.worker")
    before = getattr(worker, _SWITCH, True)
    setattr(worker, _SWITCH, False)
    try:
        yield
    finally:
        setattr(worker, _SWITCH, before)


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Set variables that are not set, for the processes that are started in the block."""
    new = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            os.environ.pop(name, None)


def run_tasks(
    function: Callable[[T], R],
    tasks: Sequence[T],
    *,
    address: str | None = None,
    cpus: float = 1,
    retries: int = 2,
) -> Iterator[tuple[int, R]]:
    """Call a function with each task on a cluster; give results as they come.

    Parameters
    ----------
    function : callable
        Known by its name on all nodes, as functions of vggfeat are. What it does must be right
        when done twice, also at the same time: a task is done again where its node is lost.
    tasks : sequence
        Small and picklable.
    address : str, optional
        See :func:`connected`.
    cpus : float
        That a task takes.
    retries : int
        How often a task is tried again after a lost node, a worker that ended, or an OSError.

    Yields
    ------
    number : int
        Which of `tasks`.
    result

    Raises
    ------
    ClusterError
        A task could not be done. Others that run are taken back, as on Ctrl-C.
    VggfeatError
        What the function itself raised.
    """
    with connected(address) as ray:
        remote = ray.remote(function).options(
            num_cpus=cpus, max_retries=retries, retry_exceptions=[OSError]
        )
        left = iter(enumerate(tasks))
        running: dict[Any, int] = {}
        try:
            while True:
                room = max(1, int(_AHEAD * ray.cluster_resources().get("CPU", 1) / cpus))
                while len(running) < room and (task := next(left, None)) is not None:
                    running[remote.remote(task[1])] = task[0]
                if not running:
                    return
                for ready in ray.wait(list(running), num_returns=1)[0]:
                    number = running.pop(ready)
                    yield number, _result(ray, ready, retries)
        finally:
            for one in running:
                with suppress(Exception):
                    ray.cancel(one, force=True)


def _result(ray: Any, reference: Any, retries: int) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, VggfeatError):
            raise error.cause from None
        reason = " ".join(str(error.cause).split())
    except ray.exceptions.RayError as error:
        reason = " ".join(str(error).split())
    raise ClusterError(
        f"A task failed on the cluster, tried {retries + 1} times: {reason}. Mend the "
        "cause, and run the command again."
    )

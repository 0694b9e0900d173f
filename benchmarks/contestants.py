"""Contestants measured apart: each runs in a process of its own, so that none inherits memory."""

from __future__ import annotations

import multiprocessing
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

Found = tuple[float, float, float]
"""Seconds, CPU seconds, and the most memory in GiB."""


def measured(job: Callable[[], Any]) -> tuple[Any, Found]:
    """Run a job and return its result and what it took."""
    start, cpu = time.perf_counter(), time.process_time()
    result = job()
    took = time.perf_counter() - start, time.process_time() - cpu
    status = Path("/proc/self/status").read_text().split()  # not getrusage: a child starts there
    return result, (*took, int(status[status.index("VmHWM:") + 1]) / 2**20)


def alone(contend: Callable[..., Found], name: str, *given: Any) -> Found:
    """Call ``contend(name, *given)``, a function of the script itself, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=_child, args=(results, contend, name, given))
    process.start()
    found: Found | Exception = results.get()
    process.join()
    if isinstance(found, Exception):
        raise click.ClickException(f"{name} failed: {found}")
    return found


def _child(results: Any, contend: Callable[..., Found], name: str, given: tuple[Any, ...]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            results.put(contend(name, *given))
        except Exception as error:
            results.put(error)
            raise

"""The program as a person types it, run in the process of the tests.

A process of its own would import torch each time, for seconds. What a process alone can show
(imports, signals, memory, a terminal) is tested in one.
"""

from __future__ import annotations

import io
import logging
import subprocess
import warnings
from contextlib import redirect_stderr, redirect_stdout
from unittest.mock import patch

from vggfeat.cli import run


def cli(*args: object) -> subprocess.CompletedProcess[str]:
    """Run a command; return its status and what it printed, warnings among it."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    log = logging.getLogger("vggfeat")
    before = log.handlers[:], log.level, log.propagate
    status: object = None
    try:
        with (
            redirect_stdout(out),
            redirect_stderr(err),
            patch("sys.stdin", io.StringIO()),  # no terminal
            warnings.catch_warnings(record=True) as warned,
        ):
            run([str(arg) for arg in args])
    except SystemExit as end:
        status = end.code
    finally:
        log.handlers[:], log.level, log.propagate = before
    for one in warned:
        if not issubclass(one.category, DeprecationWarning | PendingDeprecationWarning):
            err.write(warnings.formatwarning(one.message, one.category, one.filename, one.lineno))
    told = []
    for stream in (out, err):
        stream.seek(0)
        told.append(stream.read())
    return subprocess.CompletedProcess(args, int(status or 0), *told)

"""How many processors this process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

_CGROUPS = (Path("/sys/fs/cgroup/cpu.max"),)
"""Where Linux says how much processor time a container gets: quota and period, or ``max``."""


def usable_cores() -> int:
    """Return how many processors this process may run on, by its affinity and its cgroup."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(cores or 1, _quota()))


def _quota() -> int:
    """Return how many whole processors the cgroup's share of time amounts to."""
    for path in _CGROUPS:
        try:
            quota, period = path.read_text().split()
            return math.ceil(int(quota) / int(period))
        except (OSError, ValueError):  # none, or "max"
            continue
    return os.cpu_count() or 1

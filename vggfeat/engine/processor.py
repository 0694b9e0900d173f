"""What this processor can do, asked without compiling anything."""

from __future__ import annotations

import os
import platform
from functools import cache
from importlib.util import find_spec
from pathlib import Path

LANES = {16: ("avx512f",), 8: ("avx2", "fma")}
"""float32 values in a vector, widest first, and the features that such vectors need."""
_CACHE = 1 << 20  # of the second level, where the system does not say


@cache
def unsuited() -> str:
    """Return why kernels cannot run here, or nothing where they can."""
    machine = platform.machine().lower()
    if machine not in ("x86_64", "amd64"):
        return f"it is made for x86-64, and this processor is {machine}"
    installed = find_spec("numba") is not None
    if not (widths() if installed else _may_have_vectors()):
        return "this processor has neither AVX2 nor AVX-512"
    return "" if installed else "numba is not installed (pip install 'vggfeat[fast]')"


def _may_have_vectors(flags: Path = Path("/proc/cpuinfo")) -> bool:
    """Tell whether numba might be of use here, as far as can be seen without it."""
    try:
        text = flags.read_text()
    except OSError:
        return True
    return "flags" not in text or "avx2" in text or "avx512f" in text


@cache
def widths() -> tuple[int, ...]:
    """Return the lanes of the vectors that this processor has, widest first."""
    from llvmlite import binding

    features = binding.get_host_cpu_features()
    return tuple(n for n, needed in LANES.items() if all(features.get(name) for name in needed))


@cache
def second_level_cache() -> int:
    """Return the bytes of a core's second-level cache."""
    for index in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        try:
            if (index / "level").read_text().strip() == "2":
                return int((index / "size").read_text().strip().removesuffix("K")) << 10
        except (OSError, ValueError):
            continue
    return _CACHE


def debugging() -> bool:
    """Tell whether ``VGGFEAT_ENGINE_DEBUG`` asks for checks of every address and buffer."""
    return os.environ.get("VGGFEAT_ENGINE_DEBUG", "0") not in ("", "0")

"""The kernels' machine code: compiled once on a machine, kept on disk, loaded without numba.

numba takes most of a second to import and to make ready, each time, and its compiler some seconds;
to load an object file takes a hundredth of one. It is kept in the first of :func:`places` that can
be written, under a name that stands for all it depends on: the engine's sources, numba, LLVM, the
processor and the target.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import astuple
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vggfeat.atomic import atomic_file
from vggfeat.engine.target import Target, targets

_log = logging.getLogger(__name__)

Kernel = Callable[..., int]
"""Takes 64-bit integers; runs without the interpreter's lock."""

_loading = threading.Lock()
_loaded: dict[Target, Kernels] = {}


class Kernels:
    """The kernels of :mod:`vggfeat.engine.kernels` and ``other_kernels`` for one target.

    Each is an attribute, and takes what it takes there behind the target.

    Parameters
    ----------
    code : bytes
        An object file.
    kernels : dict of str to int
        How many numbers each takes.
    """

    pack: Kernel
    convolve: Kernel
    gather: Kernel
    multiply: Kernel
    scatter: Kernel
    direct: Kernel
    pool: Kernel
    rectify: Kernel
    connect: Kernel

    def __init__(self, code: bytes, kernels: dict[str, int]) -> None:
        from llvmlite import binding

        binding.initialize_native_target()
        binding.initialize_native_asmprinter()
        machine = binding.Target.from_default_triple().create_target_machine(jit=True)
        self._engine = binding.create_mcjit_compiler(binding.parse_assembly(""), machine)
        self._engine.add_object_file(binding.ObjectFileRef.from_data(code))
        self._engine.finalize_object()
        for name, count in kernels.items():
            kind = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * count)
            setattr(self, name, kind(self._engine.get_function_address(name)))


def kernels_for(target: Target) -> Kernels:
    """Return the kernels for a target, from disk where they are kept; once in a process."""
    with _loading:
        if target not in _loaded:
            _loaded[target] = Kernels(*(_kept(target) or _compiled(target)))
        return _loaded[target]


def are_kept(lanes: int) -> bool:
    """Tell whether the kernels for networks of many channels need not be compiled any more."""
    target = targets(lanes)[0]
    return target in _loaded or _kept(target) is not None


def places(target: Target) -> Iterator[Path]:
    """Give the files in which a target's machine code may be kept.

    They lie in ``NUMBA_CACHE_DIR``, where the environment names it; in ``__pycache__`` beside the
    sources; and in ``vggfeat`` in the user's cache folder.
    """
    told = json.dumps([*_circumstances(), astuple(target)])
    name = f"winograd-{hashlib.sha256(told.encode()).hexdigest()[:32]}.o"
    if named := os.environ.get("NUMBA_CACHE_DIR"):
        yield Path(named) / name
    yield Path(__file__).parent / "__pycache__" / name
    with suppress(RuntimeError):  # there is no home
        cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
        yield cache / "vggfeat" / name


def _kept(target: Target) -> tuple[bytes, dict[str, int]] | None:
    """Return what is kept of a target, or None."""
    found = map(read_kept, places(target))
    return next((one for one in found if one is not None), None)


def read_kept(file: Path) -> tuple[bytes, dict[str, int]] | None:
    """Read what :class:`Kernels` takes; None where a file is not there or not as it was written."""
    try:
        digest, head, code = file.read_bytes().split(b"\n", 2)
    except (OSError, ValueError):
        return None
    return (code, json.loads(head)) if digest == _digest(head + b"\n" + code) else None


def _compiled(target: Target) -> tuple[bytes, dict[str, int]]:
    """Compile the kernels, and keep them where that is possible."""
    from vggfeat.engine import kernels, other_kernels
    from vggfeat.engine.compiling import compiled_for

    made = compiled_for(target, [*kernels.KERNELS, *other_kernels.KERNELS])
    content = made.head + made.code
    for file in places(target):
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(file) as temporary:
                temporary.write_bytes(_digest(content) + b"\n" + content)
        except OSError as error:
            _log.info("Compiled kernels cannot be kept: %s", error)
        else:
            break
    return made.code, made.kernels


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


@cache
def _circumstances() -> tuple[Any, ...]:
    """Return what machine code depends on, beside its target."""
    from llvmlite import binding

    sources = b"".join(file.read_bytes() for file in sorted(Path(__file__).parent.glob("*.py")))
    return (
        hashlib.sha256(sources).hexdigest(),
        version("numba"),
        version("llvmlite"),
        binding.get_host_cpu_name(),
        binding.get_host_cpu_features().flatten(),
    )

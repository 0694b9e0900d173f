"""How kernels are compiled: by numba, for one target, to machine code that runs without it.

Every kernel takes jobs from a counter until none is left; threads call it with the same arguments
and scratch memory of their own. Its first argument is the target, whose type numba compiles it
for; all others are 64-bit integers, and so is what it returns (:mod:`~vggfeat.engine.buffers`).
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba import njit
from numba.core import types
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target
from numba.extending import models, register_model

from vggfeat.engine.emitting import INT
from vggfeat.engine.target import Target

F32 = 4
"""Bytes of a number."""

jit = njit(nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
"""Compiles a function for each target."""


class TargetType(types.Type):
    """numba's type of one :class:`Target`: each kernel is compiled anew for each of them."""

    def __init__(self, target: Target) -> None:
        self.target = target
        super().__init__(str(target))


register_model(TargetType)(models.OpaqueModel)


@jit
def outside(first, past, low, size):
    """Tell whether bytes from `first` to `past` leave a buffer of `size` bytes at `low`."""
    return first < low or past > low + size


@dataclass(frozen=True)
class Compiled:
    """Machine code of kernels.

    Attributes
    ----------
    code : bytes
        An object file; it asks for no symbol of numba's or Python's.
    kernels : dict of str to int
        How many 64-bit integers each one takes.
    """

    code: bytes
    kernels: dict[str, int]

    @property
    def head(self) -> bytes:
        """What a loader has to know, as a line."""
        return json.dumps(self.kernels).encode() + b"\n"


@global_compiler_lock
def compiled_for(target: Target, kernels: Iterable[Any]) -> Compiled:
    """Compile kernels for a target.

    Parameters
    ----------
    target : Target
        What their first argument is.
    kernels : iterable
        Functions that :data:`jit` decorates.
    """
    kind, context = TargetType(target), cpu_target.target_context
    library = context.codegen().create_library(str(target))
    library.enable_object_caching()
    module = library.create_ir_module("kernels")
    taken: dict[str, int] = {}
    for kernel in kernels:
        name, count = kernel.__name__, len(inspect.signature(kernel.py_func).parameters) - 1
        numbers = [types.int64] * count
        kernel.compile(types.int64(kind, *numbers))
        made = kernel.overloads[kind, *numbers]
        library.add_linking_library(made.library)
        # A function as C has them, around one as numba calls them.
        theirs = context.call_conv.get_function_type(types.int64, made.signature.args)
        callee = ir.Function(module, theirs, made.fndesc.llvm_func_name)
        entry = ir.Function(module, ir.FunctionType(INT, [INT] * count), name)
        builder = ir.IRBuilder(entry.append_basic_block())
        given = [context.get_dummy_value(), *entry.args]
        _, result = context.call_conv.call_function(
            builder, callee, types.int64, made.signature.args, given
        )
        builder.ret(result)
        taken[name] = count
    library.add_ir_module(module)
    library.finalize()
    return Compiled(library._get_compiled_object(), taken)

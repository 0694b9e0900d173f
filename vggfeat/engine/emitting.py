"""Vector instructions, written as LLVM's intermediate representation.

numba compiles loops over numbers well, but does not promise vectors, nor that sums stay in
registers. The unrolled parts (:mod:`~vggfeat.engine.blocks`, :mod:`~vggfeat.engine.transforming`,
:mod:`~vggfeat.engine.products`) need both, and so they are put together from the few operations
here, each of which is one instruction of the processor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from vggfeat.engine.transforms import Matrix

Value = Any
"""A value of LLVM's; llvmlite has no types that mypy could check."""

INT = ir.IntType(64)
FLOAT = ir.FloatType()
FLOAT_BYTES = 4


class Emitter:
    """Appends instructions on vectors to a function under construction.

    Parameters
    ----------
    builder : llvmlite.ir.IRBuilder
        Where they are appended.
    lanes : int
        Values in a vector.
    double : bool
        Compute in float64; loads and stores convert from and to float32.
    """

    def __init__(self, builder: Any, lanes: int, double: bool = False) -> None:
        self.builder = builder
        self.lanes = lanes
        self.stored = ir.VectorType(FLOAT, lanes)
        self.vector = ir.VectorType(ir.DoubleType(), lanes) if double else self.stored
        self.suffix = f"v{lanes}f{64 if double else 32}"
        self.bytes = lanes * FLOAT_BYTES

    def number(self, value: int) -> Value:
        """Return a constant 64-bit integer."""
        return ir.Constant(INT, value)

    def constant(self, value: Fraction | float) -> Value:
        """Return a vector of equal values."""
        return ir.Constant(self.vector, [float(value)] * self.lanes)

    def at(self, base: Value, stride: Value, count: int) -> Value:
        """Return the address `base + count * stride`."""
        return self.builder.add(base, self.builder.mul(stride, self.number(count)))

    def past(self, base: Value, offset: int) -> Value:
        """Return the address `base + offset`, in bytes."""
        return self.builder.add(base, self.number(offset))

    def load(self, address: Value) -> Value:
        """Load a vector of float32 from any address."""
        value = self.builder.load(self.builder.inttoptr(address, self.stored.as_pointer()))
        value.align = FLOAT_BYTES
        return value if self.vector == self.stored else self.builder.fpext(value, self.vector)

    def store(self, value: Value, address: Value) -> None:
        """Store a vector as float32 at any address."""
        if self.vector != self.stored:
            value = self.builder.fptrunc(value, self.stored)
        pointer = self.builder.inttoptr(address, self.stored.as_pointer())
        self.builder.store(value, pointer).align = FLOAT_BYTES

    def spread(self, single: Value) -> Value:
        """Return a vector of one float32 number."""
        undefined = ir.Constant(self.vector, ir.Undefined)
        one = self.builder.insert_element(undefined, single, ir.Constant(ir.IntType(32), 0))
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(one, undefined, lanes)

    def broadcast(self, address: Value) -> Value:
        """Load one float32 into all lanes."""
        return self.spread(self.builder.load(self.builder.inttoptr(address, FLOAT.as_pointer())))

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """Return `a * b + c`, rounded once."""
        kind = ir.FunctionType(self.vector, [self.vector] * 3)
        name = f"llvm.fma.{self.suffix}"
        function = cgutils.get_or_insert_function(self.builder.module, kind, name)
        return self.builder.call(function, [a, b, c])

    def larger(self, a: Value, b: Value) -> Value:
        """Return the larger of two; `a` where it is no number, as ReLU hands on what is none."""
        return self.builder.select(self.builder.fcmp_ordered("<", a, b), b, a)

    def total(self, vector: Value) -> Value:
        """Return the sum over the lanes, added pairwise."""
        kind = ir.FunctionType(FLOAT, [FLOAT, self.stored])
        name = f"llvm.vector.reduce.fadd.{self.suffix}"
        function = cgutils.get_or_insert_function(self.builder.module, kind, name)
        start = ir.Constant(FLOAT, -0.0)
        return self.builder.call(function, [start, vector], fastmath=("reassoc",))

    def prefetch(self, address: Value) -> None:
        """Ask for a cache line to be brought into the second-level cache."""
        small, pointer = ir.IntType(32), ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer, small, small, small])
        function = cgutils.get_or_insert_function(self.builder.module, kind, "llvm.prefetch.p0")
        read, second_level, data = small(0), small(2), small(1)
        where = self.builder.inttoptr(address, pointer)
        self.builder.call(function, [where, read, second_level, data])

    def combined(self, weights: Sequence[Fraction], values: Sequence[Value]) -> Value:
        """Return a sum of values with constant weights; those of weight 0 may be None."""
        terms = [(w, v) for w, v in zip(weights, values, strict=True) if w]
        terms.sort(key=lambda term: (term[0] != 1, abs(term[0]) != 1))  # ones need no product
        total = None
        for weight, value in terms:
            if total is None:
                total = value if weight == 1 else self.builder.fmul(self.constant(weight), value)
            elif weight == 1:
                total = self.builder.fadd(total, value)
            elif weight == -1:
                total = self.builder.fsub(total, value)
            else:
                total = self.fma(self.constant(weight), value, total)
        return total

    def applied(self, stages: Sequence[Matrix], values: Sequence[Value]) -> list[Value]:
        """Return the product of matrices, the first one applied first, with a column of values."""
        for stage in stages:
            values = [self.combined(row, values) for row in stage]
        return list(values)

    def on_both_sides(
        self,
        stages: Sequence[Matrix],
        read: Callable[[int, int], Value],
        write: Callable[[int, list[Value]], None],
    ) -> None:
        """Compute `A d A^T` for the product A of the stages.

        Column by column in, and row by row out, so that few values wait in registers: they do not
        all fit.

        Parameters
        ----------
        stages : sequence of matrices
            To be applied one after the other.
        read : callable
            Row and column to a value of d, a square.
        write : callable
            Called with each row's number and its values.
        """
        size = range(len(stages[0][0]))
        columns = [self.applied(stages, [read(i, j) for i in size]) for j in size]
        for number, row in enumerate(zip(*columns, strict=True)):
            write(number, self.applied(stages, row))

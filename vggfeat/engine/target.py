"""What kernels are compiled for: vector width and register block, as a type of numba's.

A :class:`Target` is passed to every kernel as its first argument. Since it is a type of its own,
numba compiles each kernel anew for each target, and keeps what it compiled apart on disk (numba
adds the processor's own features to that key). Its name carries a digest of the engine's sources,
because numba by itself notices changes of one file only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import astuple, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from numba.core import types
from numba.extending import NativeValue, models, register_model, typeof_impl, unbox


@dataclass(frozen=True)
class Target:
    """How wide vectors are, and which blocks of a product stay in registers.

    Attributes
    ----------
    lanes : int
        float32 values in a vector: 16 for AVX-512, 8 for AVX2.
    vectors : int
        Vectors of output channels in the block of a product.
    rows : int
        Tiles in the block of a product; ``rows * vectors`` sums are held in registers.
    dots : (int, int)
        Rows and units in the block of a fully connected layer's product.
    checked : bool
        Whether every address is compared with the bounds of its buffer first.
    """

    lanes: int
    vectors: int
    rows: int
    dots: tuple[int, int]
    checked: bool = False

    @property
    def numba_type(self) -> TargetType:
        """Its type, as signatures name it."""
        return _numba_type(self)

    @property
    def panel(self) -> int:
        """Output channels in the block of a product."""
        return self.lanes * self.vectors


class TargetType(types.Type):
    """numba's type of one :class:`Target`; two are the same type where their names agree."""

    def __init__(self, target: Target, sources: str) -> None:
        self.target = target
        self.sources = sources
        super().__init__(f"{target}, sources {sources}")

    def __reduce__(self) -> tuple[Callable[..., TargetType], tuple[Any, ...]]:
        return _restored, (self.sources, *astuple(self.target))


def _restored(sources: str, *fields: Any) -> TargetType:
    """Rebuild a type from numba's cache, which may be another version's.

    numba reads the types of all it ever compiled to find those it looks for, so this must neither
    fail nor change its name.
    """
    known = sources == _digest()
    return TargetType(Target(*fields) if known else Target(0, 0, 0, (0, 0)), sources)


register_model(TargetType)(models.OpaqueModel)


@cache
def _numba_type(target: Target) -> TargetType:
    # Not kept in the target, which numba pickles with its type.
    return TargetType(target, _digest())


@typeof_impl.register(Target)
def _typeof(value: Target, _context: Any) -> TargetType:
    return value.numba_type


@unbox(TargetType)
def _unbox(_type: TargetType, _value: Any, context: Any) -> NativeValue:
    return NativeValue(context.context.get_dummy_value())


@cache
def _digest() -> str:
    """Return what changes with the code that kernels are made of."""
    text = b"".join(source.read_bytes() for source in sorted(Path(__file__).parent.glob("*.py")))
    return hashlib.sha256(text).hexdigest()[:16]

"""What kernels are compiled for: how wide vectors are, and which blocks stay in registers."""

from __future__ import annotations

from dataclasses import dataclass


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
    def panel(self) -> int:
        """Output channels in the block of a product."""
        return self.lanes * self.vectors


def targets(lanes: int, checked: bool = False) -> tuple[Target, ...]:
    """Return what kernels are compiled for, the block for many channels first.

    AVX-512 has 32 registers, of which 24 hold sums, 4 weights and one a factor; with AVX2's 16
    they are 12, 2 and one.
    """
    if lanes == 8:
        return (Target(8, 2, 6, (3, 4), checked),)
    return Target(16, 4, 6, (4, 6), checked), Target(16, 1, 12, (4, 6), checked)

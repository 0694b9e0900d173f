"""What all poolings have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Self

from vggfeat.errors import LayerError
from vggfeat.layers import Shape

if TYPE_CHECKING:
    from torch import Tensor


class Pooling(ABC):
    """A way to make a feature of a layer's map.

    Subclasses are frozen dataclasses whose fields are the parameters, so that two poolings are
    equal where they compute the same. ``str(pooling)`` is the canonical text, with every
    parameter written out, and :meth:`read` understands what follows its colon.

    Attributes
    ----------
    name : str
        What it is called on the command line.
    usage : str
        The name with its parameter, if it takes one, as in ``"gem[:P]"``.
    summary : str
        A few words for help texts.
    refusal : str
        What to say of a parameter that it does not take.
    """

    name: ClassVar[str]
    usage: ClassVar[str]
    summary: ClassVar[str]
    refusal: ClassVar[str] = (
        "{name} takes no parameter, and {given!r} is given. Write {name} alone."
    )

    @abstractmethod
    def __call__(self, maps: Tensor) -> Tensor:
        """Pool maps.

        Parameters
        ----------
        maps : Tensor of float32, (B, C, H, W)
            On any device; H and W are at least 1. They are not changed.

        Returns
        -------
        Tensor of float32, (B, ...)
            On the same device, of the shape that :meth:`shape` says.
        """

    @abstractmethod
    def contributions(self, maps: Tensor, weights: Tensor) -> Tensor:
        """Say what each position adds to a weighted sum of the feature's values.

        What is divided is the feature itself, not its gradient: over all positions the
        contributions sum exactly to ``feature @ weights``. What depends on the whole map, such as
        lengths and the weights of channels, is taken as it is.

        Parameters
        ----------
        maps : Tensor of float32 or float64, (B, C, H, W)
            They are not changed.
        weights : Tensor of the same type, (D,)
            For each value of one feature, which is read as a vector.

        Returns
        -------
        Tensor of the same type, (B, H, W)
        """

    def shape(self, shape: Shape) -> Shape:
        """Return the shape of one image's feature, given that of its map, (C, H, W)."""
        return shape[:1]

    @classmethod
    def read(cls, parameter: str) -> Self:
        """Return the pooling with a parameter, as it is written after the colon.

        Raises
        ------
        LayerError
            The parameter is out of its range, or this pooling takes none.
        """
        try:
            return cls(*cls.parsed(parameter))
        except ValueError:  # a LayerError is one, too
            raise cls.refused(parameter) from None

    @staticmethod
    def parsed(parameter: str) -> tuple[Any, ...]:
        """Return what the class is made with, or raise ``ValueError``."""
        raise ValueError(parameter)

    @classmethod
    def refused(cls, given: str) -> LayerError:
        """Return what is raised for a parameter out of its range."""
        return LayerError(cls.refusal.format(name=cls.name, given=given))

    @property
    def parameter(self) -> str:
        """The parameter as text, empty for poolings that take none."""
        return ""

    def __str__(self) -> str:
        return f"{self.name}:{self.parameter}" if self.parameter else self.name

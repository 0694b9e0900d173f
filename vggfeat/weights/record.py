"""What a format of weight files is: one record each, in the file of its reader."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from vggfeat.preprocessing import Preprocessing
from vggfeat.weights.tensor_file import TensorFile


@dataclass(frozen=True, slots=True)
class WeightFormat:
    """One format.

    Attributes
    ----------
    name : str
        For people.
    suffixes : tuple of str
        In lower case; a file is known by them.
    open_file : callable
        Opens a file for reading: ``open_file(path)``, or with `parts` also
        ``open_file(path, NAME)``. Raises ``WeightsError`` over what is none.
    preprocessing : Preprocessing
        Of files that say nothing themselves, and in which nothing is recognised.
    usual : str
        Who or what needs that, with the verb: the end of a clause for people.
    parts : bool
        Whether a file may hold several networks, of which ``FILE#NAME`` chooses one.
    md5 : bool
        Whether such digests of its files were published.
    beside : callable, optional
        Returns the other files that hold some of a file's values, where there may be such.
    """

    name: str
    suffixes: tuple[str, ...]
    open_file: Callable[..., AbstractContextManager[TensorFile]]
    preprocessing: Preprocessing
    usual: str
    parts: bool = True
    md5: bool = False
    beside: Callable[[Path], list[Path]] | None = None

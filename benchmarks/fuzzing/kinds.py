"""What a kind of file is: how it is made, how it is damaged, and what a user does with it."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from random import Random

Mutation = Callable[[Path, Random], None]
"""Changes genuine files in a folder, by chance alone. Each case is one mutation of a fresh copy."""

Step = Callable[[Path], object]
"""Something that a user does with a file."""

DEFLATE = 1100
"""Most bytes that files which may be compressed may take for one of theirs."""


@dataclass(frozen=True)
class Kind:
    """A kind of file that a stranger hands over.

    Attributes
    ----------
    name : str
    make : callable
        Writes genuine files into an empty folder: the same bytes each time, so that a case can
        be replayed.
    path : str
        What a user names, below that folder.
    mutations : tuple of Mutation
        Each case takes one of them by chance.
    steps : tuple of callable
        What a user does with it, given the path: the first opens it, and where it does, each case
        takes some of the others by chance. Each may raise a ``VggfeatError``, or return. They may
        write below the folder of the path.
    factor : float
        Bytes of memory that a step may take for each byte of the files.
    constant : int
        Bytes that it may take beyond that.
    """

    name: str
    make: Callable[[Path], object]
    path: str
    mutations: tuple[Mutation, ...]
    steps: tuple[Step, ...]
    factor: float = 16
    constant: int = 64 << 20

    def allowed(self, size: int) -> int:
        """Return how many bytes of memory a step may take with files of `size` bytes."""
        return int(self.factor * size) + self.constant


def command(*arguments: object) -> str:
    """Run a command of vggfeat's in this process; return what it prints, or raise."""
    from vggfeat.cli import main

    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(io.StringIO()):
        main.main(args=[str(one) for one in arguments], standalone_mode=False)
    return out.getvalue()

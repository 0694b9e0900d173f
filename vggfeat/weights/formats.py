"""The formats that weight files come in.

To add one, write a module with ``open_file(path)``, a context manager that gives a
:class:`~vggfeat.weights.tensor_file.TensorFile`, and add a row to :data:`FORMATS`.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from vggfeat.errors import WeightsError
from vggfeat.preprocessing import CAFFE, CAFFE_RGB, TORCHVISION, Preprocessing
from vggfeat.weights.digests import digest
from vggfeat.weights.tensor_file import TensorFile


@dataclass(frozen=True, slots=True)
class Format:
    """One format.

    Attributes
    ----------
    name : str
        For people.
    module : str
        Below ``vggfeat.weights``; imported when a file is opened.
    suffixes : tuple of str
        In lower case.
    preprocessing : Preprocessing
        Of files that say nothing themselves, and in which nothing is recognised.
    usual : str
        Who or what needs that, with the verb: the end of a clause for people.
    parts : bool
        Whether a file may hold several networks, of which ``FILE#NAME`` chooses one: its module's
        ``open_file`` takes the name as its second argument.
    """

    name: str
    module: str
    suffixes: tuple[str, ...]
    preprocessing: Preprocessing
    usual: str
    parts: bool = True


MARK = "#"
"""Stands between a file and the name of a network in it."""

FORMATS: Mapping[str, Format] = {
    row.suffixes[0]: row
    for row in (
        Format(
            "PyTorch", "torch_file", (".pth", ".pt", ".pth.tar", ".ckpt", ".bin"), TORCHVISION,
            "torchvision trains",
        ),
        Format(
            "safetensors", "safetensors_file", (".safetensors",), TORCHVISION,
            "torchvision trains",
        ),
        Format("Caffe", "caffe_file", (".caffemodel",), CAFFE, "the authors' Caffe release needs"),
        Format(
            "Keras", "keras_file", (".h5", ".hdf5", ".keras"), CAFFE,
            "Keras's applications need, which port the authors' Caffe release",
        ),
        Format(
            "MatConvNet", "matconvnet_file", (".mat",), CAFFE_RGB,
            "MatConvNet's ports of the authors' release need",
        ),
        Format("ONNX", "onnx_file", (".onnx",), TORCHVISION, "torchvision trains", parts=False),
    )
}  # fmt: skip
"""Known formats by their first suffix."""

SUFFIXES = {suffix: row for row in FORMATS.values() for suffix in row.suffixes}
"""Known formats by every suffix."""


def allowed() -> str:
    """Return the known suffixes, for messages."""
    return ", ".join(SUFFIXES)


def split(path: Path) -> tuple[Path, str]:
    """Return a file and the name of the network in it that ``FILE#NAME`` chooses.

    Returns
    -------
    Path
        The file.
    str
        The name; empty where none is given, as in the path of a file that has the mark in its
        own name.
    """
    if path.exists():
        return path, ""
    text = str(path)
    for at in (i for i, letter in enumerate(text) if letter == MARK):
        if at and Path(text[:at]).is_file():
            return Path(text[:at]), text[at + 1 :]
    return path, ""


def format_of(path: Path) -> Format:
    """Return a file's format, by its name.

    Raises
    ------
    WeightsError
        The suffix is unknown.
    """
    name = split(path)[0].name.lower()
    for suffix, row in SUFFIXES.items():
        if name.endswith(suffix) and name != suffix:
            return row
    raise WeightsError(f"{path}: unknown kind of weight file. Allowed are {allowed()}.")


def open_file(path: Path) -> AbstractContextManager[TensorFile]:
    """Open a weight file for reading.

    Parameters
    ----------
    path : Path
        The file; ``FILE#NAME`` for a network in it where it holds several.

    Raises
    ------
    WeightsError
        The suffix is unknown, or the file is not what it says.
    """
    form, (file, part) = format_of(path), split(path)
    if file.exists() and not file.is_file():
        raise WeightsError(f"{file} is no plain file. Give the file of weights itself.")
    module = importlib.import_module(f"vggfeat.weights.{form.module}")
    if part and not form.parts:
        raise WeightsError(f"{file}: {form.name} files hold one network. Leave {MARK}{part} out.")
    opened: AbstractContextManager[TensorFile] = (
        module.open_file(file, part) if part else module.open_file(file)
    )
    return opened


def fingerprint(path: Path) -> str:
    """Return the SHA-256 of a weight file in hexadecimal.

    Where ``FILE#NAME`` chooses one of the networks in it, the name is part of what is digested.
    Where values lie in files beside it, as an ``.onnx`` file's may, it is the SHA-256 of the
    digests of all, so that none of them can change unnoticed.

    Raises
    ------
    WeightsError
        A file cannot be read.
    """
    file, part = split(path)
    own, others = digest(file), [f"{MARK}{part}"] if part else []
    if format_of(path).module == "onnx_file":
        from vggfeat.weights import onnx_file

        others += [digest(other) for other in onnx_file.beside(file)]
    return hashlib.sha256("".join([own, *others]).encode()).hexdigest() if others else own

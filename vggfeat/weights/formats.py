"""The formats that weight files come in, by what a file is called.

To add one, write a module with its reader and its
:class:`~vggfeat.weights.record.WeightFormat`, and name it here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from vggfeat.errors import WeightsError
from vggfeat.weights import (
    caffe_file,
    keras_file,
    matconvnet_file,
    onnx_file,
    safetensors_file,
    torch_file,
)
from vggfeat.weights.digests import digest
from vggfeat.weights.record import WeightFormat
from vggfeat.weights.tensor_file import TensorFile

MARK = "#"
"""Stands between a file and the name of a network in it."""

_MODULES = (torch_file, safetensors_file, caffe_file, keras_file, matconvnet_file, onnx_file)

FORMATS: Mapping[str, WeightFormat] = {module.FORMAT.name: module.FORMAT for module in _MODULES}
"""Known formats by name."""

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


def format_of(path: Path) -> WeightFormat:
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
    if part and not form.parts:
        raise WeightsError(f"{file}: {form.name} files hold one network. Leave {MARK}{part} out.")
    return form.open_file(file, part) if part else form.open_file(file)


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
    main, others = digest(file), [f"{MARK}{part}"] if part else []
    if beside := format_of(path).beside:
        others += [digest(other) for other in beside(file)]
    return hashlib.sha256("".join([main, *others]).encode()).hexdigest() if others else main

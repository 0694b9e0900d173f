"""Files that ``torch.save`` wrote, in both of its formats, reading only what is asked for.

A file holds a state dict, alone or inside a checkpoint. Both formats are pickles and raw values of
tensors: a zip archive of ``data.pkl`` and ``data/KEY``, or, before torch 1.6, five pickles with the
storages behind them (``vgg16-397923af.pth`` is still served so). The pickle is read by an unpickler
that knows tensors and plain containers (:mod:`vggfeat.weights.torch_pickles`). Whatever else a
checkpoint holds beside them, as Lightning's ``hyper_parameters`` do, is not imported or run. Each
tensor is then read from its place in the file.
"""

from __future__ import annotations

import io
import pickle
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from numpy.typing import NDArray

from vggfeat import zip_members
from vggfeat.errors import WeightsError
from vggfeat.pickles import MOST_BYTES
from vggfeat.preprocessing import TORCHVISION
from vggfeat.weights.record import WeightFormat
from vggfeat.weights.tensor_file import TensorFile
from vggfeat.weights.torch_names import translated
from vggfeat.weights.torch_pickles import RemediedError, TorchUnpickler, tensors

if TYPE_CHECKING:
    from torch import Tensor

# What unpicklers raise over damaged files.
_BROKEN = (
    *(pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError),
    *(AttributeError, IndexError, MemoryError, OverflowError, ImportError, zipfile.BadZipFile),
    *(AssertionError, zlib.error),
)
_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001


@contextmanager
def open_file(path: Path, part: str = "") -> Iterator[TensorFile]:
    """Open a file of either format for reading.

    Parameters
    ----------
    path : Path
        The file.
    part : str
        What stands before the names of the network's tensors, where several are in the file.

    Raises
    ------
    WeightsError
        The file is neither, is truncated, holds no dictionary of tensors, or is made to run code.
    """
    try:
        with path.open("rb") as file:
            if zipfile.is_zipfile(file):
                with zip_members.open_archive(file) as archive:
                    yield translated(ArchiveFile(archive, file), part)
            else:
                file.seek(0)
                yield translated(LegacyFile(file), part)
    except _BROKEN as error:
        reason = str(error).strip("'\" ").partition("\n")[0].rstrip(".")
        remedied = isinstance(error, RemediedError)
        remedy = "" if remedied else " Save it with torch.save(model.state_dict(), PATH)."
        reason = reason or "it is damaged"
        raise WeightsError(
            f"{path} cannot be read as a state dict of tensors: {reason}.{remedy}"
        ) from error


class ArchiveFile:
    """A file of torch's zip format.

    Parameters
    ----------
    archive : zipfile.ZipFile
        The archive.
    file : binary file
        The same.
    """

    def __init__(self, archive: zipfile.ZipFile, file: BinaryIO) -> None:
        names = archive.namelist()
        pickled = next((name for name in names if name.rpartition("/")[2] == "data.pkl"), None)
        if pickled is None:
            raise ValueError("it is a zip archive, but none that torch.save wrote.")
        self._archive, self._file = archive, file
        self._root = pickled.removesuffix("data.pkl")
        if any(name.startswith(f"{self._root}code/") for name in names):
            raise RemediedError(
                "it is a TorchScript archive, a program with its weights. Where you trust it, save "
                "them alone: torch.save(torch.jit.load(PATH).state_dict(), 'weights.pth')"
            )
        order = f"{self._root}byteorder"
        if order in names and zip_members.read(archive, order, 16).strip() != b"little":
            raise ValueError("its values are big-endian, which is not supported.")
        unpickler = TorchUnpickler(io.BytesIO(zip_members.read(archive, pickled, MOST_BYTES)))
        self._state = tensors(unpickler.load())
        self.shapes = {name: tensor.shape for name, tensor in self._state.items()}
        for storage in {tensor.storage.key for tensor in self._state.values()}:
            archive.getinfo(f"{self._root}data/{storage}")

    def read(self, name: str) -> NDArray[Any] | Tensor:
        """Return one tensor, read from its place in the file."""
        tensor = self._state[name]
        member = f"{self._root}data/{tensor.storage.key}"
        return tensor.read(zip_members.opened(self._archive, self._file, member), 0)


class LegacyFile:
    """A file of the format before torch 1.6: pickles, then storages one after the other.

    After five pickles (magic number, protocol, system, the object, the storages' keys) each
    storage follows as its number of elements (8 bytes, little-endian) and its raw values.

    Parameters
    ----------
    file : binary file
        At its start.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        if TorchUnpickler(file).load() != _MAGIC or TorchUnpickler(file).load() != _PROTOCOL:
            raise ValueError("it is not a file written by torch.save.")
        TorchUnpickler(file).load()  # byte order and type sizes of the writer
        unpickler = TorchUnpickler(file)
        self._state = tensors(unpickler.load())
        keys = TorchUnpickler(file).load()
        self._starts: dict[str, int] = {}
        for key in keys:
            if not isinstance(key, str):  # others may take for ever to hash
                raise ValueError("it calls a storage by no name.")
            storage = unpickler.storages[key]
            if int.from_bytes(file.read(8), "little") != storage.count:
                raise ValueError("it is damaged: a storage is not as large as its tensors say.")
            self._starts[key] = file.tell()
            file.seek(storage.count * storage.dtype.size, io.SEEK_CUR)
        if file.tell() > file.seek(0, io.SEEK_END):
            raise ValueError("it is truncated.")
        self.shapes = {name: tensor.shape for name, tensor in self._state.items()}

    def read(self, name: str) -> NDArray[Any] | Tensor:
        """Return one tensor, read from its place in the file."""
        tensor = self._state[name]
        return tensor.read(self._file, self._starts[tensor.storage.key])


FORMAT = WeightFormat(
    "PyTorch",
    (".pth", ".pt", ".pth.tar", ".ckpt", ".bin"),
    open_file,
    TORCHVISION,
    "torchvision trains",
)

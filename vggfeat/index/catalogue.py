"""What an index knows beyond its vectors, in a plain HDF5 file beside the FAISS file.

Root attributes: ``format`` = ``"vggfeat-index"``, ``format_version``, ``provenance`` (JSON text),
``layer``, ``metric``, ``longest``, ``not_done``, ``not_finite``, ``zero``, the FAISS file's
``faiss_size`` in bytes and ``faiss_crc32``, and ``sha256`` of all the rest. Datasets of one entry
a vector: ``row`` int64, ``path`` and ``label`` UTF-8.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import h5py
import numpy as np
import numpy.typing as npt

from vggfeat.errors import SearchError
from vggfeat.index.exact import METRICS, Metric
from vggfeat.provenance import Provenance

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = "vggfeat-index"
FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class LeftOut:
    """How many rows of the store are not in the index, and why.

    Attributes
    ----------
    not_done : int
        Pending or failed.
    not_finite : int
        With NaN or infinite values.
    zero : int
        All zeros, which have no cosine; 0 with other measures.
    """

    not_done: int
    not_finite: int
    zero: int


@dataclass(frozen=True, slots=True, eq=False)
class Catalogue:
    """An index without its vectors.

    Attributes
    ----------
    layer : str
        Canonical name of the layer that the vectors are features of.
    metric : {"cosine", "l2", "ip"}
    provenance : Provenance
        Of the store; its deciding values are narrowed to `layer`.
    rows : ndarray of int64, shape (n,)
        Rows of the store, ascending; they are the ids in FAISS.
    paths, labels : ndarray of str objects, shape (n,)
        Of the same images; an unknown label is empty, several are joined by ``|``.
    longest : float
        Length of the longest vector.
    left_out : LeftOut
        Rows of the store that are not in the index.
    """

    layer: str
    metric: Metric
    provenance: Provenance
    rows: npt.NDArray[np.int64]
    paths: npt.NDArray[np.object_]
    labels: npt.NDArray[np.object_]
    longest: float
    left_out: LeftOut

    def write(self, path: Path, *, faiss_size: int, faiss_crc32: int) -> None:
        """Write a new file, tied to the FAISS file of this size and checksum."""
        text = h5py.string_dtype("utf-8")
        with h5py.File(path, "x", libver=("earliest", "v110")) as file:
            file.attrs["format"] = FORMAT
            file.attrs["format_version"] = FORMAT_VERSION
            file.attrs["provenance"] = self.provenance.dumps()
            file.attrs["layer"] = self.layer
            file.attrs["metric"] = self.metric
            file.attrs["longest"] = self.longest
            file.attrs["not_done"] = self.left_out.not_done
            file.attrs["not_finite"] = self.left_out.not_finite
            file.attrs["zero"] = self.left_out.zero
            file.attrs["faiss_size"] = faiss_size
            file.attrs["faiss_crc32"] = faiss_crc32
            file.attrs["sha256"] = self._digest(faiss_size, faiss_crc32)
            file["row"] = self.rows
            file.create_dataset("path", data=self.paths, dtype=text)
            file.create_dataset("label", data=self.labels, dtype=text)

    @classmethod
    def read(cls, path: Path) -> tuple[Self, int, int]:
        """Read a file, and the size and checksum of the FAISS file that it is tied to.

        Raises
        ------
        SearchError
            The file is damaged, something else, or of a newer format.
        """
        if format_of(path) != FORMAT:
            raise SearchError(
                f"{path} is not the second file of an index, or damaged. Build the index again: "
                "`vggfeat index build STORE INDEX`."
            )
        try:
            with h5py.File(path) as file:
                attrs = file.attrs
                if (found := int(attrs["format_version"])) > FORMAT_VERSION:
                    raise SearchError(
                        f"{path} was made by a newer vggfeat (format {found}; this one reads up "
                        f"to {FORMAT_VERSION}). Upgrade vggfeat."
                    )
                catalogue = cls(
                    str(attrs["layer"]),
                    next(metric for metric in METRICS if metric == attrs["metric"]),
                    Provenance.loads(attrs["provenance"]),
                    file["row"][:],
                    file["path"].asstr()[:],
                    file["label"].asstr()[:],
                    float(attrs["longest"]),
                    LeftOut(*(int(attrs[name]) for name in ("not_done", "not_finite", "zero"))),
                )
                size, crc32 = int(attrs["faiss_size"]), int(attrs["faiss_crc32"])
                if attrs["sha256"] != catalogue._digest(size, crc32):
                    raise ValueError("its content does not have its checksum")
        except SearchError:
            raise
        except (
            *(OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError),
            StopIteration,
        ) as error:
            raise SearchError(
                f"{path} is damaged ({' '.join(str(error).split())}). Copy both files of the "
                "index again from where they came, or build it anew."
            ) from error
        return catalogue, size, crc32

    def _digest(self, faiss_size: int, faiss_crc32: int) -> str:
        left_out = self.left_out
        head = [self.layer, self.metric, self.provenance.dumps(), self.longest]
        head += [left_out.not_done, left_out.not_finite, left_out.zero, faiss_size, faiss_crc32]
        digest = hashlib.sha256(json.dumps(head).encode())
        digest.update(np.ascontiguousarray(self.rows, "<i8").tobytes())
        digest.update(json.dumps([list(self.paths), list(self.labels)]).encode())
        return digest.hexdigest()


def format_of(path: Path) -> str | None:
    """Return the ``format`` of an HDF5 file; None where it has none or is no such file."""
    try:
        with h5py.File(path) as file:
            return str(file.attrs["format"])
    except (OSError, KeyError, RuntimeError):
        return None

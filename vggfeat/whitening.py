"""PCA-whitening: features turned and scaled so that all directions weigh the same.

After H. Jégou and O. Chum, "Negative evidences and co-occurrences in image retrieval: the benefit
of PCA and whitening", ECCV 2012. A vector is scaled to length 1, the mean is taken off, it is
projected on the leading eigenvectors of the covariance, each divided by the square root of its
eigenvalue, and the result is scaled to length 1 again.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import tokenize
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from vggfeat.atomic import atomic_file
from vggfeat.errors import ImageError, WhiteningError
from vggfeat.files import LARGEST_RATIO, open_regular
from vggfeat.norms import unit_length
from vggfeat.zip_members import open_archive

FORMAT = "vggfeat-whitening"
FORMAT_VERSION = 1
DIMENSION = 512
"""Numbers that are kept where nobody says how many."""
SHRINKAGE = 1e-6
"""Share of the mean eigenvalue that is added to each: a direction that hardly varies is not blown
up into noise."""

_DAMAGED = (
    *(OSError, RuntimeError, LookupError, ArithmeticError, ValueError, TypeError, AttributeError),
    *(EOFError, SyntaxError, tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)
"""What is raised over archives and arrays that are damaged; NumPy reads headers as Python."""

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Whitening:
    """What was learnt.

    Attributes
    ----------
    mean : ndarray of float64, shape (D,)
        Of the vectors of length 1.
    projection : ndarray of float64, shape (D, d)
        Eigenvectors, the one of the largest eigenvalue first, each divided by the square root of
        its eigenvalue.
    eigenvalues : ndarray of float64, shape (D,) or fewer
        Of the covariance, the largest first.
    count : int
        Number of vectors that it was learnt from.
    made : dict
        How the vectors were made, JSON-ready: vectors made otherwise are refused by whoever
        applies it.
    """

    mean: Array
    projection: Array
    eigenvalues: Array
    count: int
    made: dict[str, Any] = field(default_factory=dict)

    @property
    def width(self) -> int:
        """Numbers D of a vector that comes in."""
        return len(self.mean)

    @property
    def dimension(self) -> int:
        """Numbers d of a vector that comes out."""
        return int(self.projection.shape[1])

    @property
    def explained(self) -> float:
        """Share of the variance that the kept directions hold, in 0..1."""
        total = float(self.eigenvalues.sum())
        return float(self.eigenvalues[: self.dimension].sum()) / total if total else 1.0

    @property
    def sha256(self) -> str:
        """SHA-256 of mean and projection as little-endian float64, in hexadecimal."""
        digest = hashlib.sha256(json.dumps(self.projection.shape).encode())
        for array in (self.mean, self.projection):
            digest.update(np.ascontiguousarray(array, "<f8").tobytes())
        return digest.hexdigest()

    def summary(self) -> dict[str, Any]:
        """Return it in short, JSON-ready."""
        return {
            "dimension": self.dimension,
            "images": self.count,
            "explained": self.explained,
            "sha256": self.sha256,
        }

    def check(self) -> None:
        """Refuse arrays that do not fit one another, or are not finite; ValueError."""
        arrays = self.mean, self.projection, self.eigenvalues
        if any(array.dtype != np.float64 for array in arrays):
            raise ValueError("its arrays are not float64")
        if (
            [array.ndim for array in arrays] != [1, 2, 1]
            or len(self.projection) != len(self.mean)
            or not self.dimension
        ):
            raise ValueError("its arrays do not fit one another")
        if not all(np.isfinite(array).all() for array in arrays):
            raise ValueError("it holds NaN or infinite values")
        if not isinstance(self.made, dict):
            raise ValueError("it does not say how its vectors were made")

    def __call__(self, X: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Whiten vectors.

        Parameters
        ----------
        X : array_like of shape (n, D)
            Finite.

        Returns
        -------
        ndarray of float32, shape (n, d)
            Of length 1; zeros where a vector has no direction: zeros, and the mean itself.
        """
        given = np.asarray(X, np.float64)
        out = np.zeros((len(given), self.dimension), np.float32)
        some = given.any(axis=1)
        whitened, nonzero = self.whitened(given[some])
        out[np.flatnonzero(some)[nonzero]] = whitened[nonzero]
        return out

    def whitened(self, X: Array) -> tuple[Array, npt.NDArray[np.bool_]]:
        """Whiten vectors of which none is zero; say which of the results have a direction.

        Returns
        -------
        vectors : ndarray of float64, shape (n, d)
            Of length 1 where they have a direction.
        nonzero : ndarray of bool, shape (n,)
        """
        if X.shape[1:] != self.mean.shape:
            raise WhiteningError(
                f"Vectors of shape {X.shape} were given; this whitening takes (n, {self.width})."
            )
        turned = (unit_length(X) - self.mean) @ self.projection
        lengths = np.linalg.norm(turned, axis=1, keepdims=True)
        # What is left of a mean taken off itself is rounding, of any direction.
        nonzero = lengths[:, 0] > 1e-9 * np.linalg.norm(self.projection, axis=0).max(initial=0)
        return turned / np.where(lengths > 0, lengths, 1), nonzero

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a ``.npz`` file of plain arrays: mean, projection, eigenvalues, count, header.

        Raises
        ------
        OSError
            The file cannot be written.
        """
        header = {"format": FORMAT, "format_version": FORMAT_VERSION, "made": self.made}
        with atomic_file(Path(path)) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                mean=self.mean,
                projection=self.projection,
                eigenvalues=self.eigenvalues,
                count=np.int64(self.count),
                header=np.frombuffer(json.dumps(header).encode(), np.uint8),
            )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what :meth:`save` wrote.

        Raises
        ------
        WhiteningError
            The file is missing, damaged, something else, or of a newer format.
        """
        try:
            _check_sizes(Path(path))
            with np.load(path, allow_pickle=False) as file:
                header = json.loads(file["header"].tobytes())
                if header["format"] != FORMAT:
                    raise ValueError(f"it is of format {header['format']!r}")
                if header["format_version"] > FORMAT_VERSION:
                    raise WhiteningError(
                        f"{path} was made by a newer vggfeat (format {header['format_version']}; "
                        f"this one reads up to {FORMAT_VERSION}). Upgrade vggfeat."
                    )
                names = ("mean", "projection", "eigenvalues")
                arrays = {name: np.asarray(file[name], np.float64) for name in names}
                found = cls(**arrays, count=int(file["count"]), made=header["made"])
            found.check()
        except WhiteningError:
            raise
        except FileNotFoundError:
            raise WhiteningError(
                f"There is no {path}. `vggfeat whiten STORE {path}` makes it."
            ) from None
        except _DAMAGED as error:
            raise WhiteningError(
                f"{path} is no whitening, or damaged ({' '.join(str(error).split())}). "
                "Make it with `vggfeat whiten STORE OUT`."
            ) from error
        return found


def learn(
    blocks: Iterable[npt.NDArray[Any]],
    dimension: int | None = None,
    *,
    shrinkage: float = SHRINKAGE,
    made: dict[str, Any] | None = None,
) -> Whitening:
    """Learn a whitening from vectors that come in blocks; it takes memory for (D, D) numbers.

    Parameters
    ----------
    blocks : iterable of ndarray, shape (n, D)
        Vectors; those that are zero or not finite are left out.
    dimension : int, optional
        Directions to keep, at most D and fewer than the number of vectors; by default
        :data:`DIMENSION`, or as many as there can be.
    shrinkage : float
        Share of the mean eigenvalue that is added to each eigenvalue before its root divides.
    made : dict, optional
        See :attr:`Whitening.made`.

    Raises
    ------
    WhiteningError
        There are too few vectors for `dimension`, or it is below 1.
    """
    count, total, products = 0, np.zeros(0), np.zeros((0, 0))
    for block in blocks:
        X = np.asarray(block, np.float64)
        X = X[np.isfinite(X).all(axis=1) & X.any(axis=1)]
        if not count:
            total, products = np.zeros(block.shape[1]), np.zeros((block.shape[1],) * 2)
        X = unit_length(X)
        count += len(X)
        total += X.sum(axis=0)
        products += X.T @ X
    width = len(total)
    most = min(width, count - 1)
    wanted = min(DIMENSION, most) if dimension is None else dimension
    if not 1 <= wanted <= most:
        raise WhiteningError(
            f"{wanted} directions were requested; {count} usable vectors of {width} numbers give "
            f"1 to {max(most, 0)}. Ask for fewer, or learn from more images."
        )
    mean = total / count
    covariance = (products - count * np.outer(mean, mean)) / (count - 1)
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]  # the largest first
    # An eigenvector and its negative are the same direction: choose one, for reproducible files.
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(width)])
    floor = shrinkage * values.mean()
    if floor + values[wanted - 1] <= 0:
        raise WhiteningError("All vectors are the same; there is nothing to whiten.")
    projection = (vectors * signs)[:, :wanted] / np.sqrt(values[:wanted] + floor)
    return Whitening(mean, np.ascontiguousarray(projection), values, count, made or {})


def _check_sizes(path: Path) -> None:
    """Refuse arrays that are larger than what is stored of them, before memory is taken.

    Raises
    ------
    ValueError
        An array says that it has more numbers than the file, or shares its bytes with another.
    """
    try:
        opened = open_regular(path)
    except ImageError as error:
        if not path.exists():
            raise FileNotFoundError(str(error)) from error
        raise ValueError(str(error)) from error
    with opened, open_archive(opened) as archive:
        total = os.fstat(opened.fileno()).st_size
        for member in archive.infolist():
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"{member.filename} is compressed in another way than deflate")
            stored = min(member.compress_size, total)
            if member.file_size > LARGEST_RATIO * stored + (1 << 20):
                raise ValueError(f"{member.filename} would take {member.file_size:,} bytes")
            with archive.open(member) as array:
                version = np.lib.format.read_magic(array)
                read = np.lib.format.read_array_header_1_0
                if version != (1, 0):
                    read = np.lib.format.read_array_header_2_0
                shape, _, dtype = read(array)
            # Of negative lengths, NumPy's product may be anything.
            if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize > member.file_size:
                raise ValueError(f"{member.filename} says it is of shape {shape}")

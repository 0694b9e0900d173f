"""RDMs as files that rsatoolbox and NumPy read."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from vggfeat.atomic import atomic_file
from vggfeat.errors import RepresentationError
from vggfeat.feature_table import requested_layers
from vggfeat.progress import Progress, silent
from vggfeat.representations.conditions import By, Conditions, conditions
from vggfeat.representations.measures import RECORDS, check_measure
from vggfeat.representations.rdms import CondensedSink, Sink, SquareSink, compute
from vggfeat.tables import csv_line

if TYPE_CHECKING:
    from vggfeat.feature_table import FeatureTable

Form = Literal["condensed", "square"]
FORMS: tuple[Form, ...] = get_args(Form)
SUFFIXES = (".h5", ".hdf5", ".npy")


def save_rdms(
    store: FeatureTable,
    out: str | os.PathLike[str],
    layers: str | Iterable[str] | None = None,
    *,
    measure: str = "correlation",
    by: By = "image",
    form: Form = "condensed",
    dtype: npt.DTypeLike = np.float32,
    folds: int = 2,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress = silent,
) -> tuple[list[str], Conditions]:
    """Compute the RDMs of layers of a store into a file, a strip at a time.

    Parameters
    ----------
    store, layers, measure, by, folds, seed, dtype, progress :
        As for :func:`~vggfeat.representations.rdm`.
    out : path
        The file to make, which appears whole or not at all. ``.h5`` is what
        ``rsatoolbox.rdm.load_rdm`` reads: RDMs with the descriptors ``layer``, and ``path`` and
        ``class``, or ``class`` alone, of conditions. ``.npy`` holds the values alone; beside it
        ``OUT.paths.csv`` has the columns path and label, one record a condition.
    form : {"condensed", "square"}
        Values above the diagonal, (r, n (n - 1) / 2), or whole matrices, (r, n, n). A ``.npy`` of
        one layer has no first axis.
    overwrite : bool
        Replace a file at `out`.

    Returns
    -------
    layers : list of str
        Whose RDMs these are, in their order.
    conditions : Conditions
        Of the rows.

    Raises
    ------
    RepresentationError
        As of :func:`~vggfeat.representations.rdm`; or the file is there, cannot be written, or its
        name ends in something else.
    """
    target = destination(out, overwrite)
    if form not in FORMS:
        raise RepresentationError(f"Unknown form {form!r}. Known are {', '.join(FORMS)}.")
    check_measure(measure)
    chosen, what = requested_layers(store, layers), conditions(store, by)
    count = len(what)
    shape = (count, count) if form == "square" else (count * (count - 1) // 2,)
    options: dict[str, Any] = {
        "measure": measure, "folds": folds, "seed": seed, "progress": progress
    }  # fmt: skip

    def filled(values: Any) -> None:
        sink: Sink = SquareSink(values) if form == "square" else CondensedSink(values, count)
        compute(store, chosen, what, sink, **options)

    try:
        with ExitStack() as stack:
            temporary = stack.enter_context(atomic_file(target))
            if target.suffix.lower() == ".npy":
                beside = stack.enter_context(atomic_file(names_beside(target)))
                write_names(beside, what)
                whole = np.lib.format.open_memmap(
                    temporary, "w+", np.dtype(dtype), shape if len(chosen) == 1 else
                    (len(chosen), *shape),
                )  # fmt: skip
                filled(whole.reshape(len(chosen), *shape))
                whole.flush()
                del whole
            else:
                _write_hdf5(temporary, chosen, what, measure, str(store.path), shape, dtype, filled)
    except OSError as error:
        raise RepresentationError(
            f"{target} cannot be written: {error.strerror or error}. Give another place."
        ) from error
    return chosen, what


def destination(out: str | os.PathLike[str], overwrite: bool) -> Path:
    """Return where RDMs will be written; ask before long work.

    Raises
    ------
    RepresentationError
        Its name ends in something else, its folder is not there, or it is, without `overwrite`.
    """
    target = Path(out)
    if target.suffix.lower() not in SUFFIXES:
        raise RepresentationError(
            f"{target} ends in {target.suffix or 'nothing'!r}, which names no format of RDMs. Give "
            "a name that ends in .h5, which rsatoolbox reads, or in .npy."
        )
    if not target.parent.is_dir():
        raise RepresentationError(f"The folder {target.parent} does not exist. Make it first.")
    files = [target, *[names_beside(target)] * (target.suffix.lower() == ".npy")]
    for file in files:
        if file.is_dir():
            raise RepresentationError(f"{file} is a folder. Give the name of a file.")
        if file.exists() and not overwrite:
            raise RepresentationError(
                f"{file} is there already. Give another name, or --overwrite it."
            )
    return target


def names_beside(file: Path) -> Path:
    """Return the table of the conditions' names that belongs to a ``.npy`` file."""
    return file.with_name(f"{file.name}.paths.csv")


def write_names(file: Path, what: Conditions) -> None:
    """Write the table of the conditions' names, as :func:`names_beside` has it."""
    with file.open("w", encoding="utf-8", newline="") as stream:
        stream.write("path,label\n" if what.by == "image" else "class,label\n")
        for pair in zip(what.names, what.classes, strict=True):
            stream.write(csv_line(pair))


def _write_hdf5(
    file: Path,
    layers: list[str],
    what: Conditions,
    measure: str,
    source: str,
    shape: tuple[int, ...],
    dtype: npt.DTypeLike,
    filled: Any,
) -> None:
    """Write what ``RDMs.save`` of rsatoolbox 0.3 writes, and ``load_rdm`` reads."""
    import h5py

    with h5py.File(file, "w") as out:
        out.attrs["rsatoolbox_version"] = "0.3.2"  # whose format this is
        out.attrs["dissimilarity_measure"] = RECORDS[check_measure(measure)].toolbox
        described = out.create_group("descriptors")
        described.attrs["source"] = source
        described.attrs["made_by"] = "vggfeat"
        described.attrs["measure"] = measure
        described.attrs["by"] = what.by
        rdms = out.create_group("rdm_descriptors")
        rdms["layer"] = _texts(layers)
        rdms["index"] = np.arange(len(layers))
        patterns = out.create_group("pattern_descriptors")
        if what.by == "image":
            patterns["path"] = _texts(what.names)
        if what.by == "class" or any(what.classes):
            patterns["class"] = _texts(what.classes)
        patterns["index"] = np.arange(len(what))
        filled(out.create_dataset("dissimilarities", (len(layers), *shape), np.dtype(dtype)))


def _texts(names: Iterable[str]) -> Any:
    """Return names as HDF5 keeps them: fixed bytes where ASCII, which rsatoolbox decodes."""
    import h5py

    listed = list(names)
    if any(listed) and all(name.isascii() for name in listed):
        return np.array(listed, "S")
    return np.array(listed, h5py.string_dtype())

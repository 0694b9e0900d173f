"""Promises about weight files that a stranger made: whatever they say, they cost an error."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from conftest import peak_bytes
from scipy.io import loadmat, savemat

from vggfeat.errors import WeightsError
from vggfeat.weights import mat_file
from vggfeat.weights.formats import open_file

ALLOWANCE = 4 << 20  # bytes: blocks that are read, and modules imported at their first use


def refused(path: Path, match: str, most: int = ALLOWANCE) -> None:
    """Open a file, which must be refused at no great cost."""

    def refuse() -> None:
        with pytest.raises(WeightsError, match=match), open_file(path):
            pass

    assert peak_bytes(refuse)[1] < most


# MATLAB


def element(kind: int, data: bytes, order: str = "<") -> bytes:
    return struct.pack(f"{order}II", kind, len(data)) + data + bytes(-len(data) % 8)


def array(
    kind: int, dims: tuple[int, ...], body: bytes = b"", name: bytes = b"", order: str = "<"
) -> bytes:
    """Return a variable, cell or field of MATLAB's class `kind`."""
    flags = element(6, struct.pack(f"{order}II", kind, 0), order)
    shape = element(5, struct.pack(f"{order}{len(dims)}i", *dims), order)
    return element(14, flags + shape + element(1, name, order) + body, order)


def mat(*variables: bytes, order: str = "<") -> bytes:
    version = struct.pack(f"{order}H", 0x100) + struct.pack(f"{order}H", 0x4D49)
    return b"MATLAB 5.0 MAT-file".ljust(124) + version + b"".join(variables)


def packed(variable: bytes) -> bytes:
    data = zlib.compress(variable)
    return struct.pack("<II", 15, len(data)) + data


def nested(depth: int) -> bytes:
    inner = b""
    for _ in range(depth):
        inner = array(1, (1, 1), inner or array(6, (0, 0), element(9, b"")))
    return inner


CELLS = array(1, (1 << 30, 1), name=b"layers")
FIELDS = element(5, struct.pack("<i", 4)) + element(1, b"a\0\0\0")
NUMBERS = array(6, (1, 4), element(9, bytes(32)), b"layers")
MAT_LIES = {
    "a thousand million cells": (mat(CELLS), "cells or fields"),
    "the same, compressed": (mat(packed(CELLS)), "cells or fields"),
    "structs": (mat(array(2, (1 << 30, 1), FIELDS, b"layers")), "cells or fields"),
    "structs without fields": (
        mat(array(2, (1 << 30, 1), element(5, struct.pack("<i", 4)) + element(1, b""), b"layers")),
        "cells or fields",
    ),
    "numbers": (mat(array(6, (1 << 30, 4), element(9, bytes(32)), b"layers")), "has 4 values"),
    "fewer than none": (mat(array(1, (-1, -1), name=b"layers")), "array of shape"),
    "an element beyond its array": (
        mat(array(6, (1, 4), struct.pack("<II", 9, 1 << 31), b"layers")), "2,147,483,648 bytes",
    ),
    "an array beyond the file": (mat(NUMBERS[:4] + b"\xf0" + NUMBERS[5:]), "truncated"),
    "cells within cells": (mat(packed(array(1, (1, 1), nested(9999), b"layers"))), "16 deep"),
    "a million empty cells": (
        mat(packed(array(1, (1, 1 << 20), struct.pack("<II", 14, 0) * (1 << 20), b"layers"))),
        "more than 20,000",
    ),
    "a field's name of 2 GB": (
        mat(array(2, (1, 1), element(5, struct.pack("<i", (1 << 31) - 1)), b"layers")), "damaged",
    ),
    "a text of 4 GB": (mat(array(4, (1, (1 << 31) - 1), element(4, b""), b"layers")), "no cell"),
    "compressed within compressed": (
        mat(packed(array(1, (1, 1), packed(NUMBERS), b"layers"))), "type 15",
    ),
    "more than one compressed variable": (mat(packed(NUMBERS * 2)), "not as large as it says"),
    "a checksum that is wrong": (mat(packed(NUMBERS)[:-1] + b"\0"), "incorrect data check"),
}  # fmt: skip


@pytest.mark.parametrize("lie", MAT_LIES)
def test_a_matlab_file_takes_no_memory_that_it_does_not_hold(lie: str, tmp_path: Path) -> None:
    data, reason = MAT_LIES[lie]
    (tmp_path / "net.mat").write_bytes(data)
    most = 16 << 20 if lie == "a million empty cells" else ALLOWANCE  # 20,000 of them are read
    refused(tmp_path / "net.mat", reason, most)


@pytest.mark.parametrize("order", "<>")
def test_matlab_variables_are_what_scipy_reads(order: str, tmp_path: Path) -> None:
    rng, path = np.random.default_rng(0), tmp_path / "x.mat"
    held = {
        name: rng.integers(0, 100, shape).astype(name)
        for name, shape in {
            "uint8": (3, 5), "int16": (2, 3, 4), "int32": (1, 7), "int64": (7, 1), "single": (2, 2),
            "double": (3, 2, 1, 2), "uint16": (0, 4), "logical": (2, 2),
        }.items()
        if name not in ("single", "logical")
    }  # fmt: skip
    held |= {"single": np.float32(rng.normal(size=(2, 3))), "logical": np.eye(3, dtype=bool)}
    if order == "<":
        cells = np.empty((1, 2), object)
        cells[0] = [held["double"], "tail"]
        savemat(path, {**held, "z": 1j * held["single"], "c": cells, "s": {"a": "text", "b": 1.5}},
                do_compression=True)  # fmt: skip
        found = mat_file.read(path, [*held, "z", "c", "s"])
        assert np.array_equal(found["c"][0], held["double"])
        assert found["c"][1] == "tail"
        assert found["z"] is None, "complex numbers are no weights"
        assert found["s"] == {"a": "text", "b": np.full((1, 1), 1.5)}
    else:
        values = array(6, (2, 3), element(9, struct.pack(">6d", *range(6)), ">"), b"double", ">")
        path.write_bytes(mat(values, order=">"))
        found, held = mat_file.read(path, ["double"]), {"double": np.empty(0)}
    theirs = loadmat(path)
    for name in held:
        assert np.array_equal(found[name], theirs[name]), name
        assert found[name].dtype == theirs[name].dtype.newbyteorder("="), name

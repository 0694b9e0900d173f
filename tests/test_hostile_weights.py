"""Promises about weight files that a stranger made: whatever they say, they cost an error."""

from __future__ import annotations

import copy
import io
import json
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import weight_writers
from conftest import peak_bytes
from onnx_writers import Graph
from safetensors.torch import save_file
from scipy.io import loadmat, savemat

from vggfeat import mat_file, zip_members
from vggfeat.errors import WeightsError, WhiteningError
from vggfeat.layers import architecture
from vggfeat.pickles import MOST_BYTES
from vggfeat.preprocessing import TORCHVISION
from vggfeat.weights import (
    PREPROCESSING_KEY,
    pairing,
    torch_file,
    torch_pickles,
)
from vggfeat.weights.formats import open_file
from vggfeat.weights.keras_file import KerasTensors
from vggfeat.whitening import Whitening

ALLOWANCE = 4 << 20  # bytes: blocks that are read, and modules imported at their first use


def refused(path: Path, match: str, most: int = ALLOWANCE) -> None:
    """Open a file, which must be refused at no great cost."""

    def refuse() -> None:
        with pytest.raises(WeightsError, match=match), open_file(path):
            pass

    assert peak_bytes(refuse)[1] < most


def open_closed(path: Path) -> None:
    with open_file(path):
        pass


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


# PyTorch


def checkpoint(pickled: bytes, compress: bool = False, count: int = 4) -> bytes:
    """Return a file of torch's, of a pickle and one storage."""
    out = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(out, "w", kind) as archive:
        archive.writestr("w/data.pkl", pickled)
        archive.writestr("w/data/0", bytes(4 * count))
    return out.getvalue()


def op(text: str) -> bytes:
    """Return a short text as pickles have it."""
    return b"X" + struct.pack("<I", len(text)) + text.encode()


def number(value: int) -> bytes:
    return b"\x8a\x08" + struct.pack("<q", value)


def tuple_of(*values: bytes) -> bytes:
    return b"(" + b"".join(values) + b"t"


def tensor(*shape: int, stride: tuple[int, ...] = (), count: int = 4, offset: int = 0) -> bytes:
    """Return the operations that make a tensor of floats."""
    storage = (op("storage"), b"ctorch\nFloatStorage\n", op("0"), op("cpu"), number(count))
    stride = stride or (0,) * len(shape)
    view = (tuple_of(*map(number, shape)), tuple_of(*map(number, stride)), b"\x89N")
    inner = tuple_of(tuple_of(*storage) + b"Q", number(offset), *view)
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + inner + b"R"


def state(*items: tuple[bytes, bytes]) -> bytes:
    return b"\x80\x02}(" + b"".join(key + value for key, value in items) + b"u."


NESTED = b"(" + b"\x8a\x01\x01" * 1000 + b"t" + b"q\0" + b"(" + b"h\0" * 1000 + b"tq\0" * 1
WIDE = NESTED + (b"(" + b"h\0" * 1000 + b"tq\0") * 7
SETS = b"(K\x01\x91q\0" + b"(h\0h\0\x86\x91q\0" * 60
PICKLES: dict[str, tuple[bytes, str]] = {
    "a text of 2^62 bytes": (b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62), "truncated"),
    "an array of 2^40 bytes": (b"\x80\x05\x96" + struct.pack("<Q", 1 << 40), "truncated"),
    "a frame of 2^40 bytes": (
        b"\x80\x04\x95" + struct.pack("<Q", 1 << 40) + b"}.", "no dictionary",
    ),
    "a number of a million digits": (
        b"\x80\x02\x8b" + struct.pack("<I", 1 << 19) + b"\x7f" * (1 << 19) + b".", "many digits",
    ),
    "wide tuples within tuples for a key": (state((WIDE, b"K\x01")), "no dictionary"),
    "two sets of sets that are alike": (
        b"\x80\x04}(" + SETS + b"K\x01" + SETS + b"K\x01u.", "no dictionary",
    ),
    "a long name for many tensors": (
        state((op("a" * 100_000), b"}(" + b"".join(
            number(n) + (tensor(2) + b"q\7" if not n else b"h\7") for n in range(1000)) + b"u")),
        "name of 100,0",
    ),
    "a class of a long name": (
        b"\x80\x04" + op("a" * 100_000) + op("b") + b"\x93.", "name that is too long",
    ),
    "a shape that is none": (state((op("a"), tensor(-1, 4))), "whose shape"),
    "a shape of floats": (
        state((op("a"), tensor(1).replace(number(1), b"G" + b"\x7f" * 8))), "whose shape",
    ),
    "a list made into dictionaries again and again": (
        b"\x80\x02ccollections\nOrderedDict\nq\0](" + b"".join(
            tuple_of(number(n), b"N") for n in range(1000)) + b"e\x85q\1" + b"h\0h\1R" * 2000,
        "operations",
    ),
    "many arguments given again and again": (
        b"\x80\x02ctorch._utils\n_rebuild_parameter\nq\0(" + b"N" * 50_000 + b"tq\1"
        + b"h\0h\1R" * 20_000, "operations",
    ),
    "a storage of many values named again and again": (
        b"\x80\x02(" + op("storage") + b"N" * 50_000 + b"tq\1" + b"h\1Q" * 20_000, "no name",
    ),
    "keys that collide": (
        b"\x80\x02}(" + b"".join(
            b"\x8a\x0b" + (n * ((1 << 61) - 1)).to_bytes(11, "little") + b"N"
            for n in range(1, 50_000)) + b"u.", "no dictionary",
    ),
    "places that collide": (
        b"N" + b"".join(b"p%d\n" % (n * ((1 << 61) - 1)) for n in range(1, 50_000)),
        "large a number",
    ),
    "one long key of bytes in many dictionaries": (
        b"\x80\x03B" + struct.pack("<I", 1 << 20) + bytes(1 << 20) + b"q\0" + b"}(" + b"".join(
            number(n) + b"}h\0Ns" for n in range(10_000)) + b"u.", "no dictionary",
    ),
}  # fmt: skip
"""What a pickle does, and the refusal."""


@pytest.mark.timeout(60)
@pytest.mark.parametrize("lie", PICKLES)
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_pickle_takes_no_memory_and_no_time_that_a_number_in_it_says(
    lie: str, legacy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, reason = PICKLES[lie]
    monkeypatch.setattr("vggfeat.pickles._MOST_READS", 1 << 18)
    if legacy:
        before = b"".join(pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {}))
        path = put(tmp_path / "w.pth", before + data)
    else:
        path = put(tmp_path / "w.pth", checkpoint(data, compress=True))
    with pytest.raises(WeightsError, match=reason), open_file(path):
        pass


def test_a_pickle_makes_no_more_objects_than_its_operations_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(tmp_path / "w.pth", checkpoint(b"\x80\x02" + b"]" * 2000))
    with pytest.raises(WeightsError, match="truncated"), open_file(path):
        pass
    monkeypatch.setattr("vggfeat.pickles._MOST_READS", 1000)
    with pytest.raises(WeightsError, match="more than 1,000 operations"), open_file(path):
        pass


def test_a_legacy_file_names_its_storages_by_texts_alone(tmp_path: Path) -> None:
    """Tuples within tuples would take for ever to hash."""
    keys = b"\x80\x02](K\1" + b"q\0(h\0h\0t" * 60 + b"e."
    before = b"".join(pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {}))
    path = put(tmp_path / "w.pth", before + state((op("features.0.weight"), tensor(2))) + keys)
    refused(path, "a storage by no name")


def test_a_pickle_takes_the_memory_that_is_stated_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """See `vggfeat.pickles.MOST_BYTES`, of which this is a 16th.

    A text is held as it was read and as letters of four bytes; an operation takes 111 bytes at
    most, those of an entry in the memo while its table grows.
    """
    operations = (1 << 16) - 100
    monkeypatch.setattr("vggfeat.pickles._MOST_READS", 1 << 16)
    long = ("a" * ((MOST_BYTES >> 4) - operations - 200) + "\N{GRINNING FACE}").encode()
    pickled = b"\x80\x04X" + struct.pack("<I", len(long)) + long + b"}" + b"\x94" * operations
    path = put(tmp_path / "w.pth", checkpoint(pickled, compress=True))
    refused(path, "truncated", (256 << 20) >> 4)
    pickled = b"\x80\x04" + (op("a" * 500) + b"\x94") * 2 + b"h\0h\1\x93" * 10_000
    path = put(tmp_path / "w.pth", checkpoint(pickled, compress=True))
    refused(path, "truncated")  # not with 1,000 bytes for the name of each


VIEWS: dict[str, tuple[bytes, str]] = {
    "values said again and again": (tensor(1 << 20, 3, 3, 3), "more values than its storage"),
    "behind its storage": (tensor(4, stride=(1,), offset=1), "larger than its storage"),
    "before its storage": (tensor(2, stride=(1,), offset=-1), "begins before its storage"),
    "a storage that is not there": (tensor(9, stride=(1,), count=9), "truncated"),
    "a storage of 2^60": (tensor(1 << 60, stride=(1,), count=1 << 60), "truncated"),
}


@pytest.mark.parametrize("lie", VIEWS)
def test_a_tensor_of_a_checkpoint_is_no_larger_than_its_storage(lie: str, tmp_path: Path) -> None:
    held, reason = VIEWS[lie]
    path = put(tmp_path / "w.pth", checkpoint(state((op("features.0.weight"), held))))

    def refuse() -> None:
        with pytest.raises(WeightsError, match=reason), open_file(path) as file:
            file.read("features.0.weight")

    assert peak_bytes(refuse)[1] < ALLOWANCE


def test_no_pickle_changes_what_later_files_are_read_with(tmp_path: Path) -> None:
    """A state may be given to whatever a pickle names, functions of the reader among them."""
    hostile = b"ctorch._utils\n_rebuild_parameter\n(N}(" + op("__defaults__")
    hostile += tuple_of(op("hostile")) + b"utb0"
    data = b"\x80\x02" + hostile + state((op("features.0.weight"), tensor(2)))[2:]
    with open_file(put(tmp_path / "w.pth", checkpoint(data))) as file:
        assert file.shapes == {"features.0.weight": (2,)}
    assert torch_pickles._first.__defaults__ == (None,)


def test_complex_numbers_are_no_weights(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({"features.0.weight": torch.ones(2, 3, dtype=torch.complex64)}, path)
    with pytest.raises(WeightsError, match="no dictionary of tensors"), open_file(path):
        pass


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_that_are_marked_as_negatives_are_refused(zipped: bool, tmp_path: Path) -> None:
    """What is stored of them has the opposite sign."""
    path, values = tmp_path / "w.pth", torch.ones(2, 3, dtype=torch.complex64) * 1j
    made = {"features.0.weight": values.conj().imag}
    assert (made["features.0.weight"] == -1).all()
    torch.save(made, path, _use_new_zipfile_serialization=zipped)
    refused(path, "marked as the negative")
    made = {"features.0.weight": made["features.0.weight"].resolve_neg()}
    torch.save(made, path, _use_new_zipfile_serialization=zipped)
    with open_file(path) as file:
        assert (np.asarray(file.read("features.0.weight")) == -1).all()


def test_storages_of_another_size_than_their_tensors_say_are_refused(tmp_path: Path) -> None:
    path, made = tmp_path / "w.pt", {"features.0.weight": torch.arange(10.0)}
    torch.save(made, path, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    with open_file(path) as file:
        assert torch.equal(torch.as_tensor(file.read("features.0.weight")), torch.arange(10.0))
    path.write_bytes(data[:-48] + struct.pack("<q", 9) + data[-40:])
    with pytest.raises(WeightsError, match="not as large as its tensors say"), open_file(path):
        pass


def test_python_2_pickled_dictionaries_as_lists_of_pairs(tmp_path: Path) -> None:
    pairs = b"](](" + op("features.0.weight") + tensor(2) + b"ee"
    data = b"\x80\x02ccollections\nOrderedDict\n" + pairs + b"\x85R."
    with open_file(put(tmp_path / "w.pth", checkpoint(data))) as file:
        assert file.shapes == {"features.0.weight": (2,)}


# Archives


def test_a_member_of_an_archive_is_no_larger_than_it_says(tmp_path: Path) -> None:
    """Neither the directory's sizes nor what unpacks is believed beyond what is stored."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("stored", b"0123456789")
        out.writestr("packed", b"x" * 5000, zipfile.ZIP_DEFLATED)
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        member = zip_members.opened(archive, file, "stored")
        assert member.read() == b"0123456789"
        assert member.seek(-3, io.SEEK_END) == 7
        assert member.read(9) == b"789"
        assert zip_members.opened(archive, file, "packed").read() == b"x" * 5000
        with pytest.raises(ValueError, match="more than 4,999 bytes"):
            zip_members.read(archive, "packed", 4999)
        lies: list[tuple[str, dict[str, Any], str]] = [
            ("stored", {"file_size": 1 << 40}, "truncated"),
            ("stored", {"header_offset": 1 << 40}, "truncated"),
            ("stored", {"header_offset": 3}, "truncated"),
            ("packed", {"file_size": 1 << 32}, "too large"),
            ("packed", {"file_size": 5001}, "damaged"),
        ]
        for name, told, reason in lies:
            info = archive.getinfo(name)
            before = {key: getattr(info, key) for key in told}
            for key, value in told.items():
                setattr(info, key, value)
            with pytest.raises(ValueError, match=reason):
                zip_members.opened(archive, file, name)
            for key, value in before.items():
                setattr(info, key, value)


@pytest.mark.parametrize("suffix", [".pth", ".keras", ".npz"])
def test_members_of_an_archive_that_share_their_bytes_are_refused(
    suffix: str, tmp_path: Path
) -> None:
    """One stream that many entries of the directory point at makes much of few bytes."""
    path, names = tmp_path / f"a{suffix}", ["w/data.pkl", "config.json", "mean.npy", "w/data/0"]
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(names[0], b"\x80\x02}.")
        for name in names[1:]:
            archive.NameToInfo[name] = entry = copy.copy(archive.getinfo(names[0]))
            entry.filename = name
            archive.filelist.append(entry)
    read, error = (
        (Whitening.load, WhiteningError) if suffix == ".npz" else (open_closed, WeightsError)
    )
    with pytest.raises(error, match="overlaps what follows"):
        read(put(path, out.getvalue()))


def test_members_within_the_data_of_another_are_refused(tmp_path: Path) -> None:
    """As David Fifield's bombs do, whose members unpack one another's headers as their data."""
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("w/data/0", bytes(16))
    path = tmp_path / "w.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("w/data.pkl", inner.getvalue())
        archive.NameToInfo["w/data/0"] = entry = copy.copy(archive.getinfo("w/data.pkl"))
        entry.filename, entry.header_offset = "w/data/0", 30 + len("w/data.pkl")
        entry.compress_size = entry.file_size = 16
        archive.filelist.append(entry)
    refused(path, "overlaps what follows")


def test_a_checkpoint_whose_pickle_unpacks_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_file, "MOST_BYTES", 1 << 20)
    path = put(tmp_path / "w.pth", checkpoint(b" " * ((1 << 20) + 1), compress=True))
    refused(path, "more than 1,048,576 bytes")


# ONNX


def graphs_in_nodes(depth: int) -> Graph:
    """Return a graph with a node that has a graph in it, with a node that has a graph in it..."""
    data = b""
    for _ in range(depth):
        for key in (b"\x32", b"\x2a", b"\x0a"):  # g of an attribute of a node
            size, length = len(data), b""
            while size >= 0x80:
                length, size = length + bytes([size & 0x7F | 0x80]), size >> 7
            data = key + length + bytes([size]) + data
    graph = Graph()
    graph.graph.MergeFromString(data)
    graph.node("If", graph.input)
    return graph


def chain(graph: Graph, op: str, count: int) -> Graph:
    value = graph.input
    for _ in range(count):
        value = graph.node(op, value)
    return graph


def circle(graph: Graph) -> Graph:
    """Two nodes that feed one another, behind the input."""
    first = graph.node("Add", graph.input, "second:0", name="first")
    graph.node("Identity", first, name="second")
    return graph


def fan(graph: Graph, width: int, **attributes: Any) -> Graph:
    """One node that sees very many values."""
    values = [graph.node("Identity", graph.input) for _ in range(width)]
    graph.node("Conv", *values, name="n" * 60_000, **attributes)
    return graph


def crossed(graph: Graph, depth: int) -> Graph:
    """Twice as many ways with each step, as far as they are followed."""
    one = two = graph.input
    for _ in range(depth):
        one, two = graph.node("Identity", one, two), graph.node("Identity", two, one)
    return graph


def computed(graph: Graph, levels: int, size: int) -> Graph:
    """A constant that is read twice as often with each level."""
    kernel = graph.tensor(np.ones((size, 3, 3, 3), np.float32))
    for _ in range(levels):
        kernel = graph.node("Add", kernel, kernel)
    graph.node("Conv", graph.input, kernel, pads=[1] * 4)
    return graph


GRAPHS: dict[str, tuple[Callable[[], Graph], str]] = {
    "graphs in nodes of graphs": (lambda: graphs_in_nodes(500), "here is If"),
    "a chain": (lambda: chain(Graph(), "Identity", 2000), "no VGG"),
    "a chain of changes": (lambda: chain(Graph(), "Relu", 2000), "no VGG"),
    "a circle": (lambda: circle(Graph()), "but here is Add"),
    "a node of very many inputs and a long name": (lambda: fan(Graph(), 2000), "no VGG"),
    "a long list of numbers": (
        lambda: fan(Graph(), 500, kernel_shape=[1] * 60_000), "here is Conv",
    ),
    "ways that cross": (lambda: crossed(Graph(), 1000), "no VGG"),
    "a constant of itself": (lambda: computed(Graph(), 7, 1 << 12), "computed of 128 tensors"),
}  # fmt: skip


@pytest.mark.timeout(30)
@pytest.mark.parametrize("lie", GRAPHS)
def test_a_graph_without_end_costs_no_more_than_it_holds(lie: str, tmp_path: Path) -> None:
    make, reason = GRAPHS[lie]
    path, graph = tmp_path / "m.onnx", make()
    graph.save(path, graph.graph.node[-1].output[0])
    size = path.stat().st_size
    refused(path, reason, ALLOWANCE + 64 * size)


# Caffe


def net(change: Callable[[Any], object]) -> bytes:
    """Return a Caffe model of one layer, changed."""
    made = weight_writers.net_parameter()()
    blob = made.layer.add(name="conv1_1", type="Convolution").blobs.add()
    blob.shape.dim.extend([1, 3, 1, 1])
    blob.data.extend([1.0, 2.0, 3.0])
    change(made)
    return bytes(made.SerializeToString())


CAFFE_LIES: dict[str, tuple[Callable[[Any], object], str]] = {
    "a shape of 2^62": (lambda n: n.layer[0].blobs[0].shape.dim.append(1 << 62), "12 bytes"),
    "a negative shape": (lambda n: n.layer[0].blobs[0].shape.dim.extend([-1, -1]), "12 bytes"),
    "a million dimensions": (
        lambda n: n.layer[0].blobs[0].shape.dim.extend([127] * 100_000), "list of more than 16",
    ),
    "a long name": (lambda n: setattr(n.layer[0], "name", "a" * 100_000), "name of 100,000"),
    "ten thousand layers": (
        lambda n: n.MergeFromString(b"\xa2\x06\0" * 10_000), "10,000 layers",
    ),
    "too many blobs": (
        lambda n: n.layer[0].MergeFromString(b"\x3a\0" * 100), "has 101 blobs",
    ),
    "strides without end": (
        lambda n: n.layer[0].convolution_param.MergeFromString(
            b"\x32" + b"\xc0\x9a\x0c" + b"\1" * 200_000), "list of more than 64",
    ),
}  # fmt: skip


@pytest.mark.parametrize("lie", CAFFE_LIES)
def test_a_caffe_model_costs_no_more_than_it_holds(lie: str, tmp_path: Path) -> None:
    change, reason = CAFFE_LIES[lie]
    refused(put(tmp_path / "w.caffemodel", net(change)), reason, 16 << 20)


# Keras


def inner(name: str, *layers: dict[str, Any], outputs: int = 0) -> dict[str, Any]:
    """Return a model as a layer: a Sequential, or with `outputs` a Functional that repeats one."""
    config: dict[str, Any] = {"name": name, "layers": list(layers)}
    if outputs:
        config["layers"] = [one | {"inbound_nodes": []} for one in layers]
        config["output_layers"] = [[layers[0]["config"]["name"], 0, 9999]] * outputs
    return {"class_name": "Functional" if outputs else "Sequential", "config": config}


def models(width: int, depth: int, outputs: int = 0) -> dict[str, Any]:
    made: dict[str, Any] = {"class_name": "InputLayer", "config": {"name": "input"}}
    for level in range(depth):
        made = inner(f"m{level}", *[made] * width, outputs=outputs)
    return made


def dense(**config: Any) -> dict[str, Any]:
    own = {"class_name": "BatchNormalization", "config": {"name": "bn", **config}}
    return inner("m", own)


KERAS_LIES: dict[str, tuple[str, str]] = {
    "models of models that do nothing": (json.dumps(models(2, 14)), "too many layers"),
    "models whose outputs are many models'": (json.dumps(models(1, 9, 100)), "more than 1,000"),
    "models as deep as it goes": ('{"config":{"layers":[' * 9999 + "]}}" * 9999, "recursion"),
    "a long name": (json.dumps(dense(name="a" * 9999)), "name of 9,999 characters"),
    "an epsilon of 400 digits": (json.dumps(dense(epsilon=10**400)), "too large"),
    "no JSON": ("{", "Expecting"),
    "lists": ("[" * 99_999, "recursion"),
}


def keras_archive(path: Path, config: str, change: Callable[[h5py.File], object]) -> Path:
    held = io.BytesIO()
    with h5py.File(held, "w") as file:
        file["layers/conv2d/vars/0"] = np.zeros((3, 3, 3, 64), np.float32)
        change(file)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", config)
        archive.writestr("model.weights.h5", held.getvalue(), zipfile.ZIP_STORED)
    return path


@pytest.mark.timeout(60)
@pytest.mark.parametrize("lie", KERAS_LIES)
def test_a_keras_configuration_costs_no_more_than_it_holds(lie: str, tmp_path: Path) -> None:
    config, reason = KERAS_LIES[lie]
    path = keras_archive(tmp_path / "m.keras", config, lambda _: None)
    with pytest.raises(WeightsError, match=reason), open_file(path):
        pass


def test_a_keras_configuration_that_unpacks_without_end_is_refused(tmp_path: Path) -> None:
    path = keras_archive(tmp_path / "m.keras", " " * (1 << 24), lambda _: None)
    refused(path, "more than 8,388,608 bytes", 32 << 20)


def names_said_again(file: h5py.File) -> None:
    names = np.array(["a" * 50] * 1200, object)
    file.attrs.create("layer_names", names, dtype=h5py.string_dtype())


def released(file: h5py.File, *names: str, kernel: Any = None) -> None:
    """Write a file of Keras 2 with one layer, of the datasets `names`."""
    file.attrs["layer_names"] = [b"block1_conv1"]
    group = file.create_group("block1_conv1")
    group.attrs["weight_names"] = np.array([name.encode() for name in names])
    group[names[0][:50]] = np.zeros((3, 3, 3, 64), np.float32) if kernel is None else kernel


H5_LIES: dict[str, tuple[Callable[[h5py.File], object], str]] = {
    "names of any length": (names_said_again, "values, and may have"),
    "a long name": (lambda file: released(file, "k" * 2000), "too many, or too long"),
    "one name many times": (lambda file: released(file, *["k:0"] * 20_000), "too many"),
    "texts for numbers": (
        lambda file: released(file, "k:0", kernel=np.full((3, 3, 3, 64), b"abc")), "real numbers",
    ),
    "a graph that is a list of numbers": (
        lambda file: (released(file, "k:0"), file.attrs.update(model_config=[1, 2])), "no text",
    ),
}  # fmt: skip


@pytest.mark.parametrize("lie", H5_LIES)
def test_a_keras_file_costs_no_more_than_it_holds(lie: str, tmp_path: Path) -> None:
    change, reason = H5_LIES[lie]
    with h5py.File(tmp_path / "w.h5", "w", libver="latest") as file:
        change(file)
    refused(tmp_path / "w.h5", reason, 16 << 20)


def test_a_matrix_without_columns_has_no_rows_to_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "w.h5", "w") as file:
        held = KerasTensors({"kernel": file.create_dataset("kernel", (1 << 40, 0), np.float32)})
        with pytest.raises(ValueError, match="no square map of 512 channels"):
            held.read("kernel", 512)
        assert held.read("kernel").shape == (0, 1 << 40)


# What files say of pixels


@pytest.mark.parametrize(
    "lie",
    [{"mean": [float("nan")] * 3}, {"scale": 10**400}, {"std": [1, 1, "1"]}, {"resize": 1 << 31},
     {"crop": True}, {"mean": [0.5] * 4}],
    ids=str,
)  # fmt: skip
def test_a_preprocessing_that_cannot_be_is_refused(lie: dict[str, Any], tmp_path: Path) -> None:
    told = json.dumps(TORCHVISION.to_json() | lie)
    save_file({"x": torch.zeros(1)}, tmp_path / "w.safetensors", {PREPROCESSING_KEY: told})
    with pytest.raises(WeightsError, match=r"is no preprocessing: .* has values that cannot be"):
        pairing.decided(tmp_path / "w.safetensors", "", architecture("vgg16"))


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
    "too many empty cells": (
        mat(packed(array(1, (1, 30_000), struct.pack("<II", 14, 0) * 30_000, b"layers"))),
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
    most = 16 << 20 if lie == "too many empty cells" else ALLOWANCE  # 20,000 of them are read
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


# safetensors


def safetensors(header: Any, data: bytes = bytes(64), length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def said(
    *shape: int, begin: int = 0, end: int = 64, dtype: str = "F32", **others: Any
) -> dict[str, Any]:
    tensor = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
    return {"features.0.weight": tensor} | others


SAFETENSORS_LIES: dict[str, bytes] = {
    "header without end": safetensors(said(16), length=1 << 60),
    "header beyond the file": safetensors(said(16), length=1 << 20),
    "negative header": safetensors(said(16), length=(1 << 64) - 1),
    "no JSON": safetensors(b"\xff" * 40),
    "deep JSON": safetensors(b"[" * 100_000),
    "tensor beyond the file": safetensors(said(1 << 20, end=1 << 22)),
    "larger shape": safetensors(said(1 << 40)),
    "overflowing shape": safetensors(said(1 << 33, 1 << 33, 16)),
    "negative shape": safetensors(said(-4, -4)),
    "offsets turned round": safetensors(said(16, begin=64, end=0)),
    "tensors over one another": safetensors(
        said(16, **{"features.0.bias": said(8, begin=16, end=48)["features.0.weight"]})
    ),
    "a gap": safetensors(said(8, begin=32, end=64)),
    "unknown type": safetensors(said(16, dtype="F33")),
    "nothing": b"",
}


@pytest.mark.parametrize("lie", SAFETENSORS_LIES)
def test_a_safetensors_file_is_what_its_header_says_or_refused(lie: str, tmp_path: Path) -> None:
    refused(put(tmp_path / "w.safetensors", SAFETENSORS_LIES[lie]), "cannot be read")

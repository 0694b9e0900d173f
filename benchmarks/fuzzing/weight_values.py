"""Mutations of weight files by somebody who knows their formats."""

from __future__ import annotations

import json
import pickletools
import struct
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

from fuzzing.bytes_of_files import INTEGERS, mutated, packed
from fuzzing.json_values import TEXTS, changed
from fuzzing.kinds import Mutation

_WINDOW = 4096


def at_the_edges(name: str) -> Mutation:
    """Return the mutation of the first or the last bytes of a file: no tensors lie there."""

    def mutate(folder: Path, random: Random) -> None:
        path = folder / name
        data = path.read_bytes()
        size = random.choice((64, 512, _WINDOW))
        if random.random() < 0.6:
            path.write_bytes(mutated(data[:size], random) + data[size:])
        else:
            path.write_bytes(data[:-size] + mutated(data[-size:], random))

    return mutate


# Pickles


def pickled(data: bytes, random: Random) -> bytes:
    """Return the first pickle in some bytes with other operations; what follows stays."""
    found = list(pickletools.genops(data))
    ends = [at for _, _, at in found[1:]] + [found[-1][2] + 1]
    parts = [data[at:end] for (_, _, at), end in zip(found, ends, strict=True)]  # type: ignore[misc]
    for _ in range(random.choice((1, 1, 2, 5))):
        at = random.randrange(len(parts))
        way = random.randrange(7)
        if way == 0:
            del parts[at]
        elif way == 1:
            parts[at:at] = [parts[at]] * random.choice((1, 2, 100, 100_000))
        elif way == 2:
            parts[at] = bytes([random.choice(pickletools.opcodes).code.encode("latin-1")[0]])
        elif way == 3:
            number = random.choice(INTEGERS) & ((1 << 64) - 1)
            parts[at] = random.choice((
                b"J" + packed(number, "<i"), b"\x8a\x08" + packed(number, "<q"), b"K\x00",
                b"\x8b" + packed(number, "<i"), b"\x8e" + packed(number, "<q"),
                b"\x95" + packed(number, "<q"), b"r" + packed(number, "<i"), b"N",
                b"G" + b"\x7f" * 8,
            ))  # fmt: skip
        elif way == 4:
            text = random.choice(TEXTS).encode("utf-8", "surrogateescape")
            parts[at] = b"X" + struct.pack("<I", len(text)) + text
        elif way == 5:
            parts[at] = mutated(parts[at], random)
        else:
            other = random.randrange(len(parts))
            parts[at], parts[other] = parts[other], parts[at]
        if not parts:
            break
    return b"".join(parts) + data[ends[-1] :]


def legacy(name: str) -> Mutation:
    """Return the mutation of the pickles of a file of before torch 1.6, or of a storage."""

    def mutate(folder: Path, random: Random) -> None:
        path = folder / name
        data, at = path.read_bytes(), 0
        starts = []
        for _ in range(5):
            starts.append(at)
            at += len(_first_pickle(data[at:]))
        start = random.choice((*starts[:4], starts[3], starts[3], starts[4]))
        if random.random() < 0.1:
            path.write_bytes(data[:at] + packed(random.choice(INTEGERS), "<q") + data[at + 8 :])
            return
        path.write_bytes(data[:start] + pickled(data[start:], random))

    return mutate


def _first_pickle(data: bytes) -> bytes:
    return data[: list(pickletools.genops(data))[-1][2] + 1]  # type: ignore[operator]


# Archives


def archived(name: str, inner: dict[str, Callable[[bytes, Random], bytes]]) -> Mutation:
    """Return the mutation of a zip archive's members: what they hold, and how they are kept.

    Parameters
    ----------
    name : str
    inner : dict of str to callable
        How members are changed, by how their names end.
    """

    def mutate(folder: Path, random: Random) -> None:
        path = folder / name
        with zipfile.ZipFile(path) as archive:
            members = [(info.filename, archive.read(info)) for info in archive.infolist()]
        numbers = [i for i, (own, _) in enumerate(members) if own.endswith(tuple(inner))]
        kind = zipfile.ZIP_STORED
        way = random.randrange(10)
        if way < 6:
            at = random.choice(numbers)
            own, data = members[at]
            change = next(c for end, c in inner.items() if own.endswith(end))
            with suppress(ValueError):
                members[at] = own, change(data, random)
        elif way == 6:
            at = random.randrange(len(members))
            own, data = members[at]
            members[at] = random.choice((
                (random.choice(TEXTS) or "x", data), (own, data[: random.randrange(len(data) + 1)]),
                (own, data + bytes(100)), (own, b""), (f"../{own}", data),
            ))  # fmt: skip
        elif way == 7:
            del members[random.randrange(len(members))]
        elif way == 8:
            members += [(f"x{i}", b"") for i in range(random.choice((1, 20_000)))]
        else:
            at = random.choice(numbers)
            members[at] = members[at][0], members[at][1] + b" " * (1 << 26)
            kind = zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(path, "w", random.choice((kind, kind, zipfile.ZIP_DEFLATED))) as out:
            for own, data in members:
                with suppress(UnicodeEncodeError):
                    out.writestr(own, data)
        if random.random() < 0.3:
            _directory(path, random)

    return mutate


def _directory(path: Path, random: Random) -> None:
    """Let the directory of an archive lie about one of its members, or about itself."""
    data = bytearray(path.read_bytes())
    entries, at = [], data.find(b"PK\1\2")
    while at >= 0 and len(entries) < 200:
        entries.append(at)
        at = data.find(b"PK\1\2", at + 4)
    start = random.choice(entries or [len(data) - 22])
    field, form = random.choice((
        (8, "<h"), (10, "<h"), (16, "<i"), (20, "<i"), (24, "<i"), (28, "<h"), (30, "<h"),
        (32, "<h"), (42, "<i"),
    ))  # fmt: skip
    if random.random() < 0.2:
        start, field, form = len(data) - 22, *random.choice(((10, "<h"), (12, "<i"), (16, "<i")))
    number = packed(random.choice(INTEGERS), form)
    data[start + field : start + field + len(number)] = number
    path.write_bytes(data)


def as_json(data: bytes, random: Random) -> bytes:
    """Return other JSON."""
    if random.random() < 0.1:
        return mutated(data, random)
    return json.dumps(changed(json.loads(data), random)).encode()


def within(name: str, mutation: Callable[[str], Mutation]) -> Callable[[bytes, Random], bytes]:
    """Return how a member is changed by a mutation of a file of its own."""

    def change(data: bytes, random: Random) -> bytes:
        import tempfile

        with tempfile.TemporaryDirectory() as place:
            (Path(place) / name).write_bytes(data)
            mutation(name)(Path(place), random)
            return (Path(place) / name).read_bytes()

    return change


# safetensors


def headed(name: str) -> Mutation:
    """Return the mutation of a safetensors file's header, whose length fits or does not."""

    def mutate(folder: Path, random: Random) -> None:
        path = folder / name
        data = path.read_bytes()
        (size,) = struct.unpack("<Q", data[:8])
        head = data[8 : 8 + size]
        if random.random() < 0.8:
            head = json.dumps(changed(json.loads(head), random)).encode()
        else:
            head = mutated(head, random)
        told = packed(random.choice(INTEGERS), "<q") if random.random() < 0.1 else None
        path.write_bytes((told or struct.pack("<Q", len(head))) + head + data[8 + size :])

    return mutate


# MATLAB


def elements(name: str) -> Mutation:
    """Return the mutation of a MAT-file's elements, which may be compressed again."""

    def mutate(folder: Path, random: Random) -> None:
        path = folder / name
        data = path.read_bytes()
        variables, at = [], 128
        while at < len(data):
            kind, size = struct.unpack("<II", data[at : at + 8])
            body = data[at + 8 : at + 8 + size]
            variables.append(zlib.decompress(body) if kind == 15 else data[at : at + 8 + size])
            at += 8 + size
        chosen = random.randrange(len(variables))
        variables[chosen] = _elements(variables[chosen], random)
        parts = [data[:128]]
        for variable in variables:
            if random.random() < 0.5:
                made = zlib.compress(variable, 1)
                variable = struct.pack("<II", 15, len(made)) + made
            parts.append(variable)
        path.write_bytes(b"".join(parts))

    return mutate


def _elements(data: bytes, random: Random) -> bytes:
    """Change a tag, or what is small, in one of a variable's elements."""
    tags: list[tuple[int, int]] = []

    def walk(at: int, end: int) -> None:
        while at + 8 <= end and len(tags) < 20_000:
            kind, size = struct.unpack("<II", data[at : at + 8])
            if kind >> 16:
                tags.append((at, 8))
                at += 8
                continue
            tags.append((at, 8 + size))
            if kind == 14:
                walk(at + 8, at + 8 + size)
            at += 8 + size + (-size % 8)

    walk(0, len(data))
    made = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 4))):
        at, size = random.choice(tags)
        way = random.randrange(5)
        if way == 0:
            where = at + random.choice((0, 4))
            made[where : where + 4] = packed(random.choice(INTEGERS), "<i")
        elif way < 3 and size < 200:
            where = at + 4 * random.randrange(size // 4)
            made[where : where + 4] = packed(random.choice(INTEGERS), "<i")
        elif way == 3 and size < 200:
            made[at : at + size] = mutated(bytes(made[at : at + size]), random)[:size].ljust(size)
        else:
            other, length = random.choice(tags)
            length = min(length, size, 4096)
            made[at : at + length] = made[other : other + length]
    return bytes(made)


def described(name: str) -> Mutation:
    """Return the mutation of the graph that a Keras file of HDF5 has."""

    def mutate(folder: Path, random: Random) -> None:
        import h5py

        with h5py.File(folder / name, "r+", libver="latest", locking=False) as file:
            config = file.attrs["model_config"]
            text = config.decode() if isinstance(config, bytes) else config
            file.attrs["model_config"] = json.dumps(changed(json.loads(text), random)).encode()

    return mutate

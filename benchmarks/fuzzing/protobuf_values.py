"""Mutations of protocol buffers by somebody who knows the wire format: all lengths fit again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from random import Random

from fuzzing.bytes_of_files import INTEGERS, mutated
from fuzzing.json_values import TEXTS
from fuzzing.kinds import Mutation

_LARGEST_MESSAGE = 1 << 26
_VALUES = 2048  # bytes of a leaf from which on they are values of a tensor


@dataclass
class _Field:
    number: int
    kind: int
    value: int | bytes | list[_Field]


def valid(name: str) -> Mutation:
    """Return the mutation of what a file below the folder says."""

    def mutate(folder: Path, random: Random) -> None:
        path = folder / name
        fields = _parsed(path.read_bytes(), 0)
        assert fields is not None
        for _ in range(random.choice((1, 1, 1, 2, 4))):
            _change(fields, random)
        path.write_bytes(_written(fields))

    return mutate


def _parsed(data: bytes, depth: int) -> list[_Field] | None:
    """Read a message; None where there is none."""
    found, at = [], 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if not 0 < number < 1000 or at < 0:
            return None
        value: int | bytes | list[_Field]
        if kind == 0:
            value, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            value, at = data[at : at + size], at + size
        elif kind == 2:
            size, at = _varint(data, at)
            value, at = data[at : at + size], at + size
            inner = _parsed(value, depth + 1) if size and depth < 8 else None
            value = inner if inner is not None and not value.isascii() else value
        else:
            return None
        if at < 0 or at > len(data):
            return None
        found.append(_Field(number, kind, value))
        if len(found) > 5000:
            return None
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(10):
        if at < 0 or at >= len(data):
            return 0, -1
        value |= (data[at] & 127) << (7 * shift)
        at += 1
        if data[at - 1] < 128:
            return value, at
    return 0, -1


def _number(value: int) -> bytes:
    value &= (1 << 64) - 1
    made = bytearray()
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    return bytes([*made, value])


def _written(fields: list[_Field]) -> bytes:
    parts = []
    for field in fields:
        parts.append(_number(field.number << 3 | field.kind))
        if isinstance(field.value, int):
            parts.append(_number(field.value))
            continue
        value = field.value if isinstance(field.value, bytes) else _written(field.value)
        parts.append(_number(len(value)) + value if field.kind == 2 else value)
    return b"".join(parts)


def _change(fields: list[_Field], random: Random) -> None:
    """Change one field, of any message."""
    while True:
        if not fields:
            return
        at = random.randrange(len(fields))
        field = fields[at]
        if isinstance(field.value, list) and random.random() < 0.85:
            fields = field.value
            continue
        break
    way = random.randrange(9)
    if way == 0:
        del fields[at]
    elif way == 1:
        few = isinstance(field.value, bytes | list) and len(_written([field])) > _VALUES
        fields[at:at] = [field] * (2 if few else random.choice((1, 3, 1000, 200_000)))
    elif way == 2:
        field.number = random.choice((1, 2, 5, 6, 7, 8, 9, 100, random.randrange(1, 200)))
    elif way == 3:
        fields[at] = _Field(field.number, 0, random.choice(INTEGERS))
    elif way == 4:
        inner = fields[at]
        for _ in range(random.choice((1, 5, 1000))):
            inner = _Field(field.number, 2, [inner])
            if len(_written([inner])) > _LARGEST_MESSAGE or random.random() < 0.01:
                break
        fields[at] = inner
    elif way == 5:
        text = random.choice(TEXTS).encode(errors="replace")
        fields[at] = _Field(field.number, 2, text * random.choice((1, 1, 100)))
    elif way == 6 and isinstance(field.value, bytes) and field.kind == 2:
        field.value = random.choice((
            field.value[: random.randrange(len(field.value) + 1)], field.value * 2,
            mutated(field.value, random), b"".join(map(_number, random.sample(INTEGERS, 4))),
        ))  # fmt: skip
    elif way == 7:
        random.shuffle(fields)
    elif isinstance(field.value, int):
        field.value = random.choice(INTEGERS)
    else:
        other = random.choice(fields)
        fields[at] = _Field(field.number, other.kind, other.value)

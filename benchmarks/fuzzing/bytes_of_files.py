"""Mutations of bytes, which know nothing of what they mean."""

from __future__ import annotations

import struct
from pathlib import Path
from random import Random

from fuzzing.kinds import Mutation

INTEGERS = tuple(
    sorted({
        *(0, -1, 1, 2, 7, 100, 255, 1000, 65535, 10**6, 10**9, 10**12),
        *(1 << bit for bit in range(4, 64)),
        *((1 << bit) - 1 for bit in (7, 8, 15, 16, 31, 32, 40, 62, 63, 64)),
        *(-(1 << bit) for bit in (7, 15, 31, 63)),
    })
)  # fmt: skip
"""Where sizes, counts and positions begin to be too large, or become negative."""

_FORMS = ("<b", "<h", "<i", "<q", ">i", ">q")
_BITS = {"b": 8, "h": 16, "i": 32, "q": 64}


def packed(number: int, form: str) -> bytes:
    """Return an integer in a form of ``struct``, cut to its bits."""
    bits = _BITS[form[-1]]
    number &= (1 << bits) - 1
    return struct.pack(form, number - (1 << bits) if number >> (bits - 1) else number)


def flipped(data: bytearray, random: Random) -> None:
    """Change up to eight bits, or bytes, in up to four places."""
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(data))
        data[at] = data[at] ^ (1 << random.randrange(8)) if random.random() < 0.5 else (
            random.randrange(256)
        )  # fmt: skip


def numbered(data: bytearray, random: Random) -> None:
    """Write an interesting integer somewhere, at a multiple of its size more often than not."""
    for _ in range(random.randint(1, 2)):
        form = random.choice(_FORMS)
        size = struct.calcsize(form)
        at = random.randrange(max(1, len(data) - size + 1))
        if random.random() < 0.7:
            at -= at % size
        data[at : at + size] = packed(random.choice(INTEGERS), form)[: len(data) - at]


def cut(data: bytearray, random: Random) -> None:
    """Cut the end off, a piece out, or add to the end."""
    at, length = random.randrange(len(data)), random.choice((1, 4, 8, 64, 1024, len(data)))
    way = random.randrange(3)
    if way == 0:
        del data[at:]
    elif way == 1:
        del data[at : at + length]
    else:
        data += bytes(min(length, 1 << 20))


def swapped(data: bytearray, random: Random) -> None:
    """Swap two blocks, or write one over another."""
    size = min(random.choice((4, 8, 16, 64, 512)), len(data))
    one, two = (random.randrange(len(data) - size + 1) for _ in range(2))
    first, second = data[one : one + size], data[two : two + size]
    data[two : two + size] = first
    if random.random() < 0.5:
        data[one : one + size] = second


def filled(data: bytearray, random: Random) -> None:
    """Fill a block with one byte."""
    at, length = random.randrange(len(data)), random.choice((2, 8, 32, 256))
    length = min(length, len(data) - at)
    data[at : at + length] = bytes([random.choice((0, 255, 0x41, 0x80))]) * length


WAYS = (flipped, flipped, numbered, numbered, cut, swapped, filled)


def mutated(data: bytes, random: Random) -> bytes:
    """Return data damaged in one to three ways."""
    found = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        if found:
            random.choice(WAYS)(found, random)
    return bytes(found)


def plain(name: str) -> Mutation:
    """Return the mutation of the bytes of a file below the folder."""

    def mutate(folder: Path, random: Random) -> None:
        path = folder / name
        path.write_bytes(mutated(path.read_bytes(), random))

    return mutate

"""The wire format of protocol buffers, read in place.

A message is a sequence of fields, each a key (field number and wire type in one variable-length
integer) and a value. Nested messages are byte ranges, so a file of hundreds of megabytes can be
walked without its values being touched.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from mmap import mmap
from typing import NamedTuple

Buffer = bytes | mmap

_VARINT = 0
_LONGEST = 10  # bytes of a variable-length integer
_MOST = 20_000  # fields of one message; a VGG's graph has some 200


class Field(NamedTuple):
    """One field of a message.

    Attributes
    ----------
    number : int
        As in the ``.proto``.
    value : int or None
        Of a variable-length integer; None for values that have a place instead.
    start, stop : int
        Where the value lies in the buffer.
    """

    number: int
    value: int | None
    start: int
    stop: int


def fields(data: Buffer, start: int, stop: int) -> Iterator[Field]:
    """Walk over the fields of a message.

    Parameters
    ----------
    data : bytes or mmap
        What holds it.
    start, stop : int
        Where it lies.

    Raises
    ------
    ValueError
        The bytes there are no message, or one of more fields than anybody writes.
    """
    at = start
    for count in itertools.count():
        if at >= stop:
            return
        if count == _MOST:
            raise ValueError(f"it has more than {_MOST:,} fields near byte {at}.")
        key, at = _varint(data, at, stop)
        number, kind = key >> 3, key & 7
        if not number:
            raise ValueError(f"there is no message at byte {at}.")
        value = None
        if kind == _VARINT:
            begin = at
            value, at = _varint(data, at, stop)
        else:
            length, begin = _length(data, kind, at, stop)
            at = begin + length
        if at > stop:
            raise ValueError(f"it is truncated or damaged near byte {begin}.")
        yield Field(number, value, begin, at)


def varints(data: Buffer, field: Field, most: int) -> list[int]:
    """Return the integers of a repeated field's part, packed or not.

    Raises
    ------
    ValueError
        The bytes there are none, or more than `most`.
    """
    if field.value is not None:
        return [field.value]
    numbers, at = [], field.start
    while at < field.stop:
        value, at = _varint(data, at, field.stop)
        numbers.append(value)
        if len(numbers) > most:
            raise ValueError(f"it has a list of more than {most:,} numbers at byte {at}.")
    return numbers


def _varint(data: Buffer, at: int, stop: int) -> tuple[int, int]:
    value = 0
    for shift in range(_LONGEST):
        if at >= stop:
            raise ValueError("it is truncated.")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            return value, at
    raise ValueError(f"there is no integer at byte {at}.")


def _length(data: Buffer, kind: int, at: int, stop: int) -> tuple[int, int]:
    match kind:
        case 2:
            return _varint(data, at, stop)
        case 1:
            return 8, at
        case 5:
            return 4, at
        case _:
            raise ValueError(f"there is no field at byte {at}.")

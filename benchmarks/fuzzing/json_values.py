"""Mutations of values as JSON has them: others of other types, sizes and signs, more and fewer."""

from __future__ import annotations

from random import Random
from typing import Any

from fuzzing.bytes_of_files import INTEGERS

TEXTS = (
    *("", " ", "../../etc/passwd", "/etc/passwd", "a\0b", "\udcff", "\x1b[2J", "=1+1", "\u202e"),
    *("nan", "1e400", "a" * 5000, "x/" * 2000, "{}", "relu7", "none", "float16", "float64"),
)
_KEYS = ("", "unknown", "format", "layers", "relu7", "pool5", "a\0b", "../x")


def value(random: Random) -> Any:
    """Return anything."""
    way = random.randrange(8)
    if way < 3:
        return random.choice(INTEGERS)
    if way == 3:
        return random.choice((0.5, -0.0, 1e308, -1e308, float("nan"), float("inf"), True, False))
    if way == 4:
        return random.choice(TEXTS)
    if way == 5:
        return random.choice((None, [], {}, [[]], [None], {"": None}))
    if way == 6:
        return [random.choice(INTEGERS)] * random.choice((1, 3, 1000))
    nested: Any = []
    for _ in range(random.choice((5, 200, 900))):
        nested = [nested] if random.random() < 0.5 else {"a": nested}
    return nested


def changed(data: Any, random: Random) -> Any:
    """Return JSON in which one value, anywhere, is another; `data` may be changed."""
    places: list[tuple[Any, Any]] = []

    def walk(held: Any) -> None:
        for key in list(held) if isinstance(held, dict) else range(len(held)):
            places.append((held, key))
            if isinstance(held[key], dict | list):
                walk(held[key])

    if not isinstance(data, dict | list) or not data or random.random() < 0.02:
        return value(random)
    walk(data)
    for _ in range(random.choice((1, 1, 2))):
        held, key = random.choice(places)
        way = random.randrange(10)
        if way == 0 and isinstance(held, dict):
            held.pop(key, None)
        elif way == 1 and isinstance(held, dict):
            held[random.choice(_KEYS)] = value(random)
        elif way == 2 and isinstance(held, list):
            held.append(value(random))
        elif way == 3 and isinstance(held, list):
            held *= random.choice((0, 2, 100))
        elif isinstance(held, dict) or key < len(held):
            held[key] = value(random)
    return data

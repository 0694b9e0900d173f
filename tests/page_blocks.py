"""Blocks of code in the documentation, and how tests run them in their own process."""

from __future__ import annotations

import re
import shlex
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import click
from commands import cli

from vggfeat.cli import main

DOCS = Path(__file__).parent.parent / "docs"
_FENCED = r"^ *```(?P<kind>python|console|bash|shell)\n(?P<text>(?s:.*?))^ *```"
# Commands that stand as indented code, and the examples of `vggfeat --help`.
_LINES = r"(?P<lines>(?:^ {4}(?:vggfeat|python|pip|curl) .*\n(?:(?<=\\\n).*\n)*)+)"
_BLOCK = re.compile(f"{_FENCED}|{_LINES}", re.MULTILINE)
_TYPED = re.compile(r"^ *\$ (.*\n(?:(?<=\\\n).*\n)*)", re.MULTILINE)

_TINY: dict[str, Any] = {"model": "vgg16-tiny"}
_STAND_IN = {
    **dict.fromkeys(("extract", "plot", "finetune", "classify"), _TINY),
    "evaluate": {"retrieval": _TINY},
}


class Block(NamedTuple):
    """Code on a page: one text of Python or of a script, or the commands of a console."""

    kind: str
    parts: tuple[str, ...]


def blocks(page: str) -> Iterator[Block]:
    """Give the blocks of a page in their order, without what programs print."""
    for found in _BLOCK.finditer(page):
        text = found["text"] or found["lines"]
        if found["kind"] == "python":
            yield Block("python", (text,))
        elif text.startswith("#!"):
            yield Block("script", (text,))
        else:
            yield Block("console", tuple(_commands("".join(_TYPED.findall(text)) or text)))


def _commands(text: str) -> Iterator[str]:
    for line in re.sub(r"\s*\\\n\s*", " ", text).splitlines():
        for command in re.sub(r"(^|\s)#\s.*", "", line).split(" && "):
            if command.strip():
                yield command.strip()


def run_python(text: str, names: dict[str, Any], page: str) -> None:
    """Run a block as it stands, with the small network in the place of VGG-16."""
    text = text.replace('"vgg16", weights="imagenet"', '"vgg16"').replace('"vgg16"', '"vgg16-tiny"')
    exec(compile(text, page, "exec"), names)


def run_command(line: str) -> None:
    """Run what is typed, as it stands.

    Where it names no network, that is the small one whose weights come with the package, in the
    place of VGG-16, whose weights are a download; scales are divided by 4, as inputs then are.
    """
    if "--model" not in line:
        line = re.sub(r"(?<=--scales )[\d,]+", _quarter, line)
    program, *words = (one for word in shlex.split(line) for one in _expanded(word))
    if words[:2] == ["-m", "zipfile"]:
        zipfile.main(words[2:])
    elif words[:1] == ["-c"]:
        exec(compile(words[1], line, "exec"), {})
    elif words[0] == "serve":  # a server runs until it is stopped: its arguments are right
        serve = main.get_command(click.Context(main), "serve")
        serve.make_context("serve", words[1:])
    else:
        assert program == "vggfeat", line
        with patch.dict(main.context_settings, default_map=_STAND_IN):
            done = cli(*words)
        assert done.returncode == 0, f"{line}\n{done.stderr}"


def _expanded(word: str) -> list[str]:
    """Return what a shell makes of `*.jpg`."""
    found = sorted(Path().glob(word)) if word.startswith("*.") else []
    return [str(one) for one in found] or [word]


def _quarter(scales: re.Match[str]) -> str:
    return ",".join(str(int(side) // 4) for side in scales[0].split(","))


def made_by(commands: Sequence[str]) -> set[str]:
    """Return stores and weights that commands make from the beginning, so that none is given."""
    made: set[str] = set()
    named: set[str] = set()
    for line in commands:
        words = line.split()
        plain = [word for word in words if not word.startswith("-")]
        chosen = not {"--layers", "--model"}.isdisjoint(words)  # else it goes on with what is there
        begins = words[1:2] == ["finetune"] or (words[1:2] == ["extract"] and chosen)
        if begins:
            last = next((at for at, word in enumerate(words) if word.startswith("-")), len(words))
            target = words[last - 1]
            if target not in named:
                made.add(target)
        named.update(plain)
    return made

"""Commands that documents show are commands that there are; README's first ones run in order."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from vggfeat.cli import main

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "PACKAGE.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands_of(text: str) -> list[list[str]]:
    """Return the words of all `vggfeat ...` lines in a page's blocks of code, without comments."""
    found = []
    indented = "".join(re.findall(r"^ {4}(?:\$ )?vggfeat .*\n(?:(?<=\\\n).*\n)*", text, flags=re.M))
    for block in [indented, *re.findall(r"^ *```\w*\n(.*?)^ *```", text, flags=re.M | re.S)]:
        lines = re.sub(r"\s*\\\n\s*", " ", block).splitlines()
        for line in lines:
            shown = re.fullmatch(r"\s*\$? ?(?:\.venv/bin/)?(vggfeat (?!\[).*)", line)
            if shown and "..." not in shown[1]:
                found += split(shown[1])
    return found


def split(line: str) -> list[list[str]]:
    """Return the words of each command of a line, as a shell cuts it."""
    line = re.sub(r"\s#(\s.*|)$|\s\s.*$", "", line)  # what is said of it
    reader = shlex.shlex(re.sub(r"\$\w+", "7", line), posix=True, punctuation_chars=True)
    reader.whitespace_split, reader.commenters = True, ""
    commands: list[list[str]] = [[]]
    for word in reader:
        if word in ("&&", ";", "|", "&", ">"):
            commands.append([])
        else:
            commands[-1].append(word)
    return [one[1:] for one in commands if one[:1] == ["vggfeat"]]


def parsed(words: list[str]) -> click.Context:
    """Let click read the words of a command, without running it; raises what is wrong."""
    command: click.Command = main
    context, rest = main.make_context("vggfeat", list(words)), []
    while isinstance(command, click.Group):
        rest = [*context._protected_args, *context.args]
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)
    return context


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_that_pages_show_are_read_as_they_stand(page):
    for words in commands_of(page.read_text()):
        if not {"--help", "--version"} & {*words}:
            try:
                parsed(words)
            except click.ClickException as error:
                pytest.fail(f"{page.name}: vggfeat {' '.join(words)}: {error.format_message()}")

"""Write docs/commands.md from the help texts of the program, or check that it is up to date.

python docs/generate.py [--check]
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from vggfeat.cli import main

TARGET = Path(__file__).with_name("commands.md")


def sections(command: click.Command, name: str) -> list[str]:
    """Return the help of a command and of those below it, as Markdown."""
    context = click.Context(command, info_name=name, terminal_width=96, max_content_width=96)
    text = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
    found = [f"## {name}\n\n```text\n{text}\n```\n"]
    if isinstance(command, click.Group):
        alike: dict[int, list[click.Command]] = {}  # with the same options: told once
        for sub in command.list_commands(context):
            child = command.get_command(context, sub)
            assert child is not None
            alike.setdefault(id(child.params), []).append(child)
        for child, *others in alike.values():
            names = "|".join(str(one.name) for one in (child, *others))
            found += sections(child, f"{name} {names}")
    return found


def page() -> str:
    """Return the whole reference."""
    head = (
        "# Commands\n\nMade by `make docs` from `vggfeat --help`; do not edit. Examples take "
        "[these files](index.md#what-examples-take-as-given) as given.\n"
    )
    return "\n".join([head, *sections(main, "vggfeat")])


if __name__ == "__main__":
    if "--check" in sys.argv:
        if not TARGET.exists() or TARGET.read_text() != page():
            sys.exit("docs/commands.md is out of date; run `make docs`.")
    else:
        TARGET.write_text(page())

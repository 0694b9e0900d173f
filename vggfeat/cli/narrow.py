"""Help texts in a narrow window: beside other windows, or on a phone."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable

import click

_NARROW = 60  # columns below which options and what they do stand one below the other
_LEAST = 24
_INDENT = 4


class HelpFormatter(click.HelpFormatter):
    """Click's, which sets nothing narrower than 50 columns, and does not wrap examples."""

    def __init__(
        self, indent_increment: int = 2, width: int | None = None, max_width: int | None = None
    ) -> None:
        columns = shutil.get_terminal_size().columns
        self._narrow = width is None and columns < _NARROW
        if self._narrow:
            width = max(columns - 1, _LEAST)
        super().__init__(indent_increment, width, max_width)

    def write_dl(
        self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2
    ) -> None:
        """Write a list of terms, each above its text where there is no room beside it."""
        if not self._narrow:
            super().write_dl(rows, col_max, col_spacing)
            return
        inside = " " * (self.current_indent + _INDENT)
        for term, text in rows:
            self._write_line(term, "|", after="")
            if text:
                wrapped = click.wrap_text(text, max(self.width, _LEAST), inside, inside)
                self.write(f"{wrapped}\n")

    def write_text(self, text: str) -> None:
        """Write paragraphs; in a narrow window also wrap the lines that are to stay lines."""
        if not self._narrow or "\b" not in text:
            super().write_text(text)
            return
        for number, paragraph in enumerate(re.split(r"\n{2,}", text.strip("\n"))):
            if number:
                self.write("\n")
            if paragraph.startswith("\b\n"):
                for line in paragraph.removeprefix("\b\n").splitlines():
                    self._write_example(line)
            else:
                super().write_text(paragraph)

    def _write_example(self, line: str) -> None:
        """Write a command, with what is said of it, if anything, on the lines below."""
        command, *said = re.split(r" {2,}(?=\S)", line.strip())
        before = self.current_indent
        self.current_indent += len(line) - len(line.lstrip())
        self._write_line(command, " ", after=" \\")
        for one in said:
            inside = " " * (self.current_indent + _INDENT)
            self.write(f"{click.wrap_text(one, self.width, inside, inside)}\n")
        self.current_indent = before

    def _write_line(self, text: str, at: str, after: str) -> None:
        """Write one line, broken behind `at` where it is too long; `after` ends a broken line."""
        start, more = " " * self.current_indent, " " * (self.current_indent + _INDENT)
        line = start
        parts = re.findall(f"[^{at}]+[{at}]?|[{at}]", text)
        for number, part in enumerate(parts, start=1):
            room = self.width - (len(after) if number < len(parts) else 0)
            if len(line) + len(part.rstrip()) > room and line.strip():
                self.write(f"{line.rstrip()}{after}\n")
                line = more
            line += part
        self.write(f"{line.rstrip()}\n")


class Context(click.Context):
    """A command's context, which makes its help."""

    formatter_class = HelpFormatter


def readable(command: click.Command) -> click.Command:
    """Let a command, and those below it, set their help so."""
    command.context_class = Context
    if isinstance(command, click.Group):
        for below in command.commands.values():
            readable(below)
    return command

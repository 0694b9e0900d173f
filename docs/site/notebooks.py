"""The notebooks of docs/notebooks as pages, with what their cells show.

Cells run in order in this process, as Python's own prompt would run them: what a cell prints, and
the value of its last line. No kernel is started, which takes longer than most of them.
"""

from __future__ import annotations

import ast
import base64
import html
import io
import json
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple


class Cell(NamedTuple):
    """A cell, and what it showed as HTML."""

    markdown: bool
    source: str
    shown: tuple[str, ...] = ()


def cells(notebook: Path) -> list[Cell]:
    """Read the cells of a notebook."""
    found = json.loads(notebook.read_text())["cells"]
    return [Cell(one["cell_type"] == "markdown", "".join(one["source"])) for one in found]


def executed(notebook: Path, *, both: bool = False) -> Iterator[Cell]:
    """Give the cells of a notebook, each after it has run; an error names the cell.

    With `both`, figures are drawn dark on light and light on dark, and the site shows one of them.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate(cells(notebook), 1):
        if cell.markdown:
            yield cell
        else:
            place = f"{notebook.name}, cell {number}"
            yield cell._replace(shown=_run(cell.source, names, place, both))


def page(found: Iterator[Cell] | list[Cell], name: str) -> str:
    """Return cells as Markdown, with where the notebook itself is."""
    parts = []
    for cell in found:
        if cell.markdown:
            parts.append(cell.source)
        else:
            parts.append(f"```python\n{cell.source}\n```")
            parts += [f'<div class="shown">{one}</div>' for one in cell.shown]
    heading, *rest = parts
    link = f"This page is a notebook: [{name}]({name}). Nothing in it needs the network."
    return "\n\n".join([heading, link, *rest]) + "\n"


def _run(source: str, names: dict[str, Any], place: str, both: bool) -> tuple[str, ...]:
    body = ast.parse(source, place)
    last = body.body.pop() if body.body and isinstance(body.body[-1], ast.Expr) else None
    printed, values = io.StringIO(), []
    with redirect_stdout(printed), redirect_stderr(io.StringIO()):
        exec(compile(body, place, "exec"), names)
        if isinstance(last, ast.Expr):
            for one in (last.value, *(_dark(last.value) if both else ())):
                values.append(eval(compile(ast.Expression(one), place, "eval"), names))
    text = printed.getvalue().rstrip()
    shown = [f"<pre>{_escaped(text)}</pre>"] if text else []
    tones = ("#only-light", "#only-dark") if len(values) > 1 else ("",)
    parts = [_shown(one, tone) for one, tone in zip(values, tones, strict=False) if one is not None]
    return (*shown, *(["".join(parts)] if parts else []))


def _dark(value: ast.expr) -> list[ast.expr]:
    """Return a call that draws a figure, as one that draws it light on dark."""
    if not isinstance(value, ast.Call):
        return []
    name = ast.unparse(value.func).rpartition(".")[2]
    if name != "figure" and not name.startswith("draw_"):
        return []
    dark = ast.keyword("dark", ast.Constant(True))
    call = ast.Call(value.func, value.args, [*value.keywords, dark])
    return [ast.fix_missing_locations(ast.copy_location(call, value))]


def _shown(value: Any, tone: str = "") -> str:
    """Return a value as a notebook shows it: as a picture, as HTML, or as text.

    A picture whose address ends in `#only-dark` is shown where the site is dark.
    """
    if hasattr(value, "_repr_png_"):
        png, size = value._repr_png_()
        uri = base64.b64encode(png).decode()
        return f'<img src="data:image/png;base64,{uri}{tone}" alt="figure" width="{size["width"]}">'
    made = value._repr_html_() if hasattr(value, "_repr_html_") else None
    # A blank line would end the HTML within Markdown.
    return (
        "\n".join(filter(str.strip, made.split("\n")))
        if made
        else (f"<pre>{_escaped(repr(value))}</pre>")
    )


def _escaped(text: str) -> str:
    return html.escape(text).replace("\n\n", "\n&#8203;\n")

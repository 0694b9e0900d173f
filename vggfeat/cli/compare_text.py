"""What ``vggfeat compare`` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vggfeat.cli.output import print_json, printable, table

if TYPE_CHECKING:
    from vggfeat.representations import Comparison, Fits, Source


def _source_lines(sources: tuple[Source, ...]) -> list[str]:
    lines = []
    for number, one in enumerate(sources, start=1):
        left = f", {one.left_out:,} left out that others lack" if one.left_out else ""
        prefix = f"({number}) " if len(sources) > 1 else ""
        lines.append(f"{prefix}{printable(one.path)}: {one.made}{left}")
    return lines


def print_matrix(found: Comparison, picture: str | None, as_json: bool) -> None:
    """Print how alike each two representations are."""
    from vggfeat.report.comparison import sides, similarity_name

    if as_json:
        print_json(found.to_json() | ({"picture": picture} if picture else {}))
        return
    click.echo("\n".join(_source_lines(found.sources)))
    noun = "classes" if found.by == "class" else "images"
    batch = found.settings["batch"]
    how = f", in batches of {batch:,}" if batch else ""
    click.echo(f"{similarity_name(found.how)}, {found.images:,} {noun}{how}\n")
    rows, columns = sides(found)
    several = len(found.sources) > 1

    def named(number: int) -> str:
        one = found.titles[number]
        return f"({one.source + 1}) {one.layer}" if several else one.layer

    header = ["", *(named(number) for number in columns)]
    cells = [[named(row), *(_cell(found, row, column) for column in columns)] for row in rows]
    click.echo(_matrix_table(cells, header))
    if found.low is not None:
        click.echo("\n[95 % intervals for other images of the same kind]")
    if picture:
        click.echo(f"Picture: {printable(picture)}")


def _matrix_table(cells: list[list[str]], header: list[str]) -> str:
    """Lay out a matrix; titles may hold spaces, so that columns are aligned here."""
    rows = [header, *cells]
    widths = [max(len(printable(row[i])) for row in rows) for i in range(len(header))]
    return "\n".join(
        "  ".join(
            printable(cell).ljust(width) if i == 0 else printable(cell).rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _cell(found: Comparison, row: int, column: int) -> str:
    value = found.values[row, column]
    text = _number(value)
    if found.low is None or found.high is None or row == column:
        return text
    return f"{text} [{_number(found.low[row, column])}, {_number(found.high[row, column])}]"


def _number(value: float) -> str:
    return "-" if value != value else f"{value:.3f}"


def _p(value: float) -> str:
    return "-" if value != value else f"{value:.2g}" if value >= 0.001 else "<0.001"


def print_fits(found: Fits, picture: str | None, as_json: bool) -> None:
    """Print how well representations account for a target."""
    from vggfeat.report.comparison import similarity_name

    if as_json:
        print_json(found.to_json() | ({"picture": picture} if picture else {}))
        return
    click.echo("\n".join(_source_lines(found.sources)))
    noun = "classes" if found.by == "class" else "images"
    click.echo(
        f"{similarity_name(found.how)} with ({len(found.sources)}), {len(found.targets)} of it; "
        f"{found.images:,} {noun}"
    )
    if found.ceiling:
        low, high = found.ceiling
        click.echo(f"noise ceiling: {low:.3f} to {high:.3f}")
    best, apart = found.best, found.from_best()
    rows = []
    for number, one in enumerate(found.layers):
        mark = "*" if number == best else " " if apart[number] < 0.05 else "~"
        name = one.title.layer
        if len(found.sources) > 2:
            name = f"({one.title.source + 1}) {name}"
        rows.append(
            [
                name, f"{_number(one.value)}{mark}", f"[{_number(one.low)}, {_number(one.high)}]",
                "" if number == best else _p(apart[number]), _p(one.p_ceiling), _p(one.p_above),
            ]
        )  # fmt: skip
    header = ["layer", "score", "interval", "p(best)", "p(ceiling)", "p(>0)"]
    click.echo("\n" + table(rows, header, right=" ".join(header[1:])))
    units = "" if found.units == found.images else f", whole groups ({found.units:,})"
    over = {"images": f"other images{units}", "subjects": "other subjects",
            "both": f"other images{units} and subjects"}[found.over]  # fmt: skip
    corrected = {"holm": "Holm's correction", "bh": "Benjamini and Hochberg's correction",
                 "none": "no correction"}[found.correction]  # fmt: skip
    click.echo(
        f"\n* the best; ~ not told apart from it (p >= 0.05). Intervals of 95 % and p-values hold "
        f"for {over}; {corrected}"
    )
    if picture:
        click.echo(f"Picture: {printable(picture)}")

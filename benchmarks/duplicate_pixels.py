"""Verify copies by pixels: how many of each kind are recognised, and what is taken for one wrongly.

Each photo, or page of text, is compared with its copies, with itself slightly altered, and with two
others: the next, and that of all whose small grey version is most like it. Thresholds were chosen
on the first half of the pictures (`--part 0`); the second half (`--part 1`) judges.

    python benchmarks/duplicate_pixels.py caltech101 --count 100
    python benchmarks/duplicate_pixels.py --count 50
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

import click
import numpy as np
from duplicate_versions import ALTERED, COPIES, ORIGINAL, pages, photographs, write_versions

from vggfeat.cli.output import table
from vggfeat.duplicates.aligning import Picture
from vggfeat.duplicates.verifying import compared
from vggfeat.images import decode


@click.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path), required=False)
@click.option("--count", default=100, show_default=True, help="Pictures.")
@click.option("--part", default=1, show_default=True, help="Half of the pictures.")
def main(folder: Path | None, count: int, part: int) -> None:
    """Run the benchmark on photos of FOLDER, or on pages of text."""
    samples = pages(count, part) if folder is None else photographs(folder, count, part)
    outcomes: dict[str, Counter[str]] = defaultdict(Counter)
    pairs = 0
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary, "versions")
        count = write_versions(samples, work)
        names = [f"{number:05d}.jpg" for number in range(count)]
        alike = most_alike([work / ORIGINAL / name for name in names])
        start = time.process_time()
        for number, name in enumerate(names):
            first = Picture(decode(work / ORIGINAL / name))
            others = {kind: work / kind / name for kind in (*COPIES, ALTERED)}
            others["next"] = work / ORIGINAL / names[(number + 1) % count]
            others["most alike"] = work / ORIGINAL / names[alike[number]]
            for kind, path in others.items():
                found = compared(first, Picture(decode(path)))
                outcomes[kind][found.outcome] += 1
                pairs += 1
                if found.outcome == "copy" and kind not in COPIES:
                    click.echo(f"taken for a copy: {name} and {path.relative_to(work)}", err=True)
        took = time.process_time() - start
    columns = ("copy", "unsure", "different")
    rows = [[kind, *(str(counts[name]) for name in columns)] for kind, counts in outcomes.items()]
    click.echo(table(rows, ["kind", *columns], right="copy unsure different"))
    click.echo(f"{pairs / took:.1f} pairs a second of one core, decoding included")


def most_alike(files: list[Path]) -> list[int]:
    """Return, for each picture, the other one whose small grey version is most like it."""
    small = np.stack([np.asarray(decode(f).convert("L").resize((32, 32)), float) for f in files])
    small = small.reshape(len(files), -1)
    small -= small.mean(axis=1, keepdims=True)
    small /= np.linalg.norm(small, axis=1, keepdims=True) + 1e-9
    scores = small @ small.T
    np.fill_diagonal(scores, -2)
    return [int(one) for one in scores.argmax(axis=1)]


if __name__ == "__main__":
    main()

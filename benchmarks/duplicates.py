"""Find copies by features and verify them by pixels, as `vggfeat duplicates` does: what is found.

Each photo, or page of text, is there eight times: as it is, in six kinds of copies, and once
slightly altered, which is no copy (duplicate_versions.py). A copy of a kind is *found* where it is
verified to be one in a group with a file of the same number, and *shown* where it is at least in
such a group as likely. *Wrong* are images of another number, or altered ones, that are called a
copy of what they are not; *moved* is what `--move-to` would move, and how much of that wrongly.

    python benchmarks/duplicates.py caltech101 --count 200
    python benchmarks/duplicates.py caltech101 --count 200 --model vgg16 \
        --weights authors.safetensors --layers relu4_3,pool5
    python benchmarks/duplicates.py --count 200
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
from duplicate_versions import ALTERED, COPIES, pages, photographs, write_versions

from vggfeat import FeatureExtractor, FeatureStore, SimilarityIndex
from vggfeat.cli.output import table
from vggfeat.duplicates import Duplicates, find_duplicates
from vggfeat.duplicates.candidates import SHARE, calibrated


@click.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path), required=False)
@click.option("--count", default=200, show_default=True, help="Pictures.")
@click.option("--part", default=1, show_default=True,
              help="Half of the pictures; thresholds were chosen on 0.")  # fmt: skip
@click.option("--layers", default="pool4,relu7", show_default=True)
@click.option("--model", default="vgg16-tiny", show_default=True)
@click.option("--weights", help="[default: those of the model]")
@click.option("--share", default=SHARE, show_default=True,
              help="What is taken of the usual distance.")  # fmt: skip
@click.option("--flip", is_flag=True, help="Average features with those of the mirror image.")
@click.option("--work", type=click.Path(path_type=Path), help="Keep pictures and stores here.")
def main(
    folder: Path | None,
    count: int,
    part: int,
    layers: str,
    model: str,
    weights: str | None,
    share: float,
    flip: bool,
    work: Path | None,
) -> None:
    """Run the benchmark on photos of FOLDER, or on pages of text."""
    given: dict[str, Any] = {"weights": weights} if weights else {}
    rows = []
    with ExitStack() as stack:
        place = work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        pictures, path = place / "photos", place / f"{model}{'-flip' * flip}.h5"
        if not pictures.exists():
            samples = pages(count, part) if folder is None else photographs(folder, count, part)
            write_versions(samples, pictures)
        extractor = FeatureExtractor(model, layers=layers, flip=flip, device="cpu", **given)
        extractor.extract(pictures, path)
        with FeatureStore(path) as store:
            for layer in store.layers:
                index = SimilarityIndex.build(store, layer, kind="flat")
                start = time.process_time()
                found = find_duplicates(index, calibrated(index, share).score)
                rows.append([layer, *row_of(found, len(index), time.process_time() - start)])
    header = ["layer", "cosine", *COPIES, "all copies", "wrong", "moved", "pairs", "CPU s"]
    click.echo(table(rows, header))
    click.echo("kinds: % verified (% verified or shown as likely); moved: images (wrongly)")


def row_of(found: Duplicates, images: int, seconds: float) -> list[str]:
    """Return the cells of a table for what was found among so many images."""
    verified: Counter[str] = Counter()
    shown: Counter[str] = Counter()
    wrong = moved = moved_wrongly = 0
    for group in found.groups:
        best, *others = group.images
        kind_of_best, number = best.path.split("/")
        likely = {one.path for one in others if one.verdict == "likely"}
        same = [one for one in group.images if one.path.split("/")[1] == number]
        for one in same:
            kind = one.path.split("/")[0]
            fellows = [each for each in same if each is not one and ALTERED not in each.path]
            shown[kind] += bool(fellows)
            verified[kind] += one.path not in likely and any(f.path not in likely for f in fellows)
        for one in others:
            kind, its_number = one.path.split("/")
            false = its_number != number or (kind == ALTERED) != (kind_of_best == ALTERED)
            wrong += false and one.verdict != "likely"
            moved += one.spare
            moved_wrongly += false and one.spare
    of = images // (len(COPIES) + 2)
    cells = [f"{100 * verified[kind] / of:.1f} ({100 * shown[kind] / of:.1f})" for kind in COPIES]
    total = [
        sum(counts[kind] for kind in COPIES) / len(COPIES) / of for counts in (verified, shown)
    ]
    return [
        f"{found.threshold.score:.3f}",
        *cells,
        f"{100 * total[0]:.1f} ({100 * total[1]:.1f})",
        str(wrong),
        f"{moved} ({moved_wrongly})",
        f"{found.compared:,}",
        f"{seconds:.0f}",
    ]


if __name__ == "__main__":
    main()

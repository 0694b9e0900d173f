"""Find photos that were saved again, resized, cropped and mirrored: precision and recall of each.

Each photo is there five times: as it is, saved again as JPEG of quality 50, resized to half, with
5 % of width and height cut off around, and mirrored. Precision and recall are over pairs of an
original and a version of the kind, original with original for "none": a pair is right where both
are the same photo. So a photo that the folder itself holds twice counts as an error. The last
rows are over all pairs, and over the images that `vggfeat duplicates --move-to` would move.

The threshold is calibrated twice: on the originals alone, and on all versions together, where
every image has four copies.

    python benchmarks/duplicates.py ~/photos --photos 500
    python benchmarks/duplicates.py ~/photos --photos 500 --flip
    python benchmarks/duplicates.py
"""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image, ImageDraw, ImageOps

from vggfeat import FeatureExtractor, FeatureStore, SimilarityIndex
from vggfeat.cli.output import table
from vggfeat.evaluation.duplicates import find_duplicates
from vggfeat.files import IMAGE_EXTENSIONS
from vggfeat.images import decode
from vggfeat.index.duplicates import SHARE, calibrated

NONE = "none"


def cropped(image: Image.Image) -> Image.Image:
    """Cut 2.5 % off each side."""
    left, top = round(0.025 * image.width), round(0.025 * image.height)
    return image.crop((left, top, image.width - left, image.height - top))


def halved(image: Image.Image) -> Image.Image:
    """Resize to half of width and height."""
    return image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)


VERSIONS: dict[str, tuple[Callable[[Image.Image], Image.Image], int]] = {
    NONE: (lambda image: image, 95),
    "saved": (lambda image: image, 50),
    "resized": (halved, 90),
    "cropped": (cropped, 90),
    "mirrored": (ImageOps.mirror, 90),
}
"""What is done to a photo, and the quality that the JPEG is saved with."""


def made_up(count: int) -> Iterator[Image.Image]:
    """Draw pictures of smooth grounds with a dozen shapes on them."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        coarse = rng.integers(0, 256, (4, 5, 3), np.uint8)
        size = (int(rng.integers(240, 400)), int(rng.integers(200, 320)))
        image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
        draw = ImageDraw.Draw(image)
        for _ in range(12):
            x, y = rng.integers(0, size[0]), rng.integers(0, size[1])
            w, h = rng.integers(10, 120, 2)
            shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
            shape((x, y, x + w, y + h), tuple(rng.integers(0, 256, 3).tolist()))
        yield image


def photographs(folder: Path, count: int) -> Iterator[Image.Image]:
    """Give some images of a folder and those below it, chosen at random."""
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in IMAGE_EXTENSIONS)
    for file in sorted(random.Random(0).sample(files, min(count, len(files)))):
        yield decode(file)


def write_versions(images: Iterator[Image.Image], folder: Path) -> None:
    """Save each image in each version, as ``version/number.jpg``."""
    for name in VERSIONS:
        (folder / name).mkdir(parents=True)
    for number, image in enumerate(images):
        for name, (change, quality) in VERSIONS.items():
            change(image).save(folder / name / f"{number:05d}.jpg", quality=quality)


def rates(index: SimilarityIndex, threshold: float) -> dict[str, dict[str, float]]:
    """Return precision and recall of pairs by version, and of all that would be moved."""
    paths = [index.path(place) for place in range(len(index.vectors))]
    kind = np.array([path.split("/")[0] for path in paths])
    photo = np.array([path.split("/")[1] for path in paths])
    found = index.range_search(index.vectors, threshold, prepared=True)
    left = np.repeat(np.arange(len(paths)), [len(places) for places, _ in found])
    right = np.concatenate([places for places, _ in found])
    left, right = left[left != right], right[left != right]
    same = photo[left] == photo[right]
    count = len(set(photo.tolist()))
    told = {}
    for name in VERSIONS:
        asked = (kind[left] == NONE) & (kind[right] == name)
        told[name] = _rates(int(same[asked].sum()), int(asked.sum()), 0 if name == NONE else count)
    possible = count * len(VERSIONS) * (len(VERSIONS) - 1)
    told["all pairs"] = _rates(int(same.sum()), len(same), possible)
    moved = [
        (group.images[0].path, one.path)
        for group in find_duplicates(index, threshold).groups
        for one in group.spare
    ]
    right_ones = sum(best.split("/")[1] == one.split("/")[1] for best, one in moved)
    told["moved"] = _rates(right_ones, len(moved), count * (len(VERSIONS) - 1))
    return told


def _rates(right: int, found: int, possible: int) -> dict[str, float]:
    return {"right": right, "found": found, "possible": possible}


@click.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path), required=False)
@click.option("--photos", default=500, show_default=True, help="At most so many.")
@click.option("--layers", default="pool4,pool5,relu6,relu7", show_default=True)
@click.option("--model", default="vgg16-tiny", show_default=True)
@click.option("--weights", help="[default: those of the model]")
@click.option("--flip", is_flag=True, help="Average features with those of the mirror image.")
@click.option("--shares", default=f"{SHARE / 2},{SHARE},{SHARE * 2}", show_default=True,
              help="What is taken of the usual distance.")  # fmt: skip
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write figures here.")
def main(
    folder: Path | None,
    photos: int,
    layers: str,
    model: str,
    weights: str | None,
    flip: bool,
    shares: str,
    json_path: Path | None,
) -> None:
    """Run the benchmark on the images of FOLDER, or on made-up ones."""
    images = made_up(photos) if folder is None else photographs(folder, photos)
    given: dict[str, Any] = {"weights": weights} if weights else {}
    figures = []
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        write_versions(images, work / "photos")
        extractor = FeatureExtractor(model, layers=layers, flip=flip, device="cpu", **given)
        extractor.extract(work / "photos", work / "all.h5", progress=False)
        with FeatureStore(work / "all.h5") as store:
            for layer in store.layers:
                figures += figures_of(store, layer, [float(share) for share in shares.split(",")])
    click.echo(text(figures))
    if json_path:
        json_path.write_text(json.dumps(figures, indent=2))


def figures_of(store: FeatureStore, layer: str, shares: list[float]) -> list[dict[str, Any]]:
    """Score one layer at thresholds of each share, calibrated on originals and on all versions."""
    index = SimilarityIndex.build(store, layer, kind="flat")
    originals = SimilarityIndex.build(store, layer, kind="flat")
    originals.remove([path for path in map(index.path, index.alive) if path[:5] != f"{NONE}/"])
    figures = []
    for share in shares:
        for by, calibrating in (("originals", originals), ("all", index)):
            threshold = calibrated(calibrating, share)
            one = {"layer": layer, "share": share, "by": by} | threshold.to_json()
            figures.append(one | {"rates": rates(index, threshold.score)})
    return figures


def text(figures: list[dict[str, Any]]) -> str:
    """Lay out figures: precision and recall in percent, and the wrong pairs of originals."""
    header = ["layer", "share", "by", "cosine", *VERSIONS, "all pairs", "moved"]
    rows = []
    for one in figures:
        cells = []
        for name, rate in one["rates"].items():
            right, found, possible = rate["right"], rate["found"], rate["possible"]
            if name == NONE:
                cells.append(f"{found // 2} wrong")
            else:
                precision = f"{100 * right / found:.1f}" if found else "-"
                cells.append(f"{precision} / {100 * right / possible:.1f}")
        rows.append([one["layer"], f"{one['share']:g}", one["by"], f"{one['score']:.4f}", *cells])
    return table(rows, header)


if __name__ == "__main__":
    main()

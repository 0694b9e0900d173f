"""What copies on both sides of a split do to a score, and what keeping them together does.

python benchmarks/leaks.py FOLDER [--photos 300] [--model vgg16-tiny] [--layer pool5]

Some photos of FOLDER, whose sub-folders are classes, are saved three times: as they are, at half
the size, and cut by 5 % and saved again. A probe is scored on a random quarter of the images as
they lie there, and again with the three of each photo in one group; each time it says how many
near-identical images it finds across the split. The score of the photos alone stands below.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from random import Random

from fuzzing.kinds import command
from PIL import Image


def copies(photo: Image.Image) -> dict[str, Image.Image]:
    """Return a photo and what else people keep of it."""
    width, height = photo.size
    cut = (width // 40, height // 40, width - width // 40, height - height // 40)
    return {
        "original": photo,
        "small": photo.resize((max(width // 2, 1), max(height // 2, 1))),
        "cut": photo.crop(cut),
    }


def write(source: Path, folder: Path, count: int) -> None:
    """Write `count` photos, as many of each class as there are, three times each."""
    classes = sorted(path for path in source.iterdir() if path.is_dir())
    random = Random(0)
    each = -(-count // len(classes))
    for one in classes:
        photos = sorted(path for path in one.iterdir() if path.suffix.lower() == ".jpg")
        for at, path in enumerate(random.sample(photos, min(each, len(photos)))):
            with Image.open(path) as opened:
                photo = opened.convert("RGB")
            for kind, image in copies(photo).items():
                target = folder / one.name / f"scene{at:03d}-{kind}.jpg"
                target.parent.mkdir(parents=True, exist_ok=True)
                image.save(target, quality=90 if kind == "original" else 75)


def main() -> None:
    """Print a line a division."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=int, default=300)
    parser.add_argument("--model", default="vgg16-tiny")
    parser.add_argument("--weights", default="builtin")
    parser.add_argument("--layer", default="pool5")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        write(given.folder, work / "all", given.photos)
        options = ["--model", given.model, "--weights", given.weights, "--layers", given.layer]
        grouped = ["--group-by", r"([^/]+/scene\d+)"]
        command("extract", work / "all", work / "apart.h5", *options)
        command("extract", work / "all", work / "whole.h5", *options, *grouped)
        for copy in (work / "all").rglob("*.jpg"):
            if "original" not in copy.name:
                copy.unlink()
        command("extract", work / "all", work / "alone.h5", *options)
        print("| division | images | accuracy | near-identical across the split |")
        print("| --- | --- | --- | --- |")
        for store, what in (
            ("apart.h5", "each image by itself"),
            ("whole.h5", "copies in one group"),
            ("alone.h5", "the photos alone, no copies"),
        ):
            told = json.loads(command("probe", work / store, "--json"))
            leak, images = told["leak"], told["n_train"] + told["n_test"]
            found = f"{leak['near_identical']} of {leak['looked_at']}"
            print(f"| {what} | {images:,} | {told['accuracy']:.1%} | {found} |")


if __name__ == "__main__":
    main()

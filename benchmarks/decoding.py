"""JPEGs a second of one core: what a GPU would wait for, and what scaling while decoding costs.

Files of 500 x 375 and of 12 megapixels, made of scikit-learn's two sample photographs (quality 90,
chroma at half resolution). Seconds are those that the processor spent, in turns, best of --rounds.
Beside each rate stand how often it is Pillow's, and by how many levels a pixel differs at most from
Pillow's::

    python benchmarks/decoding.py [--weights FILE] [--rounds 5]

pillow          Image.open(file).convert("RGB")
torchvision.io  decode_jpeg; simplejpeg and PyAV where they are installed
vggfeat         what extraction does: decoding, upright, the weights' own resize and crop
the loop        Pillow and torchvision's transforms
vggfeat, draft  as vggfeat, but decoded at the smallest size, by powers of two, that is at least
                twice the weights' own resize (Pillow's draft: the DCT's coefficients scaled)

Then how far the last one's network inputs and features are from vggfeat's: levels of 0..255, and
the relative difference |a - b| / |b| (L2) of features, the mean and the worst of --images
photographs.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_images

from vggfeat import FeatureExtractor, malloc
from vggfeat.cli.output import table
from vggfeat.images import decode

SIZES = {"500 x 375": (500, 375), "4000 x 3000": (4000, 3000)}
WHOLE = ("the loop", "vggfeat", "vggfeat, draft")
"""Those that end in network inputs; the others only decode."""
GAP = 2  # how many times the weights' resize a draft is at least


def jpegs(size: tuple[int, int], count: int) -> list[bytes]:
    """Return parts of photographs as files."""
    photos = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    rng = np.random.default_rng(0)
    found = []
    for number in range(count):
        width = int(rng.integers(320, 560))
        left, top = (
            int(rng.integers(0, 640 - width)),
            int(rng.integers(0, 427 - width * 3 // 4)),
        )
        box = (left, top, left + width, top + width * 3 // 4)
        file = io.BytesIO()
        photos[number % 2].resize(size, Image.Resampling.BICUBIC, box).save(
            file, "JPEG", quality=90
        )
        found.append(file.getvalue())
    return found


def contestants(extractor: FeatureExtractor) -> dict[str, Callable[[bytes], Any]]:
    """Return ways from a file to pixels or inputs."""
    from torchvision import transforms
    from torchvision.io import decode_jpeg

    spec = extractor.resolved_weights.preprocessing
    usual = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )

    def pillow(file: bytes) -> Any:
        return Image.open(io.BytesIO(file)).convert("RGB")

    def draft(file: bytes) -> Any:
        image = Image.open(io.BytesIO(file))
        scale = GAP * spec.resize / min(image.size)
        image.draft("RGB", tuple(int(side * scale) for side in image.size))  # type: ignore[arg-type]
        return extractor.resolved_view.inputs(image.convert("RGB"), spec)

    def by_vggfeat(file: bytes) -> Any:
        return extractor.resolved_view.inputs(decode(io.BytesIO(file)), spec)

    ways: dict[str, Callable[[bytes], Any]] = {
        "pillow": pillow,
        "torchvision.io": lambda file: decode_jpeg(
            torch.frombuffer(bytearray(file), dtype=torch.uint8)
        ),
        "the loop": lambda file: usual(pillow(file)),
        "vggfeat": by_vggfeat,
        "vggfeat, draft": draft,
    }
    with suppress(ImportError):
        import simplejpeg

        ways["simplejpeg"] = simplejpeg.decode_jpeg
    with suppress(ImportError):
        import av

        def by_av(file: bytes) -> Any:
            with av.open(io.BytesIO(file)) as container:
                return next(container.decode(video=0)).to_ndarray(format="rgb24")

        ways["PyAV"] = by_av
    return ways


def as_array(pixels: Any) -> NDArray[np.int16]:
    """Return decoded pixels as (H, W, 3)."""
    array = np.asarray(pixels)
    return (array.transpose(1, 2, 0) if len(array) == 3 else array).astype(np.int16)


@click.command()
@click.option("--weights", default="builtin", show_default=True)
@click.option("--rounds", default=5, show_default=True)
@click.option("--images", default=20, show_default=True)
def main(weights: str, rounds: int, images: int) -> None:
    """Compare decoders."""
    torch.set_num_threads(1)
    model = "vgg16-tiny" if weights == "builtin" else "vgg16"
    extractor = FeatureExtractor(model, weights, "conv5_3", device="cpu")
    ways = contestants(extractor)
    for kept in (False, True):
        if kept:
            malloc.keep_freed_blocks()
            click.echo("\nThe same where freed memory is kept, as whenever a network is loaded:")
        rows: dict[str, list[str]] = {name: [name] for name in ways}
        for size in SIZES.values():
            files = jpegs(size, 4 if size[0] > 1000 else 40)
            best = dict.fromkeys(ways, float("inf"))
            for _ in range(rounds + 1):
                for name, way in ways.items():
                    start = time.process_time()
                    for file in files:
                        way(file)
                    best[name] = min(best[name], (time.process_time() - start) / len(files))
            truth = as_array(ways["pillow"](files[0]))
            for name, seconds in best.items():
                decodes = name not in WHOLE
                off = np.abs(as_array(ways[name](files[0])) - truth).max() if decodes else ""
                rows[name] += [f"{1 / seconds:.0f}", f"{best['pillow'] / seconds:.2f}", str(off)]
        columns = [f"{what}, {size}" for size in SIZES for what in ("a second", "x", "off")]
        click.echo(table(list(rows.values()), ["", *columns], right=" ".join(columns)))
    for name, size in SIZES.items():
        inputs, features, worst = [], [], 0
        for file in jpegs(size, images if size[0] < 1000 else min(images, 10)):
            a, b = (
                np.asarray(ways[way](file)[0], np.int16) for way in ("vggfeat, draft", "vggfeat")
            )
            inputs.append(np.abs(a - b).mean())
            worst = max(worst, int(np.abs(a - b).max()))
            with torch.inference_mode():
                found = extractor.network.features([a.astype(np.uint8), b.astype(np.uint8)])
            a, b = found["conv5_3"].numpy()
            features.append(np.linalg.norm(a - b) / np.linalg.norm(b))
        click.echo(
            f"draft, {name}: inputs off by {np.mean(inputs):.2f} levels, at most {worst}; "
            f"conv5_3 by {np.mean(features):.2e}, at most {max(features):.2e}"
        )


if __name__ == "__main__":
    main()

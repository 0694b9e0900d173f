"""Teach your own classes: one sub-folder for each class, some images in each.

python examples/classifier_for_my_classes.py classes/ new-images/ [--model vgg16]

The default is a miniature whose weights travel with the package; research uses --model vgg16.
"""

from __future__ import annotations

from pathlib import Path

import click

from vggfeat import FeatureExtractor, FeatureStore
from vggfeat.extract import Failure
from vggfeat.probe import evaluate, train


@click.command()
@click.argument("classes", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("new_images")
@click.option("--model", default="vgg16-tiny", show_default=True)
@click.option("--weights", help="[default: the model's usual ones]")
@click.option("--layer", default="relu7", show_default=True)
def main(classes: Path, new_images: str, model: str, weights: str | None, layer: str) -> None:
    """Train on the sub-folders of CLASSES, say how well that works, and label NEW_IMAGES."""
    extractor = FeatureExtractor(model, weights=weights, layers=[layer])
    store = classes.with_suffix(".h5")
    extractor.extract(classes, store)

    with FeatureStore(store) as opened:
        score = evaluate(opened, layer)  # trains on 3/4 of each class, tests on the rest
        print(f"mean class recall {score.mean_class_recall:.1%}, guessing {score.chance:.1%}")
        probe = train(opened, layer, held_out=score)  # once more, on all images
    probe.save(classes.with_suffix(".probe"))

    for result in extractor.iter_features(new_images):
        if isinstance(result, Failure):
            print(f"{result.item.path}: {result.reason}")
            continue
        names, _ = probe.predict(result.arrays()[layer])
        for entry, name in zip(result.items, names, strict=True):
            print(f"{entry.path}: {name}")


if __name__ == "__main__":
    main()

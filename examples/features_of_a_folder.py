"""Turn a folder of images into a matrix of features.

    python examples/features_of_a_folder.py photos/ photos.h5 [--model vgg16]

The default is a miniature whose weights travel with the package; research uses --model vgg16.

The same command continues where it stopped, and adds images that are new in the folder.
"""

from __future__ import annotations

import click
import numpy as np

from vggfeat import FeatureExtractor, FeatureStore


@click.command()
@click.argument("folder")
@click.argument("store")
@click.option("--model", default="vgg16-tiny", show_default=True)
@click.option("--weights", help="[default: the model's usual ones]")
@click.option("--layer", default="relu7", show_default=True)
def main(folder: str, store: str, model: str, weights: str | None, layer: str) -> None:
    """Extract one layer of FOLDER into STORE and look at the result."""
    extractor = FeatureExtractor(model, weights=weights, layers=[layer])
    summary = extractor.extract(folder, store)
    print(f"{summary.done} images done, {summary.failed} failed")
    for path, reason in summary.failures:
        print(f"  {path}: {reason}")

    with FeatureStore(store) as opened:
        rows, X = opened.matrix(layer)  # X: (n, d), one row for each image that is done
        print(
            f"{layer}: {X.shape[0]} x {X.shape[1]}, {X.dtype}, from {X.min():.3g} to {X.max():.3g}"
        )
        lengths = np.linalg.norm(X, axis=1)
        strongest = rows[lengths.argmax()]
        print(f"longest feature: {opened.paths[strongest]} ({lengths.max():.3g})")


if __name__ == "__main__":
    main()

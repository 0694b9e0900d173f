"""Let scikit-learn choose a layer and its pooling for your own classes.

python examples/choose_a_layer.py classes/ [--model vgg16]

The default is a miniature whose weights travel with the package; research uses --model vgg16.
"""

from __future__ import annotations

from pathlib import Path

import click
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

from vggfeat import LinearProbe
from vggfeat.labels import from_folders
from vggfeat.sklearn import VGGFeatures
from vggfeat.sources import open_source


@click.command()
@click.argument("classes", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--model", default="vgg16-tiny", show_default=True)
@click.option("--weights", help="[default: the model's usual ones]")
@click.option("--folds", default=3, show_default=True)
def main(classes: Path, model: str, weights: str | None, folds: int) -> None:
    """Compare layers by cross-validation on the sub-folders of CLASSES."""
    labels = from_folders([entry.path for entry in open_source(classes).entries])
    paths = [classes / path for path in labels]
    names = [name for (name,) in labels.values()]

    # Each image runs through the network once a layer, however many folds and candidates.
    cache = classes.with_suffix(".features")
    pipeline = Pipeline([
        ("features", VGGFeatures(model=model, weights=weights, cache=cache)),
        ("probe", LinearProbe()),
    ])  # fmt: skip
    layers = ["pool4", "pool5:max", "pool5:gem", "relu6", "relu7"]
    search = GridSearchCV(pipeline, {"features__layer": layers}, cv=folds, error_score="raise")
    search.fit(paths, names)
    for layer, score in zip(layers, search.cv_results_["mean_test_score"], strict=True):
        print(f"{layer:10} {score:.1%}")
    print(f"best: {search.best_params_['features__layer']}")


if __name__ == "__main__":
    main()

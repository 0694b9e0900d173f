"""Find the images of an archive that are most like a query.

python examples/search_an_archive.py photos/ query.jpg [--model vgg16]

The default is a miniature whose weights travel with the package; research uses --model vgg16.
"""

from __future__ import annotations

from pathlib import Path

import click

from vggfeat import FeatureExtractor, FeatureStore, SimilarityIndex


@click.command()
@click.argument("archive", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("queries", nargs=-1, required=True)
@click.option("--model", default="vgg16-tiny", show_default=True)
@click.option("--weights", help="[default: the model's usual ones]")
@click.option("--layer", default="relu7", show_default=True)
@click.option("-k", default=5, show_default=True)
def main(
    archive: Path, queries: tuple[str, ...], model: str, weights: str | None, layer: str, k: int
) -> None:
    """Index ARCHIVE, or what is new in it, and search it for each of QUERIES."""
    extractor = FeatureExtractor(model, weights=weights, layers=[layer])
    store = archive.with_suffix(".h5")
    extractor.extract(archive, store)
    with FeatureStore(store) as opened:
        index = SimilarityIndex.build(opened, layer, path=archive.with_suffix(".index"))

    index.check(extractor.config)  # queries must go the way of the indexed images
    features = extractor(queries)[layer]
    for query, neighbours in zip(queries, index.search(features, k), strict=True):
        print(query)
        for one in neighbours:
            print(f"  {one.rank}. {one.score:.4f}  {one.path}")


if __name__ == "__main__":
    main()

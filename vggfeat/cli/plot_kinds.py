"""The three kinds of pictures that ``vggfeat plot`` draws, and what it prints about them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vggfeat.cli.choices import only_layer
from vggfeat.cli.output import bars, print_json, printable, table
from vggfeat.tables import csv_line

if TYPE_CHECKING:
    from vggfeat.analysis import ImageMap, UnitsReport
    from vggfeat.report import FeatureMaps


def draw_map(
    path: str, layer: str | None, options: dict[str, Any], *, out: str, dark: bool, as_json: bool
) -> None:
    """Draw and describe a map of a store's images."""
    from vggfeat.analysis import image_map
    from vggfeat.report import originals_of, plot_map
    from vggfeat.report.image_map import NAMES, check_colour_by
    from vggfeat.store import open_features

    with open_features(path) as store, bars("it") as progress:
        check_colour_by(options["colour_by"], store.splits, store.groups)
        result = image_map(
            store,
            only_layer(store, layer),
            method=options["method"],
            seed=options["seed"],
            max_images=options["max_images"],
            progress=progress,
        )
        drawn = plot_map(
            out,
            result,
            images=originals_of(store, options["roots"]),
            title=_title(path, store.provenance.config.model, store.latest.weights),
            thumbnails=options["thumbnails"],
            size=options["size"],
            colour_by=options["colour_by"],
            dark=dark,
            progress=progress,
        )
        model, source = store.provenance.config.model, store.latest.source
    if options["csv"]:
        _write_csv(options["csv"], result)
    files = {"picture": out, "csv": options["csv"]}
    payload = {"store": path, "model": model} | result.to_json() | drawn.to_json() | files
    if as_json:
        print_json(payload)
        return
    click.echo(
        f"{printable(path)}: {result.layer} of {model}, {NAMES[options['method']]} of "
        f"{drawn.images:,} images, seed {options['seed']}"
    )
    if result.projection.explained:
        shares = " and ".join(f"{share:.1%}" for share in result.projection.explained)
        click.echo(f"{shares} of the variance along x and y")
    if drawn.unreadable:
        moved = "" if drawn.thumbnails else f"; were they moved from {printable(source)}?"
        click.echo(f"{drawn.unreadable:,} images could not be read again and are dots{moved}")
    counts = [f"{n:,} {why.replace('_', ' ')}" for why, n in payload["left_out"].items() if n]
    if counts:
        click.echo(f"left out: {', '.join(counts)}")
    click.echo(f"Picture: {printable(out)} ({drawn.thumbnails:,} thumbnails)")
    if options["csv"]:
        click.echo(f"Coordinates: {printable(options['csv'])}")


def _write_csv(path: str, result: ImageMap) -> None:
    from vggfeat.report import write_whole

    named = {"split": result.splits, "group": result.groups}
    more = {heading: names for heading, names in named.items() if names is not None}
    lines = [csv_line(["path", "class", "x", "y", *more])]
    for at, (name, labels, (x, y)) in enumerate(
        zip(result.paths, result.labels, result.coordinates.tolist(), strict=True)
    ):
        lines.append(csv_line([name, "|".join(labels), x, y, *(of[at] for of in more.values())]))
    write_whole(path, "".join(lines).encode("utf-8", "backslashreplace"))


def draw_units(
    path: str, layer: str | None, options: dict[str, Any], *, out: str, dark: bool, as_json: bool
) -> None:
    """Draw and describe what units of a store's layer respond to."""
    from vggfeat.analysis import unit_responses
    from vggfeat.report import originals_of, plot_units
    from vggfeat.store import open_features

    with open_features(path) as store, bars("it") as progress:
        result = unit_responses(
            store,
            only_layer(store, layer),
            list(options["unit"]) or options["units"],
            interest=options["interest"],
            seed=options["seed"],
            progress=progress,
        )
        plot_units(
            out,
            result,
            images=originals_of(store, options["roots"]),
            title=_title(path, store.provenance.config.model, store.latest.weights),
            dark=dark,
            progress=progress,
        )
        model = store.provenance.config.model
    if as_json:
        print_json({"store": path, "model": model} | result.to_json() | {"picture": out})
        return
    click.echo(
        f"{printable(path)}: {result.layer} of {model}, {len(result.units):,} of {result.total:,} "
        f"units over {result.images:,} images\n"
    )
    click.echo(_units_table(result))
    click.echo(f"\nPicture: {printable(out)}")


def _units_table(result: UnitsReport) -> str:
    header = ["unit", "mean", "deviation", "above 0", "largest", "for"]
    rows = [
        [
            str(unit.number),
            f"{unit.mean:.4g}",
            f"{unit.deviation:.4g}",
            f"{unit.positive:.1%}",
            f"{unit.most[0].value:.4g}",
            unit.most[0].path,
        ]
        for unit in result.units
    ]
    return table(rows, header, right="unit mean deviation largest")


def draw_feature_maps(
    image: str, layer: str, options: dict[str, Any], *, out: str, dark: bool, as_json: bool
) -> None:
    """Draw and describe what a layer makes of one image."""
    from vggfeat.extract import FeatureExtractor
    from vggfeat.layers import architecture
    from vggfeat.report import plot_feature_maps
    from vggfeat.weights.categories import categories

    known = architecture(options["model"]).layer(layer)
    names = ("model", "weights", "preprocessing", "view", "device")
    chosen = {name: options[name] for name in names}
    asked = f"{known.name}:none" if known.spatial else known.name
    extractor = FeatureExtractor(layers=asked, **chosen)
    values = extractor(image)[known.name][0]
    (seen,) = extractor.inputs(image)
    # Units of random weights stand for no class.
    named = known.name in ("fc8", "prob") and extractor.resolved_weights.path
    drawn = plot_feature_maps(
        out,
        values,
        seen,
        known.name,
        channels=options["channels"],
        names=categories(extractor.resolved_weights, extractor.architecture) if named else (),
        title=_title(image, extractor.model, extractor.resolved_weights.spec),
        dark=dark,
    )
    if as_json:
        made = {"model": extractor.model, "weights": extractor.resolved_weights.spec}
        payload = {"image": image, **made, "view": extractor.view, **drawn.to_json()}
        print_json(payload | {"picture": out})
        return
    shape = " x ".join(map(str, values.shape))
    click.echo(
        f"{printable(image)}: {known.name} of {extractor.model}, weights "
        f"{printable(extractor.resolved_weights.spec)}, {shape} values\n"
    )
    click.echo(_channels_table(drawn))
    click.echo(f"\nPicture: {printable(out)}")


def _channels_table(drawn: FeatureMaps) -> str:
    if len(drawn.shape) == 3:
        header = ["channel", "strength", "largest", "smallest"]
        rows = [
            [str(one.number), *(f"{v:.4g}" for v in (one.strength, one.largest, one.smallest))]
            for one in drawn.channels
        ]
        return table(rows, header, right=" ".join(header))
    named = any(one.name for one in drawn.channels)
    header = ["unit", "value", *["class"] * named]
    rows = [[str(one.number), f"{one.strength:.4g}", *[one.name] * named] for one in drawn.channels]
    return table(rows, header, right="unit value")


def _title(path: str, model: str, weights: str) -> str:
    return f"{Path(path).name}, {model} with {Path(weights).name} weights"

"""What is written as a picture is also had as a figure, which a notebook shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from test_plot import clusters, made

from vggfeat import FeatureStore
from vggfeat.analysis import HeatMap, image_map, unit_responses
from vggfeat.report import (
    Panel,
    draw_feature_maps,
    draw_heat,
    draw_map,
    draw_units,
    plot_feature_maps,
    plot_heat,
    plot_map,
    plot_units,
)


def test_what_is_written_is_also_a_figure_that_a_notebook_shows(tmp_path):
    with FeatureStore(made(tmp_path, clusters(6))) as store:
        found = image_map(store, "relu7", method="pca")
        report = unit_responses(store, "relu7", [1], most=2, least=1)
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (40, 50, 3), np.uint8)
    panels = [Panel("photo", Image.fromarray(photo)), Panel("map", Image.fromarray(photo), heat())]
    maps = (rng.normal(size=(4, 5, 5)), photo, "pool5")
    told = {"title": "cat", "subtitle": "exact", "unit": "score"}
    pairs: list[tuple[Callable[..., Any], Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = [
        (plot_map, draw_map, (found,), {"size": (800, 700), "title": "photos"}),
        (plot_units, draw_units, (report,), {"title": "photos"}),
        (plot_feature_maps, draw_feature_maps, maps, {"channels": 2}),
        (plot_heat, draw_heat, (panels,), told),
    ]
    file = tmp_path / "written.png"
    for plot, draw, given, options in pairs:
        figure = draw(*given, **options, dark=True)
        assert isinstance(figure, Figure)
        shown, _ = figure._repr_png_()
        plot(file, *given, **options, dark=True)
        assert shown == file.read_bytes()


def heat() -> HeatMap:
    """Return a map with a place that speaks for a class, and one that speaks against it."""
    values = np.zeros((40, 50))
    values[5:9, 5:9], values[30:34, 40:44] = 1.0, -0.5
    return HeatMap(values, np.ones((40, 50), bool), (50, 40), (4, 4))

"""Pages to look at: self-contained HTML files with embedded pictures, and nothing from elsewhere.

One file a page; each page takes small frozen values, so that it can be made from anything that
has them: :func:`search_page`,
:func:`duplicates_page`, :func:`probe_page`, :func:`evaluation_page`, :func:`explain_page`,
:func:`finetune_page`.
:func:`thumbnail`, :func:`confusion_matrix`, :func:`sweep_figure` and :func:`lowshot_figure` make
pictures for them. :func:`plot_map`, :func:`plot_units`, :func:`plot_feature_maps`,
:func:`plot_heat`, :func:`plot_rdms`, :func:`plot_comparison`, :func:`plot_fits` and
:func:`plot_encoding` write pictures of their own; :func:`draw_map`, :func:`draw_units`,
:func:`draw_feature_maps` and :func:`draw_heat` give the same as figures of matplotlib, which a
notebook shows. Nothing here imports torch.
"""

from __future__ import annotations

from vggfeat.report.canvas import picture_destination
from vggfeat.report.comparison import plot_comparison, plot_fits
from vggfeat.report.confusion import confusion_matrix
from vggfeat.report.duplicates import duplicates_page, size_text
from vggfeat.report.encoding import plot_encoding
from vggfeat.report.evaluation import evaluation_page
from vggfeat.report.explain import ExplainedClass, ExplainedImage, explain_page
from vggfeat.report.facts import Facts, config_facts, run_facts
from vggfeat.report.feature_maps import (
    DrawnChannel,
    FeatureMaps,
    draw_feature_maps,
    plot_feature_maps,
)
from vggfeat.report.finetune import finetune_figure, finetune_page
from vggfeat.report.heat_figure import Panel, draw_heat, plot_heat
from vggfeat.report.image_map import DrawnMap, draw_map, plot_map
from vggfeat.report.lowshot import lowshot_figure
from vggfeat.report.numbers import numbers_figure, numbers_page
from vggfeat.report.page import destination, write_whole
from vggfeat.report.probe import probe_page
from vggfeat.report.rdm import plot_rdms
from vggfeat.report.search import NeighbourResult, QueryResult, SearchMaps, search_page
from vggfeat.report.sweep import ordered_layers, sweep_figure
from vggfeat.report.text import short_names
from vggfeat.report.thumbnails import (
    ImageSource,
    original,
    originals,
    originals_of,
    stored_originals,
    thumbnail,
)
from vggfeat.report.units import draw_units, plot_units

__all__ = [
    "DrawnChannel",
    "DrawnMap",
    "ExplainedClass",
    "ExplainedImage",
    "Facts",
    "FeatureMaps",
    "ImageSource",
    "NeighbourResult",
    "Panel",
    "QueryResult",
    "SearchMaps",
    "config_facts",
    "confusion_matrix",
    "destination",
    "draw_feature_maps",
    "draw_heat",
    "draw_map",
    "draw_units",
    "duplicates_page",
    "evaluation_page",
    "explain_page",
    "finetune_figure",
    "finetune_page",
    "lowshot_figure",
    "numbers_figure",
    "numbers_page",
    "ordered_layers",
    "original",
    "originals",
    "originals_of",
    "picture_destination",
    "plot_comparison",
    "plot_encoding",
    "plot_feature_maps",
    "plot_fits",
    "plot_heat",
    "plot_map",
    "plot_rdms",
    "plot_units",
    "probe_page",
    "run_facts",
    "search_page",
    "short_names",
    "size_text",
    "stored_originals",
    "sweep_figure",
    "thumbnail",
    "write_whole",
]

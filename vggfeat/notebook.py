"""Stores, indexes and results as HTML in a notebook, on light and on dark ground.

A few photographs go with them, small, where they can be read: none that is far away, no more than
:data:`PHOTOS` of each, and for no longer than :data:`SECONDS`.
"""

from __future__ import annotations

import html as markup
import math
import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vggfeat.index import Neighbours
from vggfeat.probe.results import HeldOut
from vggfeat.report.confusion import confused_pairs
from vggfeat.report.search import METRICS
from vggfeat.report.text import counted, decimals, percent, short_names, shortened, shown
from vggfeat.report.thumbnails import original, originals_of, picture
from vggfeat.sources import Originals, is_remote
from vggfeat.sources.several import named

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vggfeat.evaluation import Comparison, Evaluation, LowShot, Neighbourhoods
    from vggfeat.feature_table import FeatureTable
    from vggfeat.finetuning.results import FinetuneResult, Result
    from vggfeat.index import SearchResults, SimilarityIndex
    from vggfeat.probe import MultiLabelResult, ProbeResult, RegressionResult, RepeatedResult
    from vggfeat.queries import SearchResult
    from vggfeat.report import ImageSource
    from vggfeat.showing import Drawn, Shown

PHOTOS = 12
"""At most so many of one store, index or query."""

QUERIES = 5
"""So many queries are shown, and the others counted."""

ROWS = 24
"""Most rows of a table."""

SIDE = 96
"""Longest side of a photograph, in pixels."""

SECONDS = 3.0
"""After this no further photograph is read."""

_FAINT = "opacity:.7"
_LINE = "1px solid rgba(128,128,128,.35)"

Photo = tuple["ImageSource", str, str]  # the original, not yet opened, its caption, its path


def html(value: Shown) -> str:
    """Return an object as HTML; what it holds of names is escaped."""
    inner = _MAKERS[value.shown_as](value)
    return f'<div style="font-size:90%;line-height:1.4;max-width:60em">{inner}</div>'


def draw(value: Drawn, dark: bool) -> Figure:
    """Return a result as a figure."""
    return _DRAWERS[value.shown_as](value, dark)


def _table_html(store: FeatureTable) -> str:
    config, counts = store.provenance.config, store.counts()
    told = [counted(len(store), "image")]
    told += [f"{counts[name]:,} {name}" for name in ("failed", "pending") if counts[name]]
    if store.targets is not None:
        kind = "several labels an image" if store.multi_label else "one label an image"
        told.append(f"{counted(len(store.classes), 'class', 'classes')}, {kind}")
    told += [f"{config.model}, {store.latest.weights}", f"view {config.view}"]
    rows = [
        (name, pooling, " x ".join(map(str, store.shape(name))), config.dtype)
        for name, pooling in config.layers.items()
    ]
    done = np.flatnonzero(store.done)
    some = done[np.linspace(0, len(done) - 1, min(PHOTOS, len(done))).astype(np.int64)]
    photos: list[Photo] = []
    if not any(is_remote(one.root) for one in store.sources):
        image = originals_of(store)
        names = _labels(store, some)
        photos = [
            (image(path), name, path)
            for path, name in zip(store.paths[some].tolist(), names, strict=True)
        ]
    head = _head(_name(store.path), told, str(store.path))
    return head + _rows(("layer", "pooling", "shape", "stored as"), rows) + _photos(photos)


def _labels(store: FeatureTable, rows: npt.NDArray[np.int64]) -> list[str]:
    targets = store.targets
    if targets is None:
        return [""] * len(rows)
    return [
        "|".join(name for name, has in zip(targets.classes, one, strict=True) if has == 1)
        if targets.multi_label
        else (targets.classes[one] if one >= 0 else "")
        for one in targets.values[rows]
    ]


def _index_html(index: SimilarityIndex) -> str:
    info = index.info()
    told = [counted(info.images, "image"), f"{info.layer} of {info.model}", METRICS[info.metric]]
    told.append(
        "exact search" if info.kind == "exact" else f"approximate search by {info.structure}"
    )
    ids = index.ids
    some = ids[np.linspace(0, len(ids) - 1, min(PHOTOS, len(ids))).astype(np.int64)].tolist()
    place = _places(index.sources)
    photos = [
        (place(index.source(one), index.path(one)), index.label(one), index.path(one))
        for one in some
    ]
    return _head(index.folder.name, told, str(index.folder)) + _photos(photos)


def _places(sources: Iterable[str]) -> Callable[[str, str], ImageSource]:
    """Return what gives the original of a path in a source, not opened before it is drawn."""
    near = [one for one in dict.fromkeys(sources) if not is_remote(named(one)[1])]
    opened = Originals(near)

    def place(source: str, path: str) -> ImageSource:
        return original(opened, source, path) if source in near else None

    return place


def _neighbours_html(found: Neighbours, heading: str = "") -> str:
    catalogue = found.catalogue
    origin = catalogue.rows.origin
    sources = {one.id: catalogue.sources[int(origin[one.id])].source for one in found[:PHOTOS]}
    place = _places(sources.values())
    digits = decimals([one.score for one in found])
    photos = [
        (
            place(sources[one.id], one.path),
            f"{one.rank}. {one.score:.{digits}f}" + (f" {one.label}" if one.label else ""),
            one.path,
        )
        for one in found[:PHOTOS]
    ]
    more = [f"{len(found) - PHOTOS:,} more"] if len(found) > PHOTOS else []
    told = [counted(len(found), "neighbour"), *more, METRICS[catalogue.metric]]
    return _head(heading, told) + _photos(photos)


def _answer_html(result: SearchResult) -> str:
    """Return a query and its neighbours; images that came as paths are shown, too."""
    paths = [one for one in result.images if isinstance(one, str | os.PathLike)]
    near = [str(one) for one in paths if not is_remote(str(one))]
    query = _photos([(one, "query", one) for one in near[:PHOTOS]])
    found = result.neighbours
    answer = _neighbours_html(found) if isinstance(found, Neighbours) else _text(found)
    return _head("query", [Path(one).name for one in near[:PHOTOS]]) + query + answer


def _results_html(found: SearchResults) -> str:
    several = len(found) > 1
    parts = [
        _neighbours_html(one, f"query {number}" if several else "")
        for number, one in enumerate(found[:QUERIES], 1)
    ]
    if len(found) > QUERIES:
        parts.append(_head("", [f"{len(found) - QUERIES:,} more queries"]))
    return "".join(parts) or _head("no query", [])


def _probe_html(result: ProbeResult | MultiLabelResult) -> str:
    head = _head(f"{result.classifier} on {result.layer}", _learnt(result))
    names = [name.replace("_", " ") for name in result.measures]
    rows = [*zip(names, map(percent, result.measures.values()), strict=True)]
    rows.append(("guessing", percent(result.chance)))
    pairs: list[tuple[str, ...]] = []
    if hasattr(result, "confusion"):
        pairs = [
            (one.true, one.named, f"{one.count} of {one.of}")
            for one in confused_pairs(result.confusion, result.classes, 5)
        ]
    confused = _rows(("class", "taken for", "test images"), pairs) if pairs else ""
    return head + _rows(("measure", "score"), rows) + confused


def _learnt(result: Any) -> list[str]:
    told = [f"{counted(len(result.classes), 'class', 'classes')}"] if hasattr(result, "C") else []
    told += [f"{result.n_train:,} images to learn from", f"{result.n_test:,} to test on"]
    if result.leak is not None and result.leak.found:
        told.append(
            f"{result.leak.near_identical:,} of {result.leak.looked_at:,} test images are nearly "
            "the same as one learnt from"
        )
    return told


def _repeated_html(result: RepeatedResult) -> str:
    first = result.splits[0]
    rows = []
    for name in first.measures:
        span = result.mean(name)
        rows.append((name.replace("_", " "), f"{percent(span.mean)} ± {100 * span.sd:.1f}"))
    head = _head(f"{first.classifier} on {first.layer}", [f"{len(result.splits)} splits"])
    return head + _rows(("measure", "mean ± standard deviation"), rows)


def _numbers_html(result: RegressionResult) -> str:
    told = _learnt(result)
    rows = [
        (name, f"{r2:.3f}", f"{r:.3f}")
        for name, r2, r in zip(result.names, result.scores.r2, result.scores.r, strict=True)
    ]
    return _head(f"ridge on {result.layer}", told) + _rows(("target", "R2", "Pearson's r"), rows)


def _sweep_html(found: Comparison) -> str:
    kind = "mean average precision" if found.multi_label else "accuracy"
    parts = []
    for store, scores in zip(found.stores, found.scores, strict=True):
        best = {by: max(one.by(by) for one in scores) for by in ("probe", "kNN")}
        rows = [
            (
                one.layer,
                f"{one.dimension:,}",
                _best(one.by("probe"), best["probe"]),
                _best(one.by("kNN"), best["kNN"]),
            )
            for one in scores
        ]
        heads = ("layer", "numbers", f"probe, {kind}", f"kNN, {kind}")
        parts.append(
            _head(f"{_name(store.path)}, {store.model}", [], store.path) + _rows(heads, rows)
        )
    return "".join(parts) + _head("", _shared(found))


def _lowshot_html(found: LowShot) -> str:
    kind = "mean average precision" if found.multi_label else "mean class recall"
    parts = []
    for store, scores in zip(found.stores, found.scores, strict=True):
        rows: dict[tuple[str, str], list[str]] = {}
        best = {
            shots: max(one.score.mean for one in scores if one.shots == shots)
            for shots in found.shots
        }
        for one in scores:
            cells = rows.setdefault((one.layer, one.classifier), [one.layer, one.classifier])
            cells.append(_best(one.score.mean, best[one.shots], f" ± {100 * one.score.sd:.1f}"))
        heads = ("layer", "classifier", *(counted(k, "image") + " a class" for k in found.shots))
        parts.append(
            _head(f"{_name(store.path)}, {store.model}", [kind], store.path)
            + _rows(heads, rows.values())
        )
    told = [f"{found.n_test:,} images to test on", f"{found.repeats} draws"]
    return "".join(parts) + _head("", [*told, f"guessing {percent(found.chance)}"])


def _knn_html(found: Neighbourhoods) -> str:
    parts = []
    for store, scores in zip(found.stores, found.scores, strict=True):
        best = max(one.score.value for one in scores)
        rows: dict[str, list[str]] = {}
        for one in scores:
            rows.setdefault(one.layer, [one.layer]).append(_best(one.score.value, best))
        heads = ("layer", *(f"k = {k}" for k in found.k))
        parts.append(
            _head(f"{_name(store.path)}, {store.model}", [], store.path)
            + _rows(heads, rows.values())
        )
    return "".join(parts) + _head("", _shared(found))


def _shared(found: Comparison | Neighbourhoods) -> list[str]:
    return [
        f"{found.n_train:,} images to learn from",
        f"{found.n_test:,} to test on",
        f"guessing {percent(found.chance)}",
    ]


def _finetune_html(result: FinetuneResult) -> str:
    told = [f"{result.model}, from {result.recipe.first} on", f"kept epoch {result.best}"]
    told += [
        f"{result.tuned.n_train:,} images to learn from",
        f"{result.tuned.n_test:,} to test on",
    ]
    rows = [
        (kind, *(percent(value) for value in _measures(one).values()))
        for kind, one in (("linear probe", result.probe), ("fine-tuned", result.tuned))
    ]
    heads = ("", *(name.replace("_", " ") for name in _measures(result.tuned)))
    return _head(result.path.name, told, str(result.path)) + _rows(heads, rows)


def _measures(result: Result) -> dict[str, float]:
    return result.measures if isinstance(result, HeldOut) else {"mean R2": result.mean_r2}


def _evaluation_html(result: Evaluation) -> str:
    several = len(result.rows[0].splits) > 1
    rows = []
    for row in result.rows:
        ours = f"{100 * row.score:.1f}"
        if several and row.deviation is not None:
            ours += f" ± {100 * row.deviation:.1f}"
        paper, difference = "-", "-"
        if row.published is not None and row.difference is not None:
            paper, difference = f"{row.published.percent:.1f}", f"{row.difference:+.1f}"
        rows.append((row.name, _Bold(ours), paper, difference))
    dataset, first = result.dataset, result.rows[0].splits[0]
    told = [counted(dataset["images"], "image"), f"{first.n_train:,} examples to train"]
    told += [f"{first.n_test:,} to test", counted(len(result.rows[0].splits), "split")]
    heads = ("descriptor", f"ours, {result.metric} in percent", "the paper", "difference")
    return _head(str(dataset["name"]), told) + _rows(heads, rows)


class _Bold(str):
    """A cell that stands out."""


def _best(value: float, best: float, behind: str = "") -> str:
    text = percent(value) + behind if math.isfinite(value) else "-"
    return _Bold(text) if value == best else text


def _name(path: object) -> str:
    """Return the last part of a path or URL, which is what a person knows it by."""
    return str(path).rstrip("/").rpartition("/")[2] or str(path)


def _head(title: str, told: Sequence[str], hint: str = "") -> str:
    """Return a line with a title, whose `hint` shows under the mouse."""
    whole = markup.escape(shown(hint), quote=True)
    bold = f'<b title="{whole}">{_text(title, 60)}</b>' if title else ""
    rest = f'<span style="{_FAINT}">{markup.escape(" · ".join(map(shown, told)))}</span>'
    return f'<div style="margin:.4em 0">{bold}{" · " if title and told else ""}{rest}</div>'


def _rows(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table; names lie at the left, numbers at the right."""
    every = list(rows)
    cell = f"text-align:left;padding:.15em .8em .15em 0;border-bottom:{_LINE};background:none"
    lines = ["".join(f'<th style="{cell}">{markup.escape(head)}</th>' for head in heads)]
    for row in every[:ROWS]:
        cells = (
            f"<b>{_text(one, 60)}</b>" if isinstance(one, _Bold) else _text(one) for one in row
        )
        lines.append("".join(f'<td style="{cell}">{one}</td>' for one in cells))
    table = "".join(f'<tr style="background:none">{line}</tr>' for line in lines)
    rest = _head("", [f"{len(every) - ROWS:,} more rows"]) if len(every) > ROWS else ""
    return f'<table style="border-collapse:collapse;margin:.4em 0">{table}</table>{rest}'


def _photos(photos: Iterable[Photo]) -> str:
    """Return photographs side by side, with a tile for each that cannot be read."""
    end, tiles, late = time.monotonic() + SECONDS, [], 0
    for image, caption, path in photos:
        if time.monotonic() > end:
            late += 1
            continue
        found = picture(image, SIDE)
        name = markup.escape(shown(path), quote=True)
        tiles.append(
            f'<figure style="margin:0;max-width:{SIDE}px" title="{name}">'
            f'<img src="{found.uri}" alt="{name}" width="{found.width}" height="{found.height}"'
            ' style="display:block;margin:0">'
            f'<figcaption style="font-size:80%;overflow-wrap:anywhere">{_text(caption, 40)}'
            "</figcaption></figure>"
        )
    row = "display:flex;flex-wrap:wrap;gap:.5em;align-items:flex-end;margin:.4em 0"
    told = _head("", [f"{late} more photos, which took too long to read"]) if late else ""
    return (f'<div style="{row}">{"".join(tiles)}</div>' if tiles else "") + told


def _text(value: object, length: int = 60) -> str:
    return markup.escape(shortened(str(value), length))


def _draw_probe(result: ProbeResult, dark: bool) -> Figure:
    from vggfeat.report.confusion import draw_confusion

    return draw_confusion(result.confusion, result.classes, dark=dark)


def _draw_finetune(result: FinetuneResult, dark: bool) -> Figure:
    from vggfeat.report.finetune import draw_finetune

    return draw_finetune(result, dark=dark)


def _draw_numbers(result: RegressionResult, dark: bool) -> Figure:
    from vggfeat.report.numbers import draw_numbers

    return draw_numbers(result, dark=dark)


def _draw_sweep(found: Comparison, dark: bool) -> Figure:
    from vggfeat.report.sweep import draw_sweep

    names = short_names([store.path for store in found.stores])
    return draw_sweep(dict(zip(names, found.scores, strict=True)), found.chance, dark=dark)


def _draw_lowshot(found: LowShot, dark: bool) -> Figure:
    from vggfeat.report.lowshot import draw_lowshot

    names = short_names([store.path for store in found.stores])
    return draw_lowshot(dict(zip(names, found.scores, strict=True)), found.chance, dark=dark)


_MAKERS: dict[str, Callable[[Any], str]] = {
    "answer": _answer_html,
    "evaluation": _evaluation_html,
    "finetune": _finetune_html,
    "index": _index_html,
    "knn": _knn_html,
    "lowshot": _lowshot_html,
    "neighbours": _neighbours_html,
    "numbers": _numbers_html,
    "probe": _probe_html,
    "repeated": _repeated_html,
    "results": _results_html,
    "sweep": _sweep_html,
    "table": _table_html,
}
_DRAWERS: dict[str, Callable[[Any, bool], Figure]] = {
    "finetune": _draw_finetune,
    "lowshot": _draw_lowshot,
    "numbers": _draw_numbers,
    "probe": _draw_probe,
    "sweep": _draw_sweep,
}

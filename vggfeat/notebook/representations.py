"""RDMs, similarities of representations, and responses predicted, as tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vggfeat.notebook.parts import ROWS, Bold, head, rows_table
from vggfeat.report.comparison import similarity_name, titles_of
from vggfeat.report.text import counted, percent

if TYPE_CHECKING:
    from vggfeat.encoding import Encoding
    from vggfeat.representations import Comparison, Fits, RDMs

COLUMNS = 12
"""Most columns of a table of similarities."""


def rdms(found: RDMs) -> str:
    """Show which RDMs there are, and how far their values reach."""
    several = "classes" if found.by == "class" else "images"
    told = [f"{len(found):,} of {found.count:,} {several}", found.measure or "given"]
    rows = [
        (title, f"{np.nanmin(values):.3g}", f"{np.nanmean(values):.3g}", f"{np.nanmax(values):.3g}")
        for title, values in zip(found.titles[:ROWS], found.values[:ROWS], strict=True)
    ]
    heading = head("RDMs", told, found.source)
    return heading + rows_table(("of", "least", "mean", "largest dissimilarity"), rows, len(found))


def similarities(found: Comparison) -> str:
    """Show a matrix of similarities."""
    names = titles_of(found.titles, [one.path for one in found.sources])
    noun = ("class", "classes") if found.by == "class" else ("image", "images")
    told = [counted(found.images, *noun)]
    kept = names[:COLUMNS]
    rows = [
        (name, *(f"{value:.2f}" for value in values[: len(kept)]))
        for name, values in zip(kept, found.values[: len(kept)], strict=True)
    ]
    more = [f"{len(names) - len(kept)} more"] if len(names) > len(kept) else []
    return head(similarity_name(found.how), told + more) + rows_table(("", *kept), rows)


def fits(found: Fits) -> str:
    """Show how well each representation accounts for the targets."""
    names = titles_of([one.title for one in found.layers], [one.path for one in found.sources])
    best = found.best
    rows = [
        (
            name,
            (Bold if place == best else str)(f"{one.value:.3f}"),
            f"{one.low:.3f} to {one.high:.3f}",
            f"{one.p_above:.3g}",
        )
        for place, (name, one) in enumerate(zip(names, found.layers, strict=True))
    ]
    told = [similarity_name(found.how), f"{len(found.targets)} of them"]
    if found.ceiling:
        told.append("noise ceiling {:.3f} to {:.3f}".format(*found.ceiling))
    goal = Path(found.sources[-1].path).name
    return head(f"to {goal}", told) + rows_table(("", "similarity", "95 %", "p above 0"), rows)


def encoding(found: Encoding) -> str:
    """Show how well each layer predicts the responses."""
    best = max((one.mean_r2.value for one in found.layers), default=float("nan"))
    rows = [
        (
            one.layer,
            (Bold if one.mean_r2.value == best else str)(f"{one.mean_r2.value:.3f}"),
            f"{one.mean_r.value:.3f}",
            percent(one.chosen),
        )
        for one in found.layers
    ]
    told = [counted(found.n_images, "image"), counted(len(found.names), "target"), found.division]
    heads = ("layer", "mean R2", "mean r", "best layer of so many targets")
    title = f"{Path(found.origin).name} predicted from {Path(found.store).name}"
    return head(title, told) + rows_table(heads, rows)

"""What ``vggfeat evaluate retrieval`` prints: the scores, and everything that decides them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vggfeat.cli.output import printable, table

if TYPE_CHECKING:
    from vggfeat.evaluation import RetrievalEvaluation, RetrievalScore

_AREAS = {
    "trapezoid": "trapezoids under the precision-recall curve, as the benchmark's program has it",
    "step": "mean precision at the ranks of what is found",
}
_METRICS = {"cosine": "cosine similarity", "l2": "Euclidean distance", "ip": "inner product"}


def describe(result: RetrievalEvaluation) -> str:
    """Return an evaluation as tables and what decides its numbers."""
    protocol = result.protocol
    percent = protocol.metric == "mAP"
    levels = any(score.level for score in result.scores)
    header = [*(["level"] * levels), "queries", protocol.metric, *(f"P@{k}" for k in protocol.at)]
    rows = [_line(score, levels, percent) for score in result.scores]
    lines = [
        f"{result.benchmark}: {result.images:,} images searched; "
        + ("in percent:" if percent else "of 4:"),
        "",
        table(rows, header, right=" ".join(header[levels:])),
    ]
    if any(score.empty for score in result.scores):
        empty = ", ".join(f"{one.empty} {one.level}".strip() for one in result.scores if one.empty)
        lines += ["", f"Queries with nothing to be found, which do not count: {empty}"]
    lines += [*_published(result), "", "Settings that change these numbers:"]
    lines += [f"  {name}: {value}" for name, value in facts(result).items()]
    if result.departures:
        lines += ["", "How this differs from the benchmark:"]
        lines += [f"  - {printable(phrase)}" for phrase in result.departures]
    return "\n".join(lines)


def _line(score: RetrievalScore, levels: bool, percent: bool) -> list[str]:
    ours = f"{100 * score.score:.1f}" if percent else f"{score.score:.3f}"
    cells = [score.level] if levels else []
    cells += [f"{len(score.queries):,}", ours]
    return [*cells, *(f"{100 * value:.1f}" for value in score.precision.values())]


def _published(result: RetrievalEvaluation) -> list[str]:
    rows = [
        [row.what, f"{row.percent:.1f}", row.how, row.source + (not row.verified) * ", unverified"]
        for row in result.protocol.published
    ]
    if not rows:
        return []
    header = ["published", result.protocol.metric, "how", "source"]
    return ["", table(rows, header, right=result.protocol.metric)]


def facts(result: RetrievalEvaluation) -> dict[str, str]:
    """Name everything that decides the numbers."""
    used, protocol = result.settings, result.protocol
    pooling = used["layers"][used["layer"]]
    spec, whitening = used["preprocessing"], used["whitening"]
    scales = f" at scales {', '.join(map(str, used['scales']))}" if used["scales"] else ""
    combined = f", {used['combine']}" if len(used["scales"]) > 1 else ""
    facts = {
        "network": f"{used['model']}, weights {printable(used['weights'])}, SHA-256 "
        f"{used['weights_sha256'][:16]}",
        "layer": f"{used['layer']}{f' ({pooling})' if pooling else ''}, {used['dimension']:,} "
        "numbers an image as compared",
        "view": f"{used['view']}{scales}{combined}{', with mirror images' * used['flip']}",
        "preprocessing": f"{spec['channels']} x {spec['scale']:.4g}, mean {spec['mean']}, std "
        f"{spec['std']}, {spec['interpolation']}",
        "whitening": "none"
        if whitening is None
        else f"PCA to {whitening['dimension']:,} numbers, learnt on {whitening['images']:,} images"
        f" ({whitening['learnt_on']})",
        "measure": _METRICS[used["metric"]],
        "augmentation": used["augmented"] or "none",
        "query expansion": used["expand"] or "none",
        "queries": f"{used['query']}; the query's own image is {used['query_itself']}",
        "junk": used["junk"],
    }
    if used["average_precision"]:
        facts["average precision"] = _AREAS[used["average_precision"]]
    if protocol.at and protocol.capped:
        facts["precision at k"] = "k at most the rank of the last image to be found"
    facts["search"] = used["search"]
    facts["stores"] = ", ".join(printable(p) for p in (used["store"], used["queries"]) if p)
    return facts

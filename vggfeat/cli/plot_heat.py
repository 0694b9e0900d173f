"""What ``vggfeat plot --image`` draws of a class and of a neighbour, and what it prints of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vggfeat.cli.output import print_json, printable, table
from vggfeat.errors import ImageError, SearchError

if TYPE_CHECKING:
    from vggfeat.explain import Explanation, PairMaps
    from vggfeat.index import Neighbour

_AREA = "numbers are of a hundredth of the picture's area"
_RELATIVE = "numbers are relative"


def draw_class(image: str, options: dict[str, Any], *, out: str, dark: bool, as_json: bool) -> None:
    """Draw and describe where in an image is what speaks for classes."""
    from vggfeat.explain import explain
    from vggfeat.explain.subjects import subject_of
    from vggfeat.report import Panel, plot_heat

    given: dict[str, Any] = {"device": options["device"]}
    if options["probe"]:
        subject = options["probe"]
        given["weights"] = options["weights"]
    else:
        subject = options["weights"]
        given |= {name: options[name] for name in ("model", "preprocessing", "view")}
    judge = subject_of(subject, given)
    found: list[Explanation] = []
    for one in explain(
        judge, [image], options["classes"], method=options["heat"], at=options["at"]
    ):
        if hasattr(one, "reason"):
            raise ImageError(f"{image}: {one.reason}")
        found.append(one)
    first = found[0]
    panels = [Panel("The image", image, lines=[f"{first.map.size[0]} x {first.map.size[1]}"])]
    panels += [Panel(one.name, image, one.map, _lines(one)) for one in found]
    name = Path(subject).name if subject else judge.extractor.resolved_weights.spec
    plot_heat(
        out,
        panels,
        title=f"{Path(image).name}: why {name} says so",
        subtitle=f"{judge.what}, {first.method} at {first.layer}",
        unit=_AREA if first.exact else _RELATIVE,
        dark=dark,
    )
    if as_json:
        print_json({"results": [one.to_json() for one in found], "picture": out})
        return
    rows = [[one.name, f"{one.score:.4f}", str(one.map.box() or "-")] for one in found]
    click.echo(table(rows, ["class", "score", "box"], right="score"))
    click.echo(f"\nPicture: {printable(out)}")


def _lines(one: Explanation) -> list[str]:
    from vggfeat.report.colour_scale import written

    sure = "" if one.probability is None else f", probability {one.probability:.3f}"
    lines = [f"score {written(one.score)}{sure}"]
    if one.exact:
        lines.append(
            f"= {written(one.map.favour)} for, {written(one.map.against)} against, "
            f"{written(one.constant)} of no place"
        )
    box = one.map.box()
    return [*lines, "nothing speaks for it" if box is None else f"box {box}"]


def draw_neighbour(
    image: str, options: dict[str, Any], *, out: str, dark: bool, as_json: bool
) -> None:
    """Draw and describe where an image and one of an index are alike."""
    from vggfeat.explain import SimilarityMaps
    from vggfeat.images import decode
    from vggfeat.index import SimilarityIndex
    from vggfeat.queries import ImageSearch
    from vggfeat.report import Panel, original, plot_heat
    from vggfeat.sources import Originals

    opened = SimilarityIndex.open(options["index"])
    extractor = ImageSearch(opened, options["weights"], options["device"]).extractor
    maps = SimilarityMaps(extractor, opened, options["heat"], options["at"])
    query = maps.seen(image)
    (ranked,) = opened.search(query.feature[None], max(1, _rank(options["neighbour"])))
    chosen = _chosen(options["neighbour"], ranked, opened)
    originals = Originals(opened.sources, options["roots"])
    source = opened.source(chosen[0])
    with originals.open(source, chosen[1]) as file:
        pair = maps.pair(query, maps.seen(decode(file, **extractor.reading)))
    theirs = original(originals, source, chosen[1])
    panels = [
        Panel("The query", image),
        Panel("where it is like the neighbour", image, pair.query, _box_of(pair, query=True)),
        Panel("The neighbour", theirs, lines=[chosen[1]]),
        Panel("where it is like the query", theirs, pair.image, _box_of(pair, query=False)),
    ]
    plot_heat(
        out,
        panels,
        title=f"{Path(image).name} and {chosen[1]}: where they are alike",
        subtitle=f"{maps.measure} {pair.score:.4f} by {opened.layer}, {maps.method.name} at "
        f"{maps.method.at}",
        unit=_AREA if maps.exact else _RELATIVE,
        dark=dark,
    )
    if as_json:
        print_json({"image": image, "neighbour": chosen[1]} | pair.to_json() | {"picture": out})
        return
    click.echo(f"{printable(image)} and {printable(chosen[1])}: {maps.measure} {pair.score:.4f}")
    for name, part in (("query", pair.query), ("neighbour", pair.image)):
        click.echo(f"box of the {name}: {part.box() or '-'}")
    click.echo(f"\nPicture: {printable(out)}")


def _rank(neighbour: str) -> int:
    return int(neighbour) if neighbour.isascii() and neighbour.isdigit() else 0


def _chosen(neighbour: str, ranked: list[Neighbour], opened: Any) -> tuple[int, str]:
    """Return the id and path of a neighbour, by its rank or path."""
    rank = _rank(neighbour)
    if not rank:
        return int(opened.ids_of([neighbour])[0]), neighbour
    if rank > len(ranked):
        raise SearchError(
            f"There is no neighbour {rank}: the index has {len(ranked)} images. Give a rank in "
            f"1..{len(ranked)}, or a path."
        )
    return ranked[rank - 1].id, ranked[rank - 1].path


def _box_of(pair: PairMaps, *, query: bool) -> list[str]:
    box = (pair.query if query else pair.image).box()
    return ["nothing is alike" if box is None else f"box {box}"]

"""``vggfeat encode``."""

from __future__ import annotations

import io
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from vggfeat.cli.choices import layers_option, seed_option
from vggfeat.cli.output import json_option, print_json, printable, share_bar, table

if TYPE_CHECKING:
    from vggfeat.encoding import Encoding, Projection

_TABLES = (".csv", ".npz")


def _projection(
    _ctx: click.Context, _parameter: click.Parameter, text: str | None
) -> Projection | None:
    """Read ``auto``, ``auto:E`` or a number of dimensions."""
    if text is None:
        return None
    from vggfeat.encoding import Projection

    word, _, given = text.partition(":")
    try:
        if word == "auto":
            distortion = float(given) if given else Projection().distortion
            if 0 < distortion < 1:
                return Projection(None, distortion)
        elif not given and int(word) > 0:
            return Projection(int(word))
    except ValueError:
        pass
    raise click.BadParameter(f"{text!r} is none of auto, auto:0.2 and a number such as 5000.")


def _out(_ctx: click.Context, _parameter: click.Parameter, path: str | None) -> str | None:
    if path is not None and Path(path).suffix.lower() not in _TABLES:
        raise click.BadParameter(f"{path!r} ends in none of {' and '.join(_TABLES)}.")
    return path


@click.command()
@click.argument("store", type=click.Path())
@click.argument("responses", type=click.Path())
@click.option(
    "--images",
    type=click.Path(),
    metavar="FILE",
    help="Which image each row of an array showed: a list or table of paths (of BIDS' events.tsv "
    "the column stim_file), or an array of stimulus numbers.  [default: RESPONSES' own column; "
    "RESPONSES.paths.csv; else the stimuli in their order]",
)
@click.option(
    "--first",
    type=click.IntRange(0, 1),
    help="Number of the first stimulus, where images are told by numbers that leave it open.",
)
@click.option(
    "--columns",
    metavar="NAME,...",
    help="Columns of a table that are targets.  [default: all of numbers, but onset, run ...]",
)
@click.option(
    "--skip-missing",
    is_flag=True,
    help="Leave out trials of images without features, which are an error otherwise.",
)
@layers_option
@click.option(
    "--folds",
    type=click.IntRange(min=2),
    metavar="K",
    help="Test K parts of the images in turn, of whole groups.  [default: the store's splits "
    "train, val and test, where it has them; else 5]",
)
@click.option(
    "--inner",
    type=click.IntRange(min=2),
    default=5,
    show_default=True,
    metavar="K",
    help="Parts of the training images that are held out in turn to choose penalties and layers.",
)
@click.option(
    "--scoring",
    type=click.Choice(["r2", "pearson"]),
    default="r2",
    show_default=True,
    help="What penalties and layers are chosen by.",
)
@click.option(
    "--banded",
    type=click.IntRange(min=0),
    metavar="N",
    help="Also predict from all layers together, each with a weight of its own: banded ridge, with "
    "N sets of weights drawn to choose from, such as 20.",
)
@click.option(
    "--project",
    "projection",
    callback=_projection,
    metavar="auto[:E]|K",
    help="Project longer features at random to K numbers, or to as many as keep squared distances "
    "within a share E (0.1) by the lemma of Johnson and Lindenstrauss.",
)
@click.option(
    "--nulls",
    type=click.IntRange(min=0),
    default=1000,
    show_default=True,
    metavar="N",
    help="Targets whose responses are exchanged between images, which give p; 0 for no p.",
)
@seed_option("the draws")
@click.option(
    "--out",
    type=click.Path(dir_okay=False),
    callback=_out,
    metavar="FILE",
    help="Write the scores of all targets as .csv, or as arrays in an .npz.",
)
@click.option(
    "--png",
    type=click.Path(dir_okay=False),
    metavar="PICTURE",
    help="Draw the scores as .png, .svg or .pdf.",
)
@json_option
def encode(store: str, responses: str, as_json: bool, **options: Any) -> None:
    """Predict RESPONSES of voxels, neurons or people from each layer of STORE.

    RESPONSES is a table (.csv, .tsv) with a column of images and a column a target, or an array
    (.npy, .h5#NAME, .mat#NAME) with a row a trial and a column a target. Trials of one image are
    averaged; their spread gives the noise ceiling. How rows were matched to images is said, and
    what does not fit is an error. See docs/science.md.

    Ridge regression, each target with a penalty of its own, is trained and tested on different
    images. Penalties and layers are chosen within the training images (nested cross-validation), so
    that no score has seen its test images. Scores are means over folds.

    \b
    Example:
      vggfeat encode photos.h5 ratings.csv
      vggfeat encode nsd.h5 betas.h5#betas --images trials.csv --out scores.csv --png scores.png
      vggfeat encode shared.h5 v4.mat#rates --images shown.txt --layers pool1,pool5 --banded 20
    """
    from vggfeat.encoding import encode as encoded
    from vggfeat.encoding import read_responses
    from vggfeat.report import destination, picture_destination, plot_encoding, write_whole
    from vggfeat.store import open_features

    out, picture = options.pop("out"), options.pop("png")
    if out:
        destination(out)  # refused now rather than after the work
    if picture:
        picture_destination(picture)
    named = tuple(
        name.strip() for name in (options.pop("columns") or "").split(",") if name.strip()
    )
    with ExitStack() as stack:
        features = stack.enter_context(open_features(store))
        measured = read_responses(
            responses, options.pop("images"), columns=named, first=options.pop("first")
        )
        stack.callback(measured.close)
        progress = stack.enter_context(share_bar())
        found = encoded(features, measured, options.pop("layers"), progress=progress, **options)
    files = {}
    if out:
        write_whole(out, _written(found, out))
        files["out"] = out
    if picture:
        plot_encoding(picture, found)
        files["png"] = picture
    if as_json:
        print_json(found.to_json(targets=out is None) | files)
        return
    click.echo("\n".join(_described(found)))
    for what, name in (("out", "Scores"), ("png", "Picture")):
        if what in files:
            click.echo(f"{name}: {printable(files[what])}")


def _written(found: Encoding, out: str) -> bytes:
    from vggfeat.tables import csv_line

    columns = found.columns()
    if Path(out).suffix.lower() == ".npz":
        file = io.BytesIO()
        np.savez(file, allow_pickle=False, **{k: np.asarray(v) for k, v in columns.items()})
        return file.getvalue()
    shown = [
        values if isinstance(values, list) else [_cell(value) for value in values]
        for values in columns.values()
    ]
    lines = [csv_line(columns), *map(csv_line, zip(*shown, strict=True))]
    return "".join(lines).encode()


def _cell(value: float) -> str:
    return "" if np.isnan(value) else repr(float(value))


def _described(found: Encoding) -> list[str]:
    fewest, most = found.repeats
    each = f"{most} each" if fewest == most else f"{fewest} to {most} each"
    trials = "" if most == 1 else f" ({found.n_trials:,} trials, {each})"
    lines = [
        f"{found.n_images:,} images{trials}, {len(found.names):,} "
        f"{'target' if len(found.names) == 1 else 'targets'} from {printable(found.origin)}; "
        f"matched {printable(found.matching)}",
        f"{found.division}; ridge, penalties and layers chosen by {_SCORE[found.scoring]}, seed "
        f"{found.seed}",
    ]
    left = [
        (found.blank, "trials without an image"),
        (found.missing, "trials of images without features"),
        (found.without, "images of the store without responses"),
        (len(found.reasons), "targets without a score (--out says why)"),
    ]
    if any(count for count, _ in left):
        lines.append("Left out: " + ", ".join(f"{n:,} {what}" for n, what in left if n))
    if np.isfinite(found.ceiling).any():
        lines.append(
            f"repeats: median noise ceiling of R2 {np.nanmedian(found.ceiling):.3f}, median "
            f"split-half reliability {np.nanmedian(found.reliability):.3f}"
        )
    if found.distortion is not None:
        promise = (
            f"squared distances keep within {found.distortion:.1%}"
            if np.isfinite(found.distortion)
            else "so few that nothing is promised of distances"
        )
        lines.append(f"longer features are projected at random: {promise}")
    return [*lines, "", *_layers(found), *_together(found)]


_SCORE = {"r2": "R2", "pearson": "Pearson's r"}


def _layers(found: Encoding) -> list[str]:
    ceiling = bool(np.isfinite(found.ceiling).any())
    header = ["layer", "numbers", "R2", "r", *(["of-ceiling"] if ceiling else []), "best-for", "s"]
    rows = []
    for one in found.layers:
        mark = "*" if one.p_behind == 1 and one.behind.value == 0 else " "
        if mark == " " and one.p_behind >= 0.05:
            mark = "~"
        size = f"{one.used:,}" + (f" of {one.dimension:,}" if one.used < one.dimension else "")
        rows.append([
            one.layer, size, f"{one.mean_r2}{mark}", str(one.mean_r),
            *([_mean(found.of_ceiling(one.scores), ".1%")] if ceiling else []),
            f"{one.chosen:.1%}" if np.isfinite(one.chosen) else "-", f"{one.seconds:.1f}",
        ])  # fmt: skip
    notes = [f"R2, r: means over targets that have them, on test images{_interval(found)}"]
    if len(rows) > 1:
        told = "; ~ not told apart from it (paired bootstrap, Holm, p >= 0.05)" * bool(
            found.samples
        )
        notes.append(f"* the best within the training images{told}")
    if len(rows) > 1:
        which = "targets with p < 0.05" if found.nulls else "all targets"
        notes.append(f"best-for: share of {which} that have their best inner score with a layer")
    if ceiling:
        notes.append(
            "of-ceiling: mean of R2 / noise ceiling of targets whose ceiling is 0.1 or more"
        )
    return [table(rows, header, right=" ".join(header[1:])), *notes]


def _interval(found: Encoding) -> str:
    return f", with {found.level:.0%} intervals of the bootstrap over them" * bool(found.samples)


def _together(found: Encoding) -> list[str]:
    best = found.best.scores
    ceiling = found.of_ceiling(best)
    share = f", {_mean(ceiling, '.1%')} of the ceiling" if np.isfinite(ceiling).any() else ""
    known = int(np.isfinite(best.r).sum())
    lines = ["", f"each target's own layer: R2 {_mean(best.r2)}, r {_mean(best.r)}{share}"]
    if found.nulls:
        lines.append(
            f"predicted better than by chance: {int((best.p < 0.05).sum()):,} of {known:,} targets "
            f"at p < 0.05, {int((found.q < 0.05).sum()):,} at a false discovery rate of 0.05 "
            f"({found.nulls:,} exchanges of images)"
        )
    if found.banded is not None:
        banded = found.banded
        parts = ", ".join(
            f"{one.layer} {_mean(banded.parts[at])}" for at, one in enumerate(found.layers)
        )
        lines.append(
            f"all layers together (banded, {banded.candidates} sets of weights): R2 "
            f"{_mean(banded.scores.r2)}, r {_mean(banded.scores.r)}; of R2: {parts}"
        )
    return lines


def _mean(values: Any, how: str = ".3f") -> str:
    known = values[np.isfinite(values)]
    return format(float(known.mean()), how) if len(known) else "-"

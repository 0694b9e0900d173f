"""Which labels rows get from a run: what is labelled stays, unless it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from vggfeat.errors import SourceError
from vggfeat.labels import Origin, RawLabels, Wanted, folder_level, from_folders, match
from vggfeat.labels.targets import Targets, from_names, unite

Rows = npt.NDArray[np.int64]
_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class LabelReport:
    """What the labels of a store are after a run, and where they came from.

    Attributes
    ----------
    origin : str
        ``folder:N`` (N-th folder of the path), ``source:NAME``, ``table:NAME``; empty where there
        are no labels, or where nobody noted it.
    images, unlabelled : int
        Images of the source with a label, and without.
    classes : int
        Classes of the store.
    multi_label : bool
        Whether an image may have several.
    matched, unmatched : int
        Of a table given now: its paths that are images of the source, and those that are not.
    unmatched_paths, unnamed_images : tuple of str
        Examples of paths that are no images, and of images that no line names.
    how : str
        What had to be done to the table's paths.
    unused : tuple of str
        Columns that were not used.
    changed : int
        Images that had another label, or lost theirs.
    notes : tuple of str
        What else a person should know.
    """

    origin: str = ""
    images: int = 0
    unlabelled: int = 0
    classes: int = 0
    multi_label: bool = False
    matched: int = 0
    unmatched: int = 0
    unmatched_paths: tuple[str, ...] = ()
    unnamed_images: tuple[str, ...] = ()
    how: str = ""
    unused: tuple[str, ...] = ()
    changed: int = 0
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class _Choice:
    """Names for some images: for all (``replace``), those named, or those without (``fill``)."""

    names: RawLabels
    origin: Origin
    mode: str
    report: LabelReport = field(default_factory=LabelReport)


def label(
    stored: Targets | None,
    stored_paths: Sequence[str],
    paths: Sequence[str],
    here: Rows,
    wanted: RawLabels | Wanted | None,
) -> tuple[Targets | None, LabelReport]:
    """Give rows the labels that a run asks for.

    Parameters
    ----------
    stored : Targets or None
        Labels of the store so far.
    stored_paths, paths : sequence of str
        Images of the store so far, and with those that this run adds at the end.
    here : ndarray of int64
        Rows whose images are in the source now, ascending.
    wanted : Wanted, dict or None
        What is asked for. Of bare labels, images that they do not name become unlabelled; empty
        or None leaves all as it is.

    Returns
    -------
    targets : Targets or None
        Labels of all rows.
    report : LabelReport

    Raises
    ------
    SourceError
        What was asked for is not there: a table none of whose paths is an image of the source, a
        source without labels of its own, no folders.
    """
    mine = [paths[row] for row in here]
    if stored is not None:
        stored = stored.composed()
    choice = _choose(stored, stored_paths, mine, wanted)
    anew = isinstance(wanted, Wanted) and wanted.kind != "auto"
    targets = _apply(stored, len(stored_paths), paths, here, choice, anew)
    before = unite(len(paths), [(np.arange(len(stored_paths)), stored)])
    known = targets.known[here] if targets is not None else np.zeros(len(here), bool)
    report = replace(
        choice.report if choice is not None else LabelReport(),
        origin=str(targets.origin) if targets is not None else "",
        images=int(known.sum()),
        unlabelled=int((~known).sum()),
        classes=len(targets.classes) if targets is not None else 0,
        multi_label=targets is not None and targets.multi_label,
        changed=_changed(before, targets),
    )
    if isinstance(wanted, Wanted):
        report = _with_columns(report, wanted)
    return targets, report


def _choose(
    stored: Targets | None,
    stored_paths: Sequence[str],
    mine: list[str],
    wanted: RawLabels | Wanted | None,
) -> _Choice | None:
    if not isinstance(wanted, Wanted):
        return _Choice(wanted, Origin(), "replace") if wanted else None
    if wanted.kind == "none":
        return None
    origin = Origin()
    if stored is not None:
        origin = stored.origin if stored.origin.kind else _inferred(stored, stored_paths, wanted)
    own = Origin("source", wanted.own_name)
    if wanted.kind == "table":
        return _from_table(wanted, mine, "replace" if origin.kind == "folder" else "update")
    if wanted.kind == "source":
        if not wanted.own:
            raise SourceError(
                f"{wanted.own_name or 'The source'} says no labels of its own: only lists with a "
                "column of labels and archives with .cls members do. Give --labels FILE or folder."
            )
        return _Choice(wanted.own, own, "replace")
    if wanted.kind == "folder":
        names, level = _folders(mine, wanted.level)
        if not names:
            raise SourceError(
                f"No image lies in a folder at level {level}, for example {mine[0]!r}. "
                "--labels folder:1 takes the first folder of each path for its class."
            )
        return _Choice(names, Origin("folder", str(level)), "replace")
    if stored is None:
        if wanted.own is not None:
            return _Choice(wanted.own, own, "replace")
        names, level = _folders(mine, None)
        return _Choice(names, Origin("folder", str(level)), "replace")
    if origin.kind == "folder" and wanted.several_sources and wanted.own is not None:
        return _Choice(wanted.own, own, "replace")
    if origin.kind == "folder":
        return _Choice(from_folders(mine, origin.level), origin, "replace")
    if not wanted.own:
        return None
    if origin.kind == "source":
        return _Choice(wanted.own, own, "update")
    return _Choice(wanted.own, origin, "fill")


def _folders(mine: list[str], level: int | None) -> tuple[RawLabels, int]:
    level = folder_level(mine) if level is None else level
    return from_folders(mine, level), level


def _from_table(wanted: Wanted, mine: list[str], mode: str) -> _Choice:
    table = wanted.table
    assert table is not None
    found = match(table.paths, mine, wanted.root)
    given = dict(zip(table.paths, found.keys, strict=True))
    lost = [path for path, key in given.items() if key is None]
    named = set(found.keys)
    unnamed = [path for path in mine if path not in named]
    if not found.count:
        raise SourceError(
            f"None of the {len(given):,} paths of {table.file!r} is an image of the source. The "
            f"table has {_listed(lost)}; the source has {_listed(mine)}. Write paths relative to "
            "the source."
        )
    names = table.by_key(found.keys)
    if not names:
        raise SourceError(
            f"{table.file!r} gives no label to any of the {found.count:,} images that it names. "
            f"Fill in {' or '.join(map(repr, table.used))}, or give --labels none."
        )
    report = LabelReport(
        matched=len(given) - len(lost),
        unmatched=len(lost),
        unmatched_paths=tuple(lost[:_EXAMPLES]),
        unnamed_images=tuple(unnamed[:_EXAMPLES]),
        how=found.how,
    )
    return _Choice(names, wanted.table_origin, mode, report)


def _inferred(stored: Targets, paths: Sequence[str], wanted: Wanted) -> Origin:
    """Tell where labels came from that were made before stores remembered it."""
    shown = [stored.names(row) for row in range(len(paths))]
    deepest = max(path.count("/") for path in paths)
    if not stored.multi_label:
        for level in dict.fromkeys((folder_level(paths), *range(1, deepest + 1))):
            names = from_folders(paths, level)
            if all(names.get(path, ()) == own for path, own in zip(paths, shown, strict=True)):
                return Origin("folder", str(level))
    if wanted.own and all(
        set(wanted.own[path]) == set(own)
        for path, own in zip(paths, shown, strict=True)
        if path in wanted.own
    ):
        return Origin("source", wanted.own_name)
    return Origin()


def _apply(
    stored: Targets | None,
    count: int,
    paths: Sequence[str],
    here: Rows,
    choice: _Choice | None,
    anew: bool,
) -> Targets | None:
    if choice is None:
        return unite(len(paths), [(np.arange(count), stored)])
    rows = here
    if choice.mode != "replace":
        rows = here[[paths[row] in choice.names for row in here]]
    if choice.mode == "fill" and stored is not None:
        labelled = np.concatenate([stored.known, np.zeros(len(paths) - count, bool)])
        rows = rows[~labelled[rows]]
    kept = np.setdiff1d(np.arange(count), rows, assume_unique=True)
    left = replace(stored, values=stored.values[kept]) if stored is not None else None
    if anew and left is not None and not left.known.any():
        left = None  # no image holds on to the old classes
    given = from_names([paths[row] for row in rows], choice.names)
    targets = unite(len(paths), [(kept, left), (rows, given)])
    if targets is None or not targets.classes:
        return None
    return replace(targets, origin=choice.origin)


def _changed(before: Targets | None, after: Targets | None) -> int:
    """Count the rows that had a label and have another, or none."""
    if before is None:
        return 0
    if after is None:
        return int(before.known.sum())
    if before == after:
        return 0
    classes = tuple(dict.fromkeys((*before.classes, *after.classes)))
    multi_label = before.multi_label or after.multi_label
    old, new = (each.for_classes(classes, multi_label=multi_label) for each in (before, after))
    differ = ((old == 1) != (new == 1)).any(axis=1) if multi_label else old != new
    return int((differ & before.known).sum())


def _with_columns(report: LabelReport, wanted: Wanted) -> LabelReport:
    """Name the columns that nothing was made of."""
    file = wanted.table or wanted.own_file
    if file is None:
        return report
    return replace(report, unused=file.unused, notes=tuple(file.notes))


def _listed(paths: Sequence[str]) -> str:
    return ", ".join(map(repr, paths[:_EXAMPLES])) + (" and more" if len(paths) > _EXAMPLES else "")

"""Which labels rows get from a run: what is labelled stays, unless a run says otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from vggfeat.errors import SourceError
from vggfeat.labels import (
    LabelRequest,
    NamesRequest,
    Origin,
    RawLabels,
    folder_level,
    from_folders,
    match,
    split_level,
)
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
    splits : dict of str to int
        Images of the source in each split.
    unsplit : int
        Those in none, where there are splits.
    split_origin, group_origin : str
        Where these came from: as `origin`, ``lists:NAMES`` or ``pattern:EXPRESSION``.
    groups, ungrouped : int
        Groups of the source's images, and images in none.
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
    splits: dict[str, int] = field(default_factory=dict)
    unsplit: int = 0
    split_origin: str = ""
    groups: int = 0
    ungrouped: int = 0
    group_origin: str = ""

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
    stored: Mapping[str, Targets | None],
    stored_paths: Sequence[str],
    paths: Sequence[str],
    here: Rows,
    request: RawLabels | LabelRequest | None,
) -> tuple[dict[str, Targets | None], LabelReport]:
    """Give rows the labels, splits and groups that a run asks for.

    Parameters
    ----------
    stored : dict of str to Targets or None
        ``targets``, ``splits`` and ``groups`` of the store so far.
    stored_paths, paths : sequence of str
        Images of the store so far, and with those that this run adds at the end.
    here : ndarray of int64
        Rows whose images are in the source now, ascending.
    request : LabelRequest, dict or None
        What is requested. Of bare labels, images that they do not name become unlabelled; empty
        or None leaves all as it is.

    Returns
    -------
    named : dict of str to Targets or None
        ``targets``, ``splits`` and ``groups`` of all rows.
    report : LabelReport

    Raises
    ------
    SourceError
        What was requested is not there: a table none of whose paths is an image of the source, a
        source without labels of its own, no folders.
    """
    mine = [paths[row] for row in here]
    named: dict[str, Targets | None] = {}
    for name in ("splits", "groups"):
        names = getattr(request, name) if isinstance(request, LabelRequest) else None
        old = stored.get(name)
        chosen = _choose_names(old, mine, names) if names is not None else None
        forced = names is not None and names.kind != "auto"
        named[name] = _apply(old, len(stored_paths), paths, here, chosen, forced)
    labels = stored.get("targets")
    if labels is not None:
        labels = labels.composed()
    choice = _choose(labels, stored_paths, mine, request, named["splits"])
    anew = isinstance(request, LabelRequest) and request.kind != "auto"
    targets = _apply(labels, len(stored_paths), paths, here, choice, anew)
    before = unite(len(paths), [(np.arange(len(stored_paths)), labels)])
    report = report_of(
        named | {"targets": targets}, here, choice.report if choice is not None else None
    )
    report = replace(report, changed=_changed(before, targets))
    if isinstance(request, LabelRequest):
        report = _with_columns(report, request)
    if targets is not None and targets.origin.kind == "folder" and named["splits"] is not None:
        level = split_level(mine)
        if level == targets.origin.level:
            note = (
                f"the classes are folders that look like splits; `--labels folder:{level + 1}` "
                "takes the folders below them for classes"
            )
            report = replace(report, notes=(*report.notes, note))
    return named | {"targets": targets}, report


def report_of(
    named: Mapping[str, Targets | None], here: Rows, report: LabelReport | None = None
) -> LabelReport:
    """Tell what the labels, splits and groups of a store are.

    Parameters
    ----------
    named : dict of str to Targets or None
        ``targets``, ``splits`` and ``groups`` of all rows.
    here : ndarray of int64
        Rows whose images are in the source.
    report : LabelReport, optional
        What else is to be told.
    """
    targets = named["targets"]
    known = targets.known[here] if targets is not None else np.zeros(len(here), bool)
    return replace(
        report or LabelReport(),
        origin=str(targets.origin) if targets is not None else "",
        images=int(known.sum()),
        unlabelled=int((~known).sum()),
        classes=len(targets.classes) if targets is not None else 0,
        multi_label=targets is not None and targets.multi_label,
        **_facts(named, here),
    )


def _choose(
    stored: Targets | None,
    stored_paths: Sequence[str],
    mine: list[str],
    request: RawLabels | LabelRequest | None,
    splits: Targets | None,
) -> _Choice | None:
    if not isinstance(request, LabelRequest):
        return _Choice(request, Origin(), "replace") if request else None
    if request.kind == "none":
        return None
    origin = Origin()
    if stored is not None:
        origin = stored.origin if stored.origin.kind else _inferred(stored, stored_paths, request)
    of_source = Origin("source", request.source_name)
    if request.kind == "table":
        return _from_table(request, mine, "replace" if origin.kind == "folder" else "update")
    if request.kind == "source":
        if not request.from_source:
            raise SourceError(
                f"{request.source_name or 'The source'} says no labels of its own: only lists and "
                "tables with a column of labels and archives with .cls members do. Give --labels "
                "FILE or folder."
            )
        return _Choice(request.from_source, of_source, "replace")
    if request.kind == "folder":
        names, level = _folders(mine, request.level, splits)
        if not names:
            raise SourceError(
                f"No image lies in a folder at level {level}, for example {mine[0]!r}. "
                "--labels folder:1 takes the first folder of each path for its class."
            )
        return _Choice(names, Origin("folder", str(level)), "replace")
    if stored is None:
        if request.from_source is not None:
            return _Choice(request.from_source, of_source, "replace")
        names, level = _folders(mine, None, splits)
        return _Choice(names, Origin("folder", str(level)), "replace")
    if origin.kind == "folder" and request.several_sources and request.from_source is not None:
        return _Choice(request.from_source, of_source, "replace")
    if origin.kind == "folder":
        return _Choice(from_folders(mine, origin.level), origin, "replace")
    if not request.from_source:
        return None
    if origin.kind == "source":
        return _Choice(request.from_source, of_source, "update")
    return _Choice(request.from_source, origin, "fill")


def _folders(mine: list[str], level: int | None, splits: Targets | None) -> tuple[RawLabels, int]:
    """Return labels from folders, and their level: by default below that of the splits."""
    if level is None:
        of_splits = splits is not None and splits.origin.kind == "folder"
        level = splits.origin.level + 1 if splits and of_splits else folder_level(mine)
    return from_folders(mine, level), level


def _choose_names(stored: Targets | None, mine: list[str], request: NamesRequest) -> _Choice | None:
    """Return the splits or groups that a run asks for; None leaves what is there."""

    def chosen(names: Mapping[str, str], origin: Origin, mode: str) -> _Choice:
        return _Choice({path: (name,) for path, name in names.items()}, origin, mode)

    if request.kind == "none":
        return chosen({}, Origin(), "replace")
    if request.kind in ("folder", "pattern"):
        origin = Origin(request.kind, request.detail)
        return chosen(request.from_paths(origin, mine), origin, "replace")
    by_paths = stored is not None and stored.origin.kind in ("folder", "pattern")
    if request.kind == "given":  # lists say of each image in which split it is, if any
        whole = by_paths or request.origin.kind == "lists"
        return chosen(request.names, request.origin, "replace" if whole else "update")
    if stored is None:
        level = split_level(mine) if request.of_splits and request.from_source is None else None
        if level is not None:
            origin = Origin("folder", str(level))
            return chosen(request.from_paths(origin, mine), origin, "replace")
    elif by_paths:
        return chosen(request.from_paths(stored.origin, mine), stored.origin, "replace")
    elif stored.origin.kind != "source":
        return None
    if request.from_source is None:
        return None
    return chosen(request.from_source, Origin("source", request.source_name), "update")


def _facts(named: Mapping[str, Targets | None], here: Rows) -> dict[str, Any]:
    """Return what a report says of splits and groups."""
    splits, groups = named["splits"], named["groups"]
    facts: dict[str, Any] = {}
    if splits is not None:
        facts["splits"] = splits.counts(here)
        facts["unsplit"] = int((~splits.known[here]).sum())
        facts["split_origin"] = str(splits.origin)
    if groups is not None:
        facts["groups"] = len(groups.counts(here))
        facts["ungrouped"] = int((~groups.known[here]).sum())
        facts["group_origin"] = str(groups.origin)
    return facts


def _from_table(request: LabelRequest, mine: list[str], mode: str) -> _Choice:
    table = request.table
    assert table is not None
    matching = match(table.paths, mine, request.root)
    given = dict(zip(table.paths, matching.keys, strict=True))
    lost = [path for path, key in given.items() if key is None]
    named = set(matching.keys)
    unnamed = [path for path in mine if path not in named]
    if not matching.count:
        raise SourceError(
            f"None of the {len(given):,} paths of {table.file!r} is an image of the source. The "
            f"table has {_listed(lost)}; the source has {_listed(mine)}. Write paths relative to "
            "the source."
        )
    names = table.by_key(matching.keys)
    if not names:
        raise SourceError(
            f"{table.file!r} gives no label to any of the {matching.count:,} images that it names. "
            f"Fill in {' or '.join(map(repr, table.used))}, or give --labels none."
        )
    report = LabelReport(
        matched=len(given) - len(lost),
        unmatched=len(lost),
        unmatched_paths=tuple(lost[:_EXAMPLES]),
        unnamed_images=tuple(unnamed[:_EXAMPLES]),
        how=matching.how,
    )
    return _Choice(names, request.table_origin, mode, report)


def _inferred(stored: Targets, paths: Sequence[str], request: LabelRequest) -> Origin:
    """Tell where labels came from that were made before stores remembered it."""
    shown = [stored.names(row) for row in range(len(paths))]
    deepest = max(path.count("/") for path in paths)
    if not stored.multi_label:
        for level in dict.fromkeys((folder_level(paths), *range(1, deepest + 1))):
            names = from_folders(paths, level)
            if all(names.get(path, ()) == label for path, label in zip(paths, shown, strict=True)):
                return Origin("folder", str(level))
    if request.from_source and all(
        set(request.from_source[path]) == set(label)
        for path, label in zip(paths, shown, strict=True)
        if path in request.from_source
    ):
        return Origin("source", request.source_name)
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


def _with_columns(report: LabelReport, request: LabelRequest) -> LabelReport:
    """Name the columns that nothing was made of."""
    file = request.table or request.source_list
    if file is None:
        return report
    used = {request.splits.heading, request.groups.heading}
    unused = tuple(name for name in file.unused if name not in used)
    return replace(report, unused=unused, notes=tuple(file.notes))


def _listed(paths: Sequence[str]) -> str:
    return ", ".join(map(repr, paths[:_EXAMPLES])) + (" and more" if len(paths) > _EXAMPLES else "")

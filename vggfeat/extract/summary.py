"""What a run of extraction did."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from vggfeat.store import LabelReport


@dataclass(frozen=True, slots=True)
class ExtractSummary:
    """What a run of :meth:`FeatureExtractor.extract` did.

    Attributes
    ----------
    store : str
        Path of the store.
    images : int
        Images of the source, and of other sources in the store.
    done, failed, pending : int
        How they stand after the run.
    tried, computed : int
        Images that this run took up, and those whose features it wrote.
    added, changed, moved, missing, pruned, left_out : int
        Images new since the last run; changed since; found under another path, with the features
        they had; no longer in the source (their rows wait for their return); rows removed for
        that; and files of the source that are no images.
    failures : list of (str, str)
        Path and reason of the failed rows.
    seconds : float
        Time from the first image to the last, without listing files and loading the network.
    truncated : int
        Images of this run that were accepted although their end is missing.
    several_pages : int
        Images of this run that have more pages or frames than the first, which was taken.
    labels : LabelReport
        What the labels are now, and where they came from.
    parts, parts_left : int
        Parts of the store, and those that are not finished; 0 where it is one file.
    failed_parts : list of (int, str)
        Number and reason of the parts that a run on Ray gave up after several attempts.
    """

    store: str
    images: int
    done: int
    failed: int
    pending: int
    tried: int
    computed: int
    added: int
    changed: int
    moved: int
    missing: int
    pruned: int
    left_out: int
    failures: list[tuple[str, str]]
    seconds: float
    truncated: int = 0
    several_pages: int = 0
    labels: LabelReport = field(default_factory=LabelReport)
    parts: int = 0
    parts_left: int = 0
    failed_parts: list[tuple[int, str]] = field(default_factory=list)

    @property
    def images_per_second(self) -> float:
        """Rate of this run; 0 when there was nothing to do."""
        return self.computed / self.seconds if self.computed else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        failures = [{"path": path, "reason": why} for path, why in self.failures]
        rate = round(self.images_per_second, 2)
        return asdict(self) | {
            "failures": failures,
            "failed_parts": [{"part": part, "reason": why} for part, why in self.failed_parts],
            "images_per_second": rate,
            "labels": self.labels.to_json(),
        }

"""What an index knows beyond its vectors."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from vggfeat.index.excluded import Excluded
from vggfeat.provenance import Provenance

if TYPE_CHECKING:
    from vggfeat.index.preparing import Metric
    from vggfeat.index.rows import Rows
    from vggfeat.index.settings import Files, LeftOut, Settings
    from vggfeat.provenance import FeatureConfig, RunInfo
    from vggfeat.whitening import Whitening


@dataclass(frozen=True, slots=True, eq=False)
class Catalogue:
    """An index without its vectors.

    Attributes
    ----------
    layer : str
        Canonical name of the layer that the vectors are features of.
    metric : {"cosine", "l2", "ip"}
    config : FeatureConfig
        Of the stores, narrowed to `layer`.
    sources : tuple of RunInfo
        Runs that the images come from, see :attr:`Rows.origin`.
    rows : Rows
        Whose the vectors are.
    longest : float
        Length of the longest vector.
    left_out : LeftOut
        Rows of the stores that are not in the index.
    settings : Settings
    files : Files
    whitening : Whitening, optional
        Applied to all vectors and queries.
    excluded : Excluded
        Images that were removed by hand.
    stores : tuple of str
        Paths of all stores that images came from; empty where not all are known.
    """

    layer: str
    metric: Metric
    config: FeatureConfig
    sources: tuple[RunInfo, ...]
    rows: Rows
    longest: float
    left_out: LeftOut
    settings: Settings
    files: Files
    whitening: Whitening | None = None
    excluded: Excluded = field(default_factory=Excluded)
    stores: tuple[str, ...] = ()

    @property
    def provenance(self) -> Provenance:
        """Of the first source."""
        return Provenance(self.config, self.sources[0])

    def changed(self, **values: Any) -> Self:
        """Return it with some fields replaced."""
        return replace(self, **values)

"""Which stores were scored, as results say it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from vggfeat.feature_table import FeatureTable
    from vggfeat.probe.division import Division


class LayerScoreLike(Protocol):
    """A dataclass that says how well a layer scored."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def layer(self) -> str:
        """Canonical name."""


@dataclass(frozen=True, slots=True)
class ScoredStore:
    """A store whose layers were scored.

    Attributes
    ----------
    path : str
        Of its file.
    model, weights : str
        What made its features.
    layers : dict of str to str
        The requested layers in the order they run, each with its pooling.
    """

    path: str
    model: str
    weights: str
    layers: Mapping[str, str]

    @classmethod
    def of(cls, store: FeatureTable, layers: Sequence[str]) -> ScoredStore:
        """Describe an open store, of which these layers are requested."""
        config = store.provenance.config
        pools = {layer: config.layers[layer] for layer in layers}
        return cls(str(store.path), config.model, store.latest.weights, pools)

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values, without the layers, which scores name."""
        return {"store": self.path, "model": self.model, "weights": self.weights}

    def with_scores(self, scores: Sequence[LayerScoreLike]) -> dict[str, Any]:
        """Return :meth:`to_json` with what its layers scored, and which could not be."""
        layers = [{**asdict(one), "pooling": self.layers[one.layer]} for one in scores]
        left_out = self.left_out([one.layer for one in scores])
        return {**self.to_json(), "layers": layers, "left_out": left_out}

    def left_out(self, scored: Sequence[str]) -> list[str]:
        """Return the requested layers that are not among those scored."""
        return [layer for layer in self.layers if layer not in scored]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassScores:
    """Scores of how well classes are told apart, and what scores without any knowledge.

    Attributes
    ----------
    classes : tuple of str
        Names of the K classes.
    majority : float or None
        Share of the test images that are of the commonest training class (of all, where training
        is drawn to have as many of each): the accuracy of always naming that one. None of several
        labels an image.
    present : float or None
        Of several labels an image: how many of the test images show a class, as the mean share
        over the classes; None of one label.
    settings : dict
        What else decided the scores, JSON-ready.
    """

    classes: tuple[str, ...]
    majority: float | None
    present: float | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def multi_label(self) -> bool:
        """Whether images have several labels each."""
        return self.present is not None

    @property
    def chance(self) -> float:
        """Score of guessing: 1 / K of accuracy and mean class recall; of mAP :attr:`present`."""
        return 1 / len(self.classes) if self.present is None else self.present


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerScores(ClassScores):
    """Scores of the layers of one or more stores, all on the same images.

    Attributes
    ----------
    n_train, n_test : int
        How many images were learnt from, or could vote, and how many were named.
    stores : tuple of ScoredStore
        The stores, as `scores` has them.
    division : Division or None
        How images were divided; None where each was named by all the others.
    """

    n_train: int
    n_test: int
    stores: tuple[ScoredStore, ...] = ()
    division: Division | None = None

    def protocol(self) -> dict[str, Any]:
        """Return how the scores came about, JSON-ready."""
        return {
            **self.settings,
            "division": None if self.division is None else self.division.to_json(),
            "multi_label": self.multi_label,
            "classes": list(self.classes),
            "n_train": self.n_train,
            "n_test": self.n_test,
            "chance": self.chance,
            "majority": self.majority,
        }

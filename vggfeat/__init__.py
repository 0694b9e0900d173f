"""vggfeat: features of VGG networks over folders of photos, and what they are good for.

>>> from vggfeat import FeatureExtractor, FeatureStore, LinearProbe, SimilarityIndex

Names are imported when they are first used, so that ``import vggfeat`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from vggfeat import showing
from vggfeat._version import __version__
from vggfeat.errors import VggfeatError

if TYPE_CHECKING:
    from vggfeat.extract import FeatureExtractor
    from vggfeat.feature_table import FeatureTable
    from vggfeat.finetuning import finetune
    from vggfeat.index import SimilarityIndex
    from vggfeat.probe import LinearProbe, RidgeProbe
    from vggfeat.protocols import evaluate, evaluate_retrieval
    from vggfeat.store import FeatureStore

__all__ = [
    "FeatureExtractor",
    "FeatureStore",
    "FeatureTable",
    "LinearProbe",
    "RidgeProbe",
    "SimilarityIndex",
    "VggfeatError",
    "__version__",
    "evaluate",
    "evaluate_retrieval",
    "finetune",
]

_HOMES = {
    "FeatureExtractor": "vggfeat.extract",
    "FeatureStore": "vggfeat.store",
    "FeatureTable": "vggfeat.feature_table",
    "LinearProbe": "vggfeat.probe",
    "RidgeProbe": "vggfeat.probe",
    "SimilarityIndex": "vggfeat.index",
    "evaluate": "vggfeat.protocols",
    "evaluate_retrieval": "vggfeat.protocols",
    "finetune": "vggfeat.finetuning",
}


# What stands on low floors is shown by what stands above them, once somebody looks.
showing.shown_by(
    lambda shown: str(importlib.import_module("vggfeat.notebook").html(shown)),
    lambda drawn, dark: importlib.import_module("vggfeat.notebook").draw(drawn, dark),
)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__

"""Stores of features, one row an image, that no kill can leave half-written: files, or parts.

``docs/store-format.md`` specifies the file. Reading is :class:`FeatureStore`, writing is
:class:`StoreWriter`; :func:`merge`, :func:`export` and :func:`export_parts` make other files of
finished ones.
"""

from __future__ import annotations

from vggfeat.feature_table import DONE, FAILED, PENDING
from vggfeat.provenance import SourcePlace
from vggfeat.store.contents import FORMAT, FORMAT_VERSION
from vggfeat.store.export_parts import PartsReport, export_parts
from vggfeat.store.exporting import export
from vggfeat.store.labelling import LabelReport
from vggfeat.store.lookup import fresh_rows
from vggfeat.store.merging import MergeReport, merge
from vggfeat.store.reader import FeatureStore, open_features
from vggfeat.store.redoing import redo
from vggfeat.store.verification import Problem, VerifyReport
from vggfeat.store.writer import StoreWriter

__all__ = [
    "DONE",
    "FAILED",
    "FORMAT",
    "FORMAT_VERSION",
    "PENDING",
    "FeatureStore",
    "LabelReport",
    "MergeReport",
    "PartsReport",
    "Problem",
    "SourcePlace",
    "StoreWriter",
    "VerifyReport",
    "export",
    "export_parts",
    "fresh_rows",
    "merge",
    "open_features",
    "redo",
]

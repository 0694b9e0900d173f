"""Stores of parts: a folder of plain stores, each one unit of work, and a manifest of their images.

``docs/store-format.md`` specifies the folder. :func:`plan` lists images and cuts them into parts,
:func:`open_part` writes one, and :class:`PartedStore` reads all as one table.
"""

from __future__ import annotations

from vggfeat.store.parts.folder import is_parted, wants_parts
from vggfeat.store.parts.manifest import Manifest, Part
from vggfeat.store.parts.planning import PartPlan, find_parts, plan
from vggfeat.store.parts.reader import PartedStore
from vggfeat.store.parts.states import PartState, part_states
from vggfeat.store.parts.working import PartWriter, forget_failures, open_part

__all__ = [
    "Manifest",
    "Part",
    "PartPlan",
    "PartState",
    "PartWriter",
    "PartedStore",
    "find_parts",
    "forget_failures",
    "is_parted",
    "open_part",
    "part_states",
    "plan",
    "wants_parts",
]

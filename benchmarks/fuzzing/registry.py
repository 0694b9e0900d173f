"""All kinds of files that are tried."""

from __future__ import annotations

from fuzzing import indexes, probes, stores, weights

KINDS = {kind.name: kind for kind in (*stores.KINDS, *probes.KINDS, *indexes.KINDS, *weights.KINDS)}

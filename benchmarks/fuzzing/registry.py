"""All kinds of files that are tried."""

from __future__ import annotations

from fuzzing import indexes, probes, ridges, stores, weights

KINDS = {
    kind.name: kind for kinds in (stores, probes, ridges, indexes, weights) for kind in kinds.KINDS
}

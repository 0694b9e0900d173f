"""A store in a page of facts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vggfeat.store.reader import FeatureStore


def describe(store: FeatureStore) -> dict[str, Any]:
    """Return what a store holds and how it was made, JSON-ready: counts, layers, labels, runs."""
    layers = [
        {
            "layer": name,
            "pooling": store.provenance.config.layers[name],
            "shape": list(store[name].shape),
            "dtype": store[name].dtype.name,
            "bytes": int(store[name].nbytes),
        }
        for name in store.layers
    ]
    labels = None
    if store.has_labels:
        labels = {
            "kind": "multi-label" if store.multi_label else "single-label",
            "origin": str(store.label_origin),
            "classes": store.classes,
        }
    return {
        "store": str(store.path),
        "rows": len(store),
        **store.counts(),
        "left": int((~store.present).sum()),
        "layers": layers,
        "labels": labels,
        "deciding": store.provenance.config.to_json(),
        "happened": store.provenance.run.to_json(),
        "sources": [source._asdict() for source in store.sources],
        "runs": [run.to_json() for run in store.runs],
        "failures": [{"path": path, "reason": reason} for path, reason in store.failures()],
    }

"""Every error that vggfeat raises on purpose, under one root.

A message says the value, what was allowed and the remedy, so that the command line can show it
as it is. The command line turns any :class:`VggfeatError` into exit status 1.
"""

from __future__ import annotations


class VggfeatError(Exception):
    """Root of all errors raised by vggfeat."""


class LayerError(VggfeatError, ValueError):
    """An unknown model, layer or pooling was asked for."""


class SourceError(VggfeatError):
    """A source of images (folder, list, archive) cannot be read."""


class ImageError(VggfeatError):
    """One image cannot be decoded; its message is the reason that a store records."""


class WeightsError(VggfeatError):
    """Weights are missing, unreadable, or do not fit the network."""


class DeviceError(VggfeatError, ValueError):
    """A device or precision was asked for that this machine cannot provide."""


class EngineError(VggfeatError):
    """The Winograd engine was given, or did, what its checks forbid: a defect of vggfeat's."""


class StoreError(VggfeatError):
    """A store is missing, damaged, or used in a way its format does not allow."""


class StoreLockedError(StoreError):
    """Another process is writing the store."""


class StoreMismatchError(StoreError):
    """Settings that change the features differ between a store and what was asked for."""


class ProbeError(VggfeatError, ValueError):
    """A probe cannot be trained, saved, read or applied."""


class EncodingError(VggfeatError, ValueError):
    """Responses cannot be read, matched to images, or predicted."""


class TrainingError(VggfeatError, ValueError):
    """A network cannot be trained on one's own images, or training cannot go on."""


class SearchError(VggfeatError, ValueError):
    """An index cannot be built, read or searched."""


class ClusterError(VggfeatError):
    """A cluster cannot be reached, or a task failed on it."""


class PlotError(VggfeatError, ValueError):
    """A picture cannot be drawn from what it was given."""


class RepresentationError(VggfeatError, ValueError):
    """An RDM cannot be computed, saved or read, or representations cannot be compared."""


class WhiteningError(VggfeatError, ValueError):
    """A whitening cannot be learnt, saved, read or applied."""


class ServeError(VggfeatError):
    """The server of an index cannot start."""

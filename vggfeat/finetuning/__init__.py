"""Training the last layers of a network on one's own images, beginning with a linear probe.

:mod:`~vggfeat.finetuning.finetuning` is what one touches. It follows a
:mod:`~vggfeat.finetuning.recipe`: maps of the layer before the first trained one are kept
(:mod:`~vggfeat.finetuning.caching`), images divided (:mod:`~vggfeat.finetuning.data`) and told what
to learn (:mod:`~vggfeat.finetuning.tasks`), read in shuffled blocks
(:mod:`~vggfeat.finetuning.order`, :mod:`~vggfeat.finetuning.feeding`) into what is trained
(:mod:`~vggfeat.finetuning.model`, :mod:`~vggfeat.finetuning.training`), whose state survives a kill
(:mod:`~vggfeat.finetuning.checkpoint`); then it is scored beside the linear probe
(:mod:`~vggfeat.finetuning.results`) and written (:mod:`~vggfeat.finetuning.writing`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vggfeat.finetuning.recipe import Recipe

if TYPE_CHECKING:
    from vggfeat.finetuning.finetuning import finetune

__all__ = ["Recipe", "finetune"]


def __getattr__(name: str) -> Any:
    # When it is used: the command's options know recipes, and need none of what training does.
    if name != "finetune":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from vggfeat.finetuning.finetuning import finetune as found

    return found

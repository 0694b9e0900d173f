"""The caller's torch kept away from the network, and the network's from the caller.

What a program has set in torch decides numbers: ``torch.autocast`` rounds float32 to 8 or 11 bits
(errors of 7e-3), reduced precision of products and convolutions to 8 or 11 bits (1e-3), and the
default dtype and device decide what tensors without their own become. A network here is built and
run without any of it.

- Of the thread alone, and so changed and brought back without anybody's notice: inference mode,
  gradients, autocast, and the default device.
- Of the whole process: the precision of float32 products (TF32, bfloat16). It is exact while any
  network runs, for all threads of the process, and afterwards what it was before.
- Of the whole process, and left alone: the default dtype, since nothing here takes it; the number
  of threads, deterministic algorithms and cuDNN's choices, which are the caller's to make.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from vggfeat.shared import SharedSetting

_EXACT = ("none", "ieee")  # "none": as what it is part of, and in the end as "ieee"


@contextmanager
def plain_torch() -> Iterator[None]:
    """Build a network as if the caller's thread had set nothing, for the length of a block."""
    # Tensors made in inference mode could not be changed outside of it later.
    with torch.inference_mode(False), torch.no_grad(), torch.device("cpu"):
        yield


@contextmanager
def own_torch(device: torch.device, *, gradients: bool = False) -> Iterator[None]:
    """Run a network on a device as if the caller had set nothing, for the length of a block.

    Without inference mode, since tensors that are made in it cannot take part in autograd later.
    """
    with (
        torch.inference_mode(False),
        torch.set_grad_enabled(gradients),
        torch.autocast(device.type, enabled=False),
        _exact_products(),
    ):
        yield


def _exact() -> Callable[[], None]:
    """Make float32 products and convolutions exact on every device."""
    # The flags one by one, as a caller may have used torch's older interface, its newer one, or
    # both, of which torch refuses to tell the sum.
    flags: list[tuple[Any, str]] = [
        (part, part.fp32_precision)
        for part in (
            torch.backends.cuda.matmul,
            torch.backends.cudnn.conv,  # type: ignore[attr-defined]
            torch.backends.mkldnn.matmul,  # type: ignore[attr-defined]
            torch.backends.mkldnn.conv,  # type: ignore[attr-defined]
        )
    ]
    changed = [(part, before) for part, before in flags if before not in _EXACT]
    for part, _ in changed:
        part.fp32_precision = "ieee"

    def restore() -> None:
        for part, before in changed:
            part.fp32_precision = before

    return restore


_exact_products = SharedSetting(_exact)

"""The weights that fine-tuning made, in a file that says all that belongs to them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from vggfeat._version import __version__
from vggfeat.atomic import atomic_file
from vggfeat.errors import WeightsError
from vggfeat.finetuning.model import Tuned
from vggfeat.layers import layer_of
from vggfeat.network import Network
from vggfeat.weights import PREPROCESSING_KEY, names
from vggfeat.weights.trained_head import BIAS, HEAD_KEY, TRAINED_KEY, WEIGHT, TrainedHead


def write_weights(
    path: Path, network: Network, model: Tuned, head: TrainedHead, trained: dict[str, Any]
) -> None:
    """Write a fine-tuned network as far as its head's layer, and the head.

    Parameters
    ----------
    path : Path
        The safetensors file to make or replace, whole or not at all.
    network : Network
        That it was made of: gives what was not trained.
    model : Tuned
    head : TrainedHead
        What belongs to the head; its numbers are written as float32.
    trained : dict
        JSON-ready: what it was trained on, and how.

    Raises
    ------
    WeightsError
        It cannot be written.
    """
    tensors: dict[str, Tensor]
    if model.tail is not None:
        tensors = model.tail.whole_state()
    else:
        upto = network.architecture.upto([layer_of(head.column)])
        tensors = network.weights.load(network.architecture, names(upto), upto[-1].name)
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    tensors[WEIGHT] = torch.from_numpy(head.weight).float().contiguous()
    tensors[BIAS] = torch.from_numpy(head.bias).float().contiguous()
    metadata = {
        "format": "pt",
        PREPROCESSING_KEY: json.dumps(network.preprocessing.to_json()),
        HEAD_KEY: json.dumps(head.to_json()),
        TRAINED_KEY: json.dumps(trained),
        "vggfeat.model": network.architecture.name,
        "vggfeat.version": __version__,
    }
    try:
        with atomic_file(path) as temporary:
            save_file(tensors, temporary, metadata=metadata)
    except (OSError, SafetensorError) as error:
        raise WeightsError(
            f"{path} cannot be written: {error}. Check the folder's permissions and the disk; the "
            "same command goes on from the last checkpoint."
        ) from error

"""``vggfeat layers``."""

from __future__ import annotations

import click

from vggfeat.cli.choices import model_option
from vggfeat.cli.output import json_option, print_json, table
from vggfeat.layers import Architecture, Layer, architecture

_HEADER = (
    *("layer", "kind", "filters", "kernel", "stride", "padding"),
    *("output", "activation", "parameters"),
)


@click.command()
@model_option
@click.option(
    "--size",
    type=click.IntRange(min=32),
    help="Side of the square input in pixels, for the output sizes.  [default: the model's own]",
)
@json_option
def layers(model: str, size: int | None, as_json: bool) -> None:
    """Print a network's architecture as a table.

    The names in the columns "layer" and "activation" are what --layers takes elsewhere:
    conv5_3 and fc7 are linear outputs, relu5_3 and relu7 come after the ReLU. (What Caffe's
    users, and most papers, call fc7 is relu7 here.) In networks with batch normalisation,
    conv5_3 is the convolution's own output and bn5_3 the normalised one. torchvision's paths
    (features.28) and ordinals (conv13, fc2) are understood too, and so are Keras's names:
    block5_conv3 is relu5_3, since Keras's is after its ReLU, block5_pool is pool5, and
    predictions is prob. Only fc1 and fc2 mean another thing there: Keras's are relu6 and relu7,
    here they are the linear fc6 and fc7.

    \b
    Example:
      vggfeat layers --model vgg19
    """
    network = architecture(model)
    side = size or network.input_size
    if as_json:
        print_json(network.to_json(side))
        return
    rows = [["input", "", "", "", "", "", f"3 x {side} x {side}", "", ""]]
    rows += [_cells(network, layer, side) for layer in network.layers if layer.kind != "relu"]
    rows.append(["all", "", "", "", "", "", "", "", f"{network.parameters:,}"])
    click.echo(table(rows, _HEADER, right="filters kernel stride padding parameters"))


def _cells(network: Architecture, layer: Layer, side: int) -> list[str]:
    window = layer.kernel > 0
    shape = network.output_shape(layer.name, side)
    return [
        layer.name,
        layer.kind,
        str(layer.outputs) if layer.kind in ("conv", "linear") else "",
        f"{layer.kernel} x {layer.kernel}" if window else "",
        str(layer.stride) if window else "",
        str(layer.padding) if window else "",
        " x ".join(map(str, shape)),
        layer.activation,
        f"{layer.parameters:,}" if layer.parameters else "",
    ]

"""Commands that train vgg16-tiny and put it into the package."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from training.recipe import Recipe
from vggfeat.errors import VggfeatError

_folder = click.Path(exists=True, file_okay=False, path_type=Path)
_file = click.Path(dir_okay=False, path_type=Path)


class _Polite(click.Group):
    """A group whose commands tell the library's errors in one line, as their own."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except VggfeatError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Polite, context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    r"""Train vgg16-tiny on Tiny ImageNet, and put it into the package.

    \b
    python -m training fit tiny-imagenet-200 run
    python -m training curves run docs/vgg16-tiny-curves.png
    python -m training export run tiny-imagenet-200 vggfeat/weights/vgg16-tiny.safetensors
    python -m training score tiny-imagenet-200
    """


@cli.command()
@click.argument("data", type=_folder)
@click.argument("run", type=click.Path(file_okay=False, path_type=Path))
@click.option("--epochs", type=click.IntRange(min=1), default=Recipe.epochs, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=Recipe.seed, show_default=True)
@click.option(
    "--precision",
    type=click.Choice(["bfloat16", "float32"]),
    default=Recipe.precision,
    show_default=True,
    help="bfloat16 is faster where the processor computes in it (AVX512_BF16, AMX).",
)
@click.option(
    "--per-class",
    type=click.IntRange(min=1),
    help="Use the first N training images of each class only, for a quick trial.",
)
def fit(
    data: Path, run: Path, epochs: int, seed: int, precision: str, per_class: int | None
) -> None:
    r"""Train from DATA (Tiny ImageNet's folder) in the folder RUN; go on there if it was begun.

    Each epoch that ends is kept: after a stop, by Ctrl-C say, the same command goes on from it.

    \b
    python -m training fit tiny-imagenet-200 trial --epochs 4 --per-class 50
    """
    recipe = replace(Recipe(), epochs=epochs, seed=seed, precision=precision)
    try:
        _fit(data, run, recipe, per_class)
    except KeyboardInterrupt:
        begun = (run / "checkpoint.pt").exists()
        kept = f"from the last epoch that {run} keeps" if begun else "from the beginning"
        click.echo(f"Stopped. The same command goes on {kept}.", err=True)
        sys.exit(130)


def _fit(data: Path, folder: Path, recipe: Recipe, per_class: int | None) -> None:
    from training.fit import Run
    from training.tiny_imagenet import classes, training_set, validation_set

    classes(data)  # refused before the folder is made
    run = Run(folder, recipe)
    if run.finished:
        click.echo(
            f"{folder} is finished: all {recipe.epochs} epochs are done. "
            f"Next: python -m training export {folder} {data} FILE.safetensors"
        )
        return
    if run.epoch:
        click.echo(f"{folder} goes on after epoch {run.epoch} of {recipe.epochs}.", err=True)
    for row in run.epochs(training_set(data, per_class), validation_set(data)):
        click.echo(
            f"epoch {row.epoch}: loss {row.loss:.4f}, validation top-1 {row.top1:.2f} % "
            f"top-5 {row.top5:.2f} % (not averaged: top-1 {row.raw_top1:.2f} %), "
            f"{row.images_per_second:.0f} images/s"
        )


@cli.command()
@click.argument("run", type=_folder)
@click.argument("picture", type=_file)
def curves(run: Path, picture: Path) -> None:
    r"""Draw the losses and accuracies of the folder RUN as PICTURE, a .png, .svg or .pdf.

    \b
    python -m training curves run curves.png
    """
    from training.curves import draw
    from training.log import read

    draw(read(run), picture)


@cli.command()
@click.argument("run", type=_folder)
@click.argument("data", type=_folder)
@click.argument("file", type=_file)
def export(run: Path, data: Path, file: Path) -> None:
    r"""Write the averaged weights of the folder RUN as FILE, a float16 .safetensors file.

    The batch normalisation is folded into the weights, which is proved on validation images of
    DATA (Tiny ImageNet's folder). The table tells what storing costs in size and in accuracy.

    \b
    python -m training export run tiny-imagenet-200 vgg16-tiny.safetensors
    """
    from training.export import SHIPPED, export, write
    from training.fit import Run
    from training.tiny_imagenet import validation_set
    from vggfeat.cli.output import table

    if file.suffix != ".safetensors":
        raise click.BadParameter(f"{file} does not end in .safetensors.", param_hint="FILE")
    going = Run.found_in(run)
    if not going.finished:
        click.echo(
            f"{run} is not finished: epoch {going.epoch} of {going.recipe.epochs}.", err=True
        )
    made = export(going, data, validation_set(data))
    rows = [
        (s.kind, f"{s.megabytes:.2f}", f"{s.top1:.2f}", f"{s.top5:.2f}", f"{s.change:.1e}")
        for s in made.stored
    ]
    header = ("stored as", "MB", "top-1", "top-5", "change")
    click.echo(f"folding: logits equal to a relative error of {made.fold_error:.1e}")
    click.echo(table(rows, header, right="MB top-1 top-5 change"))
    click.echo("MB: 10^6 bytes. Change: the largest of a class's probability, from float32's.")
    write(file, made.shipped)
    click.echo(f"{file} holds {SHIPPED}.")


@cli.command()
@click.argument("data", type=_folder)
@click.option(
    "--weights",
    default="builtin",
    show_default=True,
    help="Those in the package, or a .safetensors file.",
)
def score(data: Path, weights: str) -> None:
    r"""Score weights on the validation images of DATA through vggfeat's public API alone.

    The preprocessing is the one that the file brings: accuracies must be those that export tells.

    \b
    python -m training score tiny-imagenet-200
    """
    import torch

    from training.fit import hits
    from training.tiny_imagenet import validation_files
    from vggfeat import FeatureExtractor

    paths, targets = validation_files(data)
    extractor = FeatureExtractor(Recipe.model, weights=weights, layers=["fc8"])
    extractor(paths[:1])  # loads the weights
    started = time.perf_counter()
    logits = torch.from_numpy(extractor(paths)["fc8"])
    speed = len(paths) / (time.perf_counter() - started)
    first, fifth = (100 * hits(logits, torch.tensor(targets), k) / len(paths) for k in (1, 5))
    click.echo(
        f"{len(paths)} images: top-1 {first:.2f} %, top-5 {fifth:.2f} %, {speed:.0f} images/s"
    )


if __name__ == "__main__":
    cli(prog_name="python -m training")

"""Commands that train vgg16-tiny and put it into the package."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from training.recipe import Recipe


@click.group()
def cli() -> None:
    """Train vgg16-tiny on Tiny ImageNet, and put it into the package."""


@cli.command()
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
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
    """Train from DATA (Tiny ImageNet's folder) in the folder RUN; go on there if it was begun."""
    from training.fit import Run
    from training.tiny_imagenet import training_set, validation_set

    recipe = replace(Recipe(), epochs=epochs, seed=seed, precision=precision)
    going = Run(run, recipe)
    for row in going.epochs(training_set(data, per_class), validation_set(data)):
        click.echo(
            f"epoch {row.epoch}: loss {row.loss:.4f}, validation top-1 {row.top1:.2f} % "
            f"top-5 {row.top5:.2f} % (not averaged: top-1 {row.raw_top1:.2f} %), "
            f"{row.images_per_second:.0f} images/s"
        )


if __name__ == "__main__":
    cli(prog_name="python -m training")

"""The command line: one group, one file a family of commands, wiring only.

A command's module imports nothing heavy at its top: torch, faiss, scikit-learn and matplotlib are
imported inside the commands that need them, so that ``vggfeat --help`` answers at once.
"""

from __future__ import annotations

import difflib
import importlib
import io
import logging
import os
import sys
import traceback
from collections.abc import Sequence

import click
from click.shell_completion import CompletionItem

from vggfeat._version import __version__
from vggfeat.cli.narrow import Context, readable
from vggfeat.errors import VggfeatError

COMMANDS = {
    "layers": ("vggfeat.cli.layers:layers", "Print a network's architecture as a table."),
    "extract": ("vggfeat.cli.extract:extract", "Extract features of images into a store."),
    "parts": ("vggfeat.cli.parts:parts", "Show which parts of a store are done, and retry."),
    "info": ("vggfeat.cli.stores:info", "Show what a store holds and how it was made."),
    "verify": ("vggfeat.cli.stores:verify", "Read all features again and compare checksums."),
    "merge": ("vggfeat.cli.stores:merge", "Unite stores that were made in the same way."),
    "export": ("vggfeat.cli.stores:export", "Write a layer as .npy, .npz, .csv or .parquet."),
    "probe": ("vggfeat.cli.probe:probe", "Train and score a linear classifier on a layer."),
    "knn": ("vggfeat.cli.knn:knn", "Score layers by the vote of nearest neighbours."),
    "lowshot": ("vggfeat.cli.lowshot:lowshot", "Score layers by how few images suffice."),
    "predict": ("vggfeat.cli.predict:predict", "Label new images with a saved probe."),
    "explain": (
        "vggfeat.cli.explain:explain",
        "Show where in an image is what speaks for a class.",
    ),
    "finetune": (
        "vggfeat.cli.finetune:finetune",
        "Train the last layers of a network on classes of your own.",
    ),
    "sweep": ("vggfeat.cli.sweep:sweep", "Score every layer of a store, side by side."),
    "evaluate": (
        "vggfeat.cli.evaluate:evaluate",
        "Run the paper's protocol on a dataset, our number beside the paper's.",
    ),
    "rdm": ("vggfeat.cli.rdm:rdm", "Write how unlike each two images are, layer by layer."),
    "compare": (
        "vggfeat.cli.compare:compare",
        "Compare layers, networks and RDMs of others: CKA and RSA.",
    ),
    "encode": (
        "vggfeat.cli.encode:encode",
        "Predict responses of brains or people from layers.",
    ),
    "plot": ("vggfeat.cli.plot:plot", "Draw maps of images, feature maps, what units respond to."),
    "whiten": ("vggfeat.cli.whiten:whiten", "Learn a PCA-whitening of a layer, for indexes."),
    "index": ("vggfeat.cli.index:index", "Build, change and look at indexes for search."),
    "search": ("vggfeat.cli.search:search", "Find the images most like a query."),
    "serve": ("vggfeat.cli.serve:serve", "Search in the browser: a page and a JSON API."),
    "duplicates": (
        "vggfeat.cli.duplicates:duplicates",
        "Find groups of near-identical images.",
    ),
    "weights": ("vggfeat.cli.weights:weights", "Look into, convert and check weight files."),
    "classify": ("vggfeat.cli.classify:classify", "Name the network's own classes of images."),
    "demo": ("vggfeat.cli.demo:demo", "Show the whole chain, offline, on embedded images."),
}
"""Commands in the order of a day's work: where each is defined, and its line in ``--help``,
which therefore need not import them."""

_log = logging.getLogger("vggfeat")


class _LazyGroup(click.Group):
    """A group that imports a command's module when the command is named."""

    context_class = Context

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            if ctx.resilient_parsing:  # the Tab key
                return None
            near = difflib.get_close_matches(cmd_name, COMMANDS, n=3, cutoff=0.6)
            meant = f" Did you mean {' or '.join(near)}?" if near else ""
            ctx.fail(f"No such command {cmd_name!r}.{meant} `vggfeat --help` lists all.")
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return readable(command)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Name the commands that begin so; click's own way imports each of them first."""
        found = [
            CompletionItem(name, help=summary)
            for name, (_, summary) in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="vggfeat")
@click.option("--debug", is_flag=True, help="Show tracebacks and debug messages.")
@click.option("-q", "--quiet", is_flag=True, help="Only warnings and errors on stderr.")
def main(debug: bool, quiet: bool) -> None:
    """Features of VGG networks over folders of photos: extract, probe, search.

    \b
    vggfeat extract photos/ photos.h5      features of every image into a store
    vggfeat probe photos.h5                a linear classifier on them
    vggfeat index build photos.h5 photos.index
    vggfeat search photos.index query.jpg  the images most like it

    `vggfeat COMMAND --help` explains each command and ends with an example.
    """
    level = logging.DEBUG if debug else logging.WARNING if quiet else logging.INFO
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    _log.handlers[:] = [handler]
    _log.setLevel(level)
    _log.propagate = False


def run(args: Sequence[str] | None = None) -> None:
    """Run the program and exit: 0 done, 1 a failure, 2 wrong usage, 130 interrupted.

    Parameters
    ----------
    args : sequence of str, optional
        Arguments without the program's name; those of the process by default.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal may lack a file name's characters
            stream.reconfigure(errors="backslashreplace")
    given = list(sys.argv[1:] if args is None else args)
    # These are understood anywhere: after a failure one adds them at the end.
    first = [flag for flag in given if flag in ("--debug", "--quiet", "-q")]
    sys.exit(_status([*first, *(word for word in given if word not in first)]))


def _status(arguments: list[str]) -> int:
    debug = "--debug" in arguments
    try:
        # Without standalone mode, click returns the status that a command exits with.
        status = main.main(args=arguments, prog_name="vggfeat", standalone_mode=False)
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except click.ClickException as error:  # wrong usage
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("Interrupted.", err=True)
        return 130
    except BrokenPipeError:  # the reader of our output, `head` say, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if debug:
            traceback.print_exc()
        click.echo(f"Error: {_reason(error)}", err=True)
        return 1


def _reason(error: Exception) -> str:
    if isinstance(error, VggfeatError):
        return str(error)
    if isinstance(error, OSError):
        return f"{error}. Check the path, its permissions and the disk."
    return (
        f"unexpected {type(error).__name__}: {' '.join(str(error).split())}. "
        "This is a defect; `vggfeat --debug ...` shows where it happened."
    )

"""The Tab key completes commands, options and their values in the usual shells."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SETUP = {
    "bash": 'eval "$(_VGGFEAT_COMPLETE=bash_source vggfeat)"',
    "zsh": 'autoload -Uz compinit && compinit -u && eval "$(_VGGFEAT_COMPLETE=zsh_source vggfeat)"',
    "fish": "_VGGFEAT_COMPLETE=fish_source vggfeat | source",
}
"""What docs/install.md has people write into their shell's start-up file."""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Put a program `vggfeat` of this very tree before all others, and an empty home."""
    program = tmp_path / "bin" / "vggfeat"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m vggfeat "$@"\n')
    program.chmod(0o755)
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    here = os.pathsep.join([str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")])
    own = {"PATH": path, "HOME": str(tmp_path), "TERM": "dumb", "PS1": "> ", "PYTHONPATH": here}
    return {**os.environ, **own}


class Terminal:
    """A shell that somebody types into."""

    def __init__(self, keys: int) -> None:
        self.keys = keys
        self.shown = b""

    def type(self, text: str, until: str) -> None:
        """Press keys, and wait until the shell has shown what is expected."""
        self.shown = b""
        os.write(self.keys, text.encode())
        while until.encode() not in self.shown:
            some = os.read(self.keys, 4096)  # raises where the shell has ended
            self.shown += some


@contextmanager
def terminal(shell: str, environment: dict[str, str], folder: Path) -> Iterator[Terminal]:
    """Start a shell without anybody's start-up files in a terminal of its own."""
    bare = {"bash": ["bash", "--noprofile", "--norc", "-i"], "zsh": ["zsh", "-f", "-i"]}[shell]
    keys, inside = pty.openpty()
    process = subprocess.Popen(
        bare, stdin=inside, stdout=inside, stderr=inside, env=environment, cwd=folder,
        start_new_session=True,
    )  # fmt: skip
    os.close(inside)
    try:
        yield Terminal(keys)
    finally:
        process.kill()
        process.wait()
        os.close(keys)


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_tab_completes_commands_options_and_values(shell, environment, tmp_path):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    with terminal(shell, environment, tmp_path) as typed:
        typed.type(SETUP[shell] + "; echo re''ady\n", until="\nready")
        typed.type("vggfeat expo\t", until="vggfeat export")
        typed.type("\x15vggfeat index comp\t", until="index compact")
        typed.type("\x15vggfeat extract --retry\t", until="--retry-failed")
        typed.type("\x15vggfeat extract --view ten\t", until="--view tencrop")


def test_fish_completes_commands_options_and_values(environment, tmp_path):
    if shutil.which("fish") is None:
        pytest.skip("fish is not installed")
    for typed, completed in {
        "vggfeat expo": "export\tWrite a layer",
        "vggfeat index comp": "compact",
        "vggfeat extract --view ten": "tencrop",
    }.items():
        done = subprocess.run(
            ["fish", "--no-config", "-c", f"{SETUP['fish']}; complete -C '{typed}'"],
            env=environment, cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.stdout.startswith(completed), done.stderr


def test_what_is_documented_is_what_is_tried_here():
    text = (Path(__file__).parent.parent / "docs" / "install.md").read_text()
    for shell, line in SETUP.items():
        shown = line[line.index("eval") :] if "eval" in line else line
        assert shown in text, shell

"""Every command explains itself, starts quickly, and fails politely."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from commands import cli
from PIL import Image

from vggfeat.cli import COMMANDS, main, run

ROOT = Path(__file__).parent.parent


def walk(command: click.Command, name: str) -> list[tuple[str, click.Command]]:
    found = [(name, command)]
    if isinstance(command, click.Group):
        context = click.Context(command)
        for sub in command.list_commands(context):
            found += walk(command.get_command(context, sub), f"{name} {sub}")
    return found


ALL = walk(main, "vggfeat")


def test_all_commands_are_there():
    assert set(COMMANDS) <= {name.split()[1] for name, _ in ALL if " " in name}


@pytest.mark.parametrize(("name", "command"), ALL, ids=[name for name, _ in ALL])
def test_every_command_and_option_is_explained_with_an_example(name, command):
    assert command.help
    text = command.get_help(click.Context(command, info_name=name))
    if not isinstance(command, click.Group):
        assert "Example:" in text, "the help ends in an example"
        assert f"{name} " in text.partition("Example:")[2]
        assert "Traceback" not in text
    for option in command.params:
        if isinstance(option, click.Option) and not option.hidden:
            assert option.help, f"{name} {option.name}"


@pytest.mark.parametrize(("name", "command"), ALL, ids=[name for name, _ in ALL])
def test_help_is_set_for_a_narrow_window_and_its_examples_stay_commands(name, command, monkeypatch):
    def shown(columns: int) -> str:
        monkeypatch.setenv("COLUMNS", str(columns))
        return command.get_help(command.context_class(command, info_name=name))

    def examples(text: str) -> list[str]:
        told = text.partition("Example:")[2].partition("\n\n")[0].replace("\\\n", " ")
        return [" ".join(line.split()) for line in told.splitlines()]

    narrow = shown(40)
    for line in narrow.splitlines():
        assert len(line) <= 40 or len(line.split()) <= 2, "one word alone may be longer"
    assert examples(narrow) == examples(shown(200))


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("serch", "search or serve"), ("extact", "extract"), ("dupes", "duplicates")],
)
def test_a_misspelt_command_is_told_what_may_be_meant(typed, meant):
    done = cli(typed)
    assert done.returncode == 2
    assert f"No such command '{typed}'. Did you mean {meant}?" in done.stderr


def test_help_loads_nothing_heavy():
    code = (
        "import sys\nfrom vggfeat.cli import run\ntry: run(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'faiss', 'sklearn', 'matplotlib', 'numpy', 'h5py', 'PIL'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    for name in COMMANDS:
        assert f"\n  {name} " in done.stdout


def test_no_command_loads_what_its_help_does_not_need():
    code = (
        "import importlib, sys\nfrom vggfeat.cli import COMMANDS\n"
        "heavy = {'torch', 'faiss', 'sklearn', 'scipy', 'matplotlib', 'fastapi', 'numba'}\n"
        "for name, (where, _) in COMMANDS.items():\n"
        "    importlib.import_module(where.partition(':')[0])\n"
        "    assert not heavy & set(sys.modules), (name, heavy & set(sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, vggfeat; print({'torch', 'h5py', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("args", "status"), [(["--version"], 0), ([], 2), (["nonsense"], 2), (["layers", "--x"], 2)]
)
def test_exit_statuses(args, status):
    done = subprocess.run(
        [sys.executable, "-m", "vggfeat", *args], capture_output=True, text=True, check=False
    )
    assert done.returncode == status
    assert "Traceback" not in done.stderr


def test_debug_shows_the_traceback_of_a_failure(tmp_path):
    args = ["extract", str(tmp_path), str(tmp_path / "s.h5"), "--weights", "random"]
    for extra, shown in (([], False), (["--debug"], True)):
        done = subprocess.run(
            [sys.executable, "-m", "vggfeat", *extra, *args],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert ("Traceback" in done.stderr) == shown


def test_the_command_reference_is_up_to_date():
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_debug_is_understood_where_one_adds_it():
    done = subprocess.run(
        [sys.executable, "-m", "vggfeat", "info", "nowhere.h5", "--debug"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_even_a_defect_ends_in_one_line_and_status_1(monkeypatch, capsys):
    monkeypatch.setitem(COMMANDS, "layers", ("vggfeat.nowhere:layers", ""))
    with pytest.raises(SystemExit) as end:
        run(["layers"])
    assert end.value.code == 1
    assert "unexpected ModuleNotFoundError" in capsys.readouterr().err


def test_names_that_the_terminal_cannot_show_do_no_harm(tmp_path):
    (tmp_path / "\N{CAMERA}.jpg").write_bytes(b"")
    Image.new("RGB", (8, 8)).save(tmp_path / "sound.png")
    args = ["extract", tmp_path, tmp_path / "s.h5", "--weights", "random", "--layers", "pool1"]
    done = subprocess.run(
        [sys.executable, "-m", "vggfeat", *map(str, args)],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
    )
    assert done.returncode == 0, done.stderr
    assert b"\\U0001f4f7.jpg: " in done.stdout

"""Bars show where somebody looks: on a terminal and in a notebook."""

from __future__ import annotations

import io
import sys
import types

import pytest

from vggfeat.progress import in_notebook, progress_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the process look as a cell of a notebook does to the code that runs in it."""
    shell = types.SimpleNamespace(kernel=object(), config={"IPKernelApp": {}})
    module = types.ModuleType("IPython")
    module.get_ipython = lambda: shell  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", module)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)


def shown(shown: bool | None, stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(sys, "stderr", stream)
    with progress_bar(shown, total=3, mininterval=0) as bar:
        bar.update(3)
    return "3/3" in stream.getvalue()


def test_a_bar_shows_on_a_terminal_and_not_in_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not in_notebook()
    assert shown(None, Terminal(), monkeypatch)
    assert not shown(None, io.StringIO(), monkeypatch)
    assert shown(True, io.StringIO(), monkeypatch)
    assert not shown(False, Terminal(), monkeypatch)


@pytest.mark.usefixtures("kernel")
def test_a_bar_shows_in_a_notebook_unless_it_is_not_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert in_notebook()
    assert shown(None, io.StringIO(), monkeypatch)  # of text, where ipywidgets is not installed
    assert not shown(False, io.StringIO(), monkeypatch)

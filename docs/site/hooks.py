"""What the site has beyond the plain files of docs/: MkDocs calls these while it builds.

Pages of the API are generated from docstrings, one for each public package. The changelog and the
guide for contributors come from outside docs/. A picture that the plain files choose by
``<picture>`` follows the site's own switch between light and dark.
"""

from __future__ import annotations

import ast
import contextlib
import os
import posixpath
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).parent))
from notebooks import cells, executed
from notebooks import page as notebook_page

from vggfeat import _HOMES

ROOT = Path(__file__).parent.parent.parent

API = {
    "extract": "Images become features.",
    "store": "Features in a file, or a folder of files.",
    "feature_table": "What every reader of features sees: a store is one.",
    "sklearn": "A transformer for scikit-learn's pipelines.",
    "probe": "Linear classifiers and regressions on features.",
    "index": "Search by similarity.",
    "queries": "Images as queries.",
    "predictions": "Images named by a saved probe.",
    "duplicates": "Copies found, verified and moved.",
    "evaluation": "Which layer scores best, and by how much.",
    "protocols": "A whole protocol in one call.",
    "finetuning": "The last layers trained.",
    "explain": "Where in an image is what speaks for a score.",
    "network": "Networks, their activations and gradients.",
    "encoding": "Responses of brains, predicted from features.",
    "representations": "RDMs, CKA and RSA.",
    "analysis": "Maps of images, units, heat maps, as values.",
    "metrics": "Scores, their intervals and comparisons.",
    "labels": "Classes, splits and groups, from wherever they are.",
    "sources": "Where images come from.",
    "pooling": "From a map to a vector.",
    "weights": "Files of weights, and the preprocessing that belongs to them.",
    "datasets": "Benchmarks in their official layouts.",
    "report": "Pages and pictures.",
    "layers": "Names and shapes of layers.",
    "errors": "What can go wrong.",
}
"""Packages and modules with a page of their own, in the order of the navigation."""

OUTSIDE = {"CHANGELOG.md": "CHANGELOG.md", "CONTRIBUTING.md": "CONTRIBUTING.md"}
"""Pages outside docs/ by the address that they have on the site."""

QUICK = os.environ.get("VGGFEAT_SITE") == "quick"
"""Whether to leave out what takes time and can break nothing: notebooks are not run, signatures not
laid out."""

_PICTURE = re.compile(
    r'<picture>\s*<source media="\(prefers-color-scheme: dark\)" srcset="(?P<dark>[^"]+)">\s*'
    r'<img src="(?P<light>[^"]+)"(?P<rest>[^>]*)>\s*</picture>'
)
_LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)\s#]+)(#[^)\s]*)?\)")


@event_priority(100)  # before mkdocstrings reads its options
def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages of the API where the navigation says "API"."""
    config.nav = _with_api(config.nav)
    if QUICK:  # a program is run to format each signature
        options = config.plugins["mkdocstrings"].config.handlers["python"]["options"]
        options |= {"separate_signature": False, "signature_crossrefs": False}
        config.plugins["material/search"].config.enabled = False
    return config


def _with_api(nav: Any) -> Any:
    if isinstance(nav, dict):
        return {title: _with_api(below) for title, below in nav.items()}
    if isinstance(nav, list):
        pages = ["api/index.md", *(f"api/vggfeat.{name}.md" for name in API)]
        return [one for each in nav for one in (pages if each == "API" else [_with_api(each)])]
    return nav


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages that are no files of docs/."""
    for address, file in OUTSIDE.items():
        files.append(File.generated(config, address, abs_src_path=str(ROOT / file)))
    for notebook in sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")):
        content = run_notebook(notebook)
        files.append(File.generated(config, f"notebooks/{notebook.stem}.md", content=content))
    files.append(File.generated(config, "api/index.md", content=api_overview()))
    for name, subject in API.items():
        address = f"api/vggfeat.{name}.md"  # "index.md" is the overview
        files.append(File.generated(config, address, content=api_page(name, subject)))
    return files


def run_notebook(notebook: Path) -> str:
    """Return the page of a notebook."""
    if QUICK:
        return notebook_page(cells(notebook), notebook.name)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        tempfile.tempdir = folder
        try:
            return notebook_page(list(executed(notebook, both=True)), notebook.name)
        finally:
            tempfile.tempdir = None


def api_overview() -> str:
    """Return the page that leads to the others."""
    first = "".join(f"- [`{name}`][{home}.{name}]\n" for name, home in _HOMES.items())
    rest = "".join(
        f"| [`vggfeat.{name}`](vggfeat.{name}.md) | {said} |\n" for name, said in API.items()
    )
    return f"""---
title: Overview
---

# Python

Most programs need no more than these, from `vggfeat` itself:

{first}
The others are in these packages. What is on none of these pages may change.

| package | what is in it |
| --- | --- |
{rest}"""


def api_page(name: str, subject: str) -> str:
    """Return the page of a package or module, for mkdocstrings to fill; constants come last."""
    return f"---\ntitle: {name}\n---\n\n# `vggfeat.{name}`\n\n{subject}\n\n" + "\n".join(
        f"::: vggfeat.{name}.{one}\n" for one in sorted(public_names(name), key=str.isupper)
    )


def public_names(name: str) -> list[str]:
    """Return what a package or module offers: `__all__`, or its public classes and functions."""
    module = ROOT / "vggfeat" / name
    file = module / "__init__.py" if module.is_dir() else module.with_suffix(".py")
    tree = ast.parse(file.read_text())
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return [
        node.name
        for node in tree.body
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_")
    ]


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """Turn what is written for plain files into what a site needs."""
    here = posixpath.dirname(page.file.src_uri)
    outside = page.file.src_uri in OUTSIDE

    def link(match: re.Match[str]) -> str:
        target, anchor = match[1], match[2] or ""
        # As from the file itself; pages from outside docs/ lie one folder higher.
        place = posixpath.normpath(posixpath.join("" if outside else "docs", here, target))
        address = OUTSIDE.get(place) or place.removeprefix("docs/")
        if address.endswith(".ipynb") and not here.startswith("notebooks"):
            address = address.removesuffix(".ipynb") + ".md"  # what it shows, which links to it
        return f"]({posixpath.relpath(address, here or '.')}{anchor})"

    def picture(match: re.Match[str]) -> str:
        rest = match["rest"]
        return "".join(f'<img src="{match[kind]}#only-{kind}"{rest}>' for kind in ("light", "dark"))

    return _PICTURE.sub(picture, _LINK.sub(link, markdown))

"""What the API pages read of the code beyond what Griffe itself does."""

from __future__ import annotations

import ast
import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:mod|func|class|meth|data|attr|exc):`(~?)([\w.]+)`")


def _link(match: re.Match[str]) -> str:
    """Return a link where the site describes the object, and its name alone where it does not."""
    short, name = match.groups()
    shown = name.rpartition(".")[2] if short else name.removeprefix("vggfeat.")
    return f'<autoref identifier="{name}" optional><code>{shown}</code></autoref>'


class Roles(griffe.Extension):
    """Sphinx's roles in docstrings become links."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite one docstring."""
        if obj.docstring:
            obj.docstring.value = _ROLE.sub(_link, obj.docstring.value)


class Tuples(griffe.Extension):
    """Constants that are assigned together, ``A, B = 1, 2``, are found one by one."""

    def on_module_members(
        self, *, node: ast.AST | griffe.ObjectNode, mod: griffe.Module, **_: Any
    ) -> None:
        """Add what a module assigns to several names at once."""
        body = node.body if isinstance(node, ast.Module) else []
        for statement, after in zip(body, [*body[1:], None], strict=True):
            if not isinstance(statement, ast.Assign):
                continue
            names, values = statement.targets[0], statement.value
            if not (isinstance(names, ast.Tuple) and isinstance(values, ast.Tuple)):
                continue
            told = _text(after)
            for name, value in zip(names.elts, values.elts, strict=True):
                if isinstance(name, ast.Name):
                    docstring = griffe.Docstring(told, parent=mod) if told else None
                    one = griffe.Attribute(
                        name.id, value=ast.unparse(value), docstring=docstring, parent=mod,
                        lineno=statement.lineno, endlineno=statement.end_lineno,
                    )  # fmt: skip
                    mod.set_member(name.id, one)


def _text(statement: ast.stmt | None) -> str:
    """Return the docstring that a statement is, if it is one."""
    value = statement.value if isinstance(statement, ast.Expr) else None
    return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else ""

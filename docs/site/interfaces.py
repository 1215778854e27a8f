"""
A Sphinx directive for zope.interface, which autodoc does not support.

``.. interface:: module.IName`` documents an interface: its docstring, and its methods
with their signatures as written in the source.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING

from docutils.nodes import container
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

if TYPE_CHECKING:
    from docutils.nodes import Node
    from sphinx.application import Sphinx

__all__ = ["Interface", "described", "setup"]


def described(name: str) -> Iterator[str]:
    """
    Describe an interface, as lines of reStructuredText.

    :param name: the dotted name.
    :raises LookupError: there is no such interface in that module.
    """
    module, _, short = name.rpartition(".")
    tree = ast.parse(inspect.getsource(import_module(module)))
    found = [it for it in tree.body if isinstance(it, ast.ClassDef) and it.name == short]
    if not found:
        raise LookupError(name)
    (interface,) = found
    bases = ", ".join(ast.unparse(base) for base in interface.bases)
    yield f".. py:class:: {short}({bases})"
    yield f"   :module: {module}"
    yield ""
    yield from _indented(interface, "   ")
    for method in interface.body:
        if isinstance(method, ast.FunctionDef):
            returns = ast.unparse(method.returns) if method.returns else "None"
            yield f"   .. py:method:: {method.name}({ast.unparse(method.args)}) -> {returns}"
            yield ""
            yield from _indented(method, "      ")


def _indented(node: ast.ClassDef | ast.FunctionDef, margin: str) -> Iterator[str]:
    for line in (ast.get_docstring(node) or "").splitlines():
        yield f"{margin}{line}".rstrip()
    yield ""


class Interface(SphinxDirective):
    """The ``interface`` directive."""

    required_arguments = 1

    def run(self) -> list[Node]:
        """Make the nodes."""
        name = self.arguments[0]
        module = name.rpartition(".")[0]
        self.env.note_dependency(inspect.getsourcefile(import_module(module)) or "")
        parent = container()
        self.state.nested_parse(StringList([*described(name)], source=name), 0, parent)
        return parent.children


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive with Sphinx."""
    app.add_directive("interface", Interface)
    return {"parallel_read_safe": True}

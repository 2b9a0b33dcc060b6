# SPDX-License-Identifier: GPL-3.0-or-later
"""No module of the core needs, in the end, itself: neither at its top nor where it imports late."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path


def imports_of(path: Path, package: str) -> set[str]:
    """Dotted names that a module imports, also inside functions; not those for type checking alone."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.Import):
            found.update(name.name for name in node.names)
        if isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found.update([base, *(f"{base}.{name.name}" for name in node.names)])
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text()))
    return found


def test_the_core_has_no_circular_imports(repo):
    modules = {}
    for path in sorted((repo / "fireedit_core").rglob("*.py")):
        parts = path.relative_to(repo).with_suffix("").parts
        package = parts[-1] == "__init__"
        modules[".".join(parts[:-1] if package else parts)] = (path, ".".join(parts[:-1]))
    graph = {}
    for name, (path, package) in modules.items():
        wanted = imports_of(path, package) & modules.keys()
        # a package that lists what its modules offer is imported with each of them, which is no circle
        graph[name] = {other for other in wanted if other != name and not name.startswith(other + ".")}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise AssertionError(" -> ".join(error.args[1])) from error

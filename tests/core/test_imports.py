# SPDX-License-Identifier: GPL-3.0-or-later
"""No module of the core needs, in the end, itself: neither at its top nor where it imports late."""

from __future__ import annotations

import ast
import subprocess
import sys
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


def test_the_photo_way_waits_for_no_large_library(repo):
    """Detector, masks and edit in a fresh process: what takes seconds to import, or compiles itself, is left alone."""
    code = """
import sys, torch
from fireedit_core.grounding import ground
from fireedit_core.photo.quick_edit import by_hand, quick_edit
from fireedit_core.regions.loading import load_detector
from fireedit_core.regions.record import Regions
from fireedit_core.segmentation.grabcut import GrabCut
from fireedit_core.segmentation.region_masks import region_masks
picture = torch.full((3, 64, 64), 0.2)
picture[0, 16:48, 16:48] = 0.9
load_detector("models/photo-detector").detect(picture[None])
box = Regions(torch.tensor([[16.0, 16, 48, 48]]), torch.ones(1), ("cup",), (64, 64))
masked, _ = region_masks(picture, box, GrabCut())
grounded = ground(picture, "make the background navy", masked)
quick_edit(picture, masked.masks[0], by_hand("background: navy", (64, 64)))
print(sorted({"diffusers", "transformers", "ultralytics", "numba", "pymatting", "matplotlib", "pandas"} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=repo, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

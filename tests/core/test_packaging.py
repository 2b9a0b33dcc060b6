# SPDX-License-Identifier: GPL-3.0-or-later
"""The lists that must agree do agree, and the pack's entry point is harmless without ComfyUI."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path


def requirement_lines(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]


def test_pyproject_mirrors_requirements(repo: Path):
    text = (repo / "pyproject.toml").read_text()
    block = re.search(r"^dependencies = \[(.*?)^\]", text, re.S | re.M).group(1)
    assert sorted(re.findall(r'"([^"]+)"', block)) == sorted(requirement_lines(repo / "requirements.txt"))


def test_nothing_is_pinned_from_above(repo: Path):
    for line in requirement_lines(repo / "requirements.txt"):
        assert not re.search(r"==|<|~=", line), line
        assert not re.match(r"(torch|torchvision|numpy|pillow)\b", line, re.I), f"{line}: the host brings it"


def test_entry_point_imports_without_comfyui(repo: Path):
    spec = importlib.util.spec_from_file_location("some_mangled/name.fireedit", repo / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert callable(module.comfy_entrypoint) and module.WEB_DIRECTORY == "./web"


def test_core_has_one_name_under_the_host(repo: Path):
    """As ComfyUI loads it, from a foreign folder: fireedit_core is importable, nodes/ and tests/ are not."""
    code = (
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('m/fireedit', {str(repo / '__init__.py')!r},"
        f" submodule_search_locations=[{str(repo)!r}])\n"
        "pack = importlib.util.module_from_spec(spec)\n"
        "sys.modules['m/fireedit'] = pack; spec.loader.exec_module(pack)\n"
        "pack._load_core(); first = sys.modules['fireedit_core']; pack._load_core()\n"
        "import fireedit_core; assert fireedit_core is first\n"
        "assert importlib.util.find_spec('fireedit_core.regions').name == 'fireedit_core.regions'\n"
        "assert importlib.util.find_spec('nodes') is None\n"
        f"assert {str(repo)!r} not in sys.path\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd="/", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_core_never_imports_the_host(repo: Path):
    forbidden = re.compile(r"^\s*(?:from|import)\s+(comfy\w*|folder_paths|nodes|latent_preview)\b", re.M)
    for file in sorted((repo / "fireedit_core").rglob("*.py")):
        assert not forbidden.search(file.read_text(encoding="utf-8")), f"{file} imports the host"

# SPDX-License-Identifier: GPL-3.0-or-later
"""What set-up installs for a host, with real pip in a real environment: the packages are made here, so no network is needed."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pip
import pytest

from host_setup import setup_host
from host_setup.host_lookup import Host, venv_python

# as on PyPI: up to 2.10 a torchaudio asks for its own torch, 2.11.0 asks for none, 2.11.1 for torch>=2.11
TORCHAUDIOS = {"2.9.0": "torch==2.9.0", "2.9.1": "torch==2.9.1", "2.10.0": "torch==2.10.0", "2.11.0": None}


def wheel(folder: Path, name: str, version: str, requires: str | None = None, code: str = "") -> None:
    """A wheel of one module, in a folder that pip looks into."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n" + (f"Requires-Dist: {requires}\n" if requires else "")
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        file.writestr(f"{name}/__init__.py", code)
        file.writestr(f"{info}/METADATA", metadata)
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A function that makes an environment with a torch of some version, and pip that sees only the wheels given."""

    def make(torch: str, wheels: dict[str, str | None], code: str = "") -> Path:
        folder = tmp_path / "wheels"
        folder.mkdir()
        for version in {torch, "2.9.1", "2.14.1"}:  # others that a resolver without constraints would go over to
            wheel(folder, "torch", version)
        for version, requires in wheels.items():
            wheel(folder, "torchaudio", version, requires, code)
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
        python = venv_python(tmp_path / "venv")
        asked = "import sysconfig; print(sysconfig.get_path('purelib'))"
        packages = Path(subprocess.run([python, "-c", asked], check=True, capture_output=True, text=True).stdout.strip())
        (packages / "pip").symlink_to(Path(pip.__file__).parent)  # seconds faster than installing it
        subprocess.run([python, "-m", "pip", "install", "-qq", f"torch=={torch}"], check=True)
        return python

    return make


@pytest.mark.slow
@pytest.mark.parametrize(
    ("torch", "expected"),
    [("2.9.0", "2.9.0"), ("2.9.1+cpu", "2.9.1"), ("2.14.1+cu130", "2.11.0")],
)
def test_torchaudio_fits_the_torch_that_is_there(environment, torch: str, expected: str):
    python = environment(torch, TORCHAUDIOS)
    setup_host.install_torchaudio(python)
    assert setup_host.installed_torch(python) == [f"torch=={torch}", f"torchaudio=={expected}"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("torch", "wheels", "code", "reason"),
    [
        ("2.8.0", TORCHAUDIOS, "", "No matching distribution found for torchaudio==2.8.*"),
        ("2.14.1", {"2.10.0": "torch==2.10.0"}, "", "No matching distribution found for torchaudio>=2.11"),
        ("2.9.0", {"2.9.1": "torch==2.9.1"}, "", "ResolutionImpossible"),
        ("2.14.1", {"2.11.0": None}, "raise OSError('undefined symbol')", "OSError: undefined symbol"),
    ],
)
def test_where_none_fits_it_is_said_and_torch_stays(environment, capsys, torch: str, wheels: dict, code: str, reason: str):
    python = environment(torch, wheels, code)
    setup_host.install_torchaudio(python)
    said = capsys.readouterr().out
    assert f"for torch {torch} could be installed (" in said and reason in said and "ComfyUI 0.8 and later import torchaudio" in said
    assert setup_host.installed_torch(python) == [f"torch=={torch}"]


@pytest.mark.parametrize(
    ("torch", "wanted"),
    [("2.7.1", "==2.7.*"), ("2.10.0+cu128", "==2.10.*"), ("2.11.0", ">=2.11"), ("2.15.0.dev20261101+cpu", ">=2.11"), ("3.0.0", ">=2.11")],
)
def test_the_torchaudio_for_a_torch(torch: str, wanted: str):
    assert setup_host.torchaudio_for(torch) == f"torchaudio{wanted}"


def test_a_torchaudio_of_the_users_own_stays(environment, capsys):
    python = environment("2.14.1", {"2.10.0": None, "2.11.0": None})
    subprocess.run([python, "-m", "pip", "install", "-qq", "torchaudio==2.10.0"], check=True)
    setup_host.install_torchaudio(python)
    assert setup_host.installed_torch(python) == ["torch==2.14.1", "torchaudio==2.10.0"] and not capsys.readouterr().out


def test_what_a_newer_host_asks_for_is_installed(tmp_path: Path):
    """0.33.0's own lines: what it imports stays in, torch's family only where there is no torch yet."""
    lines = "comfyui-frontend-package==1.49.6\ncomfyui-workflow-templates==0.11.44\ncomfyui-embedded-docs==0.5.10\ntorch\ntorchvision\n"
    asked = lines + "torchaudio\nav>=16.0.0\ncomfy-kitchen==0.2.31\n#non essential dependencies:\nspandrel\n"
    (tmp_path / "requirements.txt").write_text(asked)
    host = Host(tmp_path, "test", owned=True)
    needed = ["comfyui-frontend-package==1.49.6", "av>=16.0.0", "comfy-kitchen==0.2.31", "spandrel"]
    assert setup_host.host_requirements(host, keep_torch=True) == needed
    assert setup_host.host_requirements(host, keep_torch=False) == [needed[0], "torch", "torchvision", *needed[1:]]

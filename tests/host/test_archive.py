# SPDX-License-Identifier: GPL-3.0-or-later
"""What the registry would pack (the tracked files without those of .comfyignore) is a whole pack of nodes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fireedit_cli.comfy_host import ComfyServer
from host_setup.host_lookup import REPO
from tests.host.small import load_workflow, node_of

MOST = 70_000_000  # bytes


def tracked(*options: str) -> set[str]:
    listed = subprocess.run(["git", "ls-files", "-z", *options], cwd=REPO, capture_output=True, text=True, check=True)
    return {name for name in listed.stdout.split("\0") if name and (REPO / name).is_file()}


@pytest.mark.skipif(not (REPO / ".git").exists(), reason="not a git clone")
def test_the_archive_edits_a_picture(tmp_path: Path):
    names = tracked() - tracked("-ci", "--exclude-from=.comfyignore")
    assert not any(name.startswith(("tests/", ".ci/", "benchmarks/")) for name in names) and "requirements.txt" in names
    pack = tmp_path / "custom_nodes" / "fireedit"
    for name in names:
        (pack / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPO / name, pack / name)
    assert sum((pack / name).stat().st_size for name in names) < MOST
    with ComfyServer(base=tmp_path, load_pack=False) as server:
        graph = load_workflow("fireedit_edit", FireEditSample={"steps": 2})
        server.upload_image(REPO / "web" / "examples" / "fireedit_remove.png")
        saved = server.run(graph, timeout=200).images[node_of(graph, "SaveImage")][0]
        source = np.asarray(Image.open(REPO / "web" / "examples" / "fireedit_remove.png"))
        assert saved.shape == source.shape and not np.array_equal(saved, source)
        assert "fireedit_edit" in server.get("/api/workflow_templates")["fireedit"] and server.get("/global_subgraphs")

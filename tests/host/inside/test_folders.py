# SPDX-License-Identifier: GPL-3.0-or-later
"""Bundles in the host's model folders."""

from __future__ import annotations

import os

import pytest

from fireedit_core.checkpoints.bundle import BundleError
from tests.host.inside import pack  # noqa: F401  first: it makes the host and the pack importable
from tests.host.small import shared_bundle

import folder_paths  # isort: skip
from fireedit_pack.nodes.host import bundles  # isort: skip


def test_bundle_names(tmp_path, monkeypatch):
    import shutil

    shutil.copytree(shared_bundle(), tmp_path / "deep" / "er" / "one")
    (tmp_path / "junk").mkdir()
    (tmp_path / "junk" / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    monkeypatch.setattr(bundles, "roots", lambda: [tmp_path, tmp_path / "absent"])
    assert bundles.list_bundles() == ["deep/er/one"]
    for name in ("deep/er/one", "deep\\er\\one", "./deep/er/one/"):
        assert bundles.find_bundle(name) == tmp_path / "deep" / "er" / "one"
    outside = tmp_path / "deep"
    monkeypatch.setattr(bundles, "roots", lambda: [outside / "er"])
    assert bundles.find_bundle("one")
    for name in ("../er/one", str(outside / "er" / "one"), "one/..", "c:/one", "", "two"):
        with pytest.raises(BundleError, match="there is no bundle"):
            bundles.find_bundle(name)


def test_importing_makes_no_folder():
    (path,) = folder_paths.get_folder_paths("fireedit")[-1:]
    assert path.endswith(os.path.join("models", "fireedit"))
    assert not os.path.exists(os.path.join(os.environ["FIREEDIT_HOST"], "models", "fireedit"))

# SPDX-License-Identifier: GPL-3.0-or-later
"""Bundles in the host's model folders."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from PIL import Image

from fireedit_core.checkpoints.bundle import BundleError
from fireedit_core.thumbnail import fingerprint
from tests.host.inside.pack import nodes  # first: it makes the host and the pack importable
from tests.host.inside.test_photo_bad_input import host_nodes
from tests.host.small import shared_bundle

import folder_paths  # isort: skip
from fireedit_pack.nodes.host import bundles, detectors, fingerprints, grounders, model_folders, segmenters  # isort: skip
from fireedit_pack.nodes.loading import FireEditGrounderLoader  # isort: skip


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
    made = Path(os.environ["FIREEDIT_HOST"], "models", "fireedit")
    assert not made.exists() or any(map(Path.is_file, made.rglob("*")))  # one with models is the user's: `./fireedit fetch` writes there


def test_folders_that_are_links_are_entered(tmp_path, monkeypatch):
    """As the host enters them: what lies behind is offered, and is noticed when it is replaced. A circle of links ends."""
    shelf, models = tmp_path / "shelf", tmp_path / "models"
    for folder in (shelf / "deep", models / "bbox", models / "segmenters", models / "bundle"):
        folder.mkdir(parents=True)
    for name in ("pets.pt", "deep/face.pt", "cut.onnx", "w.safetensors"):
        (shelf / name).write_bytes(b"1")
    for folder in models.iterdir():
        (folder / "linked").symlink_to(shelf, target_is_directory=True)
    (shelf / "deep" / "back").symlink_to(models / "bbox", target_is_directory=True)
    (shelf / "gone").symlink_to(tmp_path / "nowhere")
    for key, place in (("ultralytics_bbox", "bbox"), ("fireedit_segmenters", "segmenters")):
        monkeypatch.setitem(folder_paths.folder_names_and_paths, key, ([str(models / place)], set()))
    found = {model_folders.name_of(one) for one in detectors._found() if one[0] == "bbox"}
    assert found == {"bbox/linked/pets.pt", "bbox/linked/deep/face.pt"}
    assert detectors.find_detector("bbox/linked/deep/face.pt").is_file() and "segmenters/linked/cut.onnx" in segmenters.list_segmenters()
    (models / "bundle" / "model_index.json").write_text("{}")
    monkeypatch.setattr(bundles, "find_bundle", lambda name: models / "bundle")
    before = nodes.FireEditLoader.fingerprint_inputs("bundle")
    (shelf / "w.safetensors").write_bytes(b"22")
    assert nodes.FireEditLoader.fingerprint_inputs("bundle") != before


def test_a_picture_in_a_linked_folder_has_its_fingerprint(tmp_path, monkeypatch):
    """Where the host shows and loads it, it is known; a path that leaves the folder by itself stays refused."""
    photos, inputs = tmp_path / "photos", tmp_path / "input"
    photos.mkdir()
    inputs.mkdir()
    for name in (photos / "a.png", tmp_path / "secret.png"):
        Image.new("RGB", (60, 40), (99, 20, 20)).save(name)
    (inputs / "mine").symlink_to(photos, target_is_directory=True)
    monkeypatch.setattr(folder_paths, "input_directory", str(inputs))
    monkeypatch.setattr(fingerprints, "nodes", host_nodes())
    wanted = fingerprint(torch.tensor([99, 20, 20]).div(255)[:, None, None].expand(3, 40, 60))
    if hasattr(folder_paths, "is_within_directory"):  # 0.33.0 loads nothing that a link leads to outside of the folder
        with pytest.raises(ValueError, match="Invalid file path"):
            fingerprints.fingerprint_of("input", "mine", "a.png")
    else:
        assert fingerprints.fingerprint_of("input", "mine", "a.png") == wanted
    for asked in (("..", "secret.png"), ("mine/../..", "secret.png"), ("", "../secret.png"), ("", str(tmp_path / "secret.png"))):
        with pytest.raises(ValueError, match="there is no file"):
            fingerprints.fingerprint_of("input", *asked)


def test_a_grounder_that_is_replaced_on_disk_is_loaded_again(tmp_path, monkeypatch):
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"one")
    monkeypatch.setattr(grounders, "find_grounder", lambda name: tmp_path)
    seen = FireEditGrounderLoader.fingerprint_inputs("mine")
    assert FireEditGrounderLoader.fingerprint_inputs("mine") == seen
    file.write_bytes(b"another")
    assert FireEditGrounderLoader.fingerprint_inputs("mine") != seen


def test_a_bundle_of_the_users_own_comes_before_the_packs_of_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "get_folder_paths", lambda name: [str(tmp_path)])
    assert bundles.roots() == [tmp_path, bundles.OWN_MODELS]

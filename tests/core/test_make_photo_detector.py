# SPDX-License-Identifier: GPL-3.0-or-later
"""A graph of TensorFlow.js that holds a NanoDet of known numbers is read back to the same numbers; anything else is refused."""

from __future__ import annotations

import io
import json
import tarfile

import numpy as np
import pytest
import torch

from authoring import imagenet_names, make_photo_classifier
from authoring import make_photo_detector as maker
from fireedit_core.data.npm_package import PackageError
from fireedit_core.grounding.names import ANIMALS, MORE_THINGS
from fireedit_core.regions.loading import NANODET
from fireedit_core.regions.nanodet import NanoDet


def graph_of(state: dict[str, torch.Tensor]) -> tuple[dict, bytes]:
    """As TensorFlow.js writes it: kernels (h, w, in, out), numbers before others in between, operations in no order."""
    manifest = [{"name": "shape", "shape": [2], "dtype": "int32"}, {"name": "scalar", "shape": [], "dtype": "float32"}]
    data, nodes = np.array([3, 4], np.int32).tobytes() + np.float32(1).tobytes(), []
    pairs = list(state.items())
    for number in range(len(pairs) // 2):
        for what, (_, value) in zip("kb", pairs[2 * number : 2 * number + 2]):
            array = value.permute(2, 3, 1, 0).numpy() if what == "k" else value.numpy()
            half = {"dtype": "float16", "original_dtype": "float32"}
            manifest.append({"name": f"{what}{number}", "shape": list(array.shape), "dtype": "float32", "quantization": half})
            data += np.ascontiguousarray(array).astype(np.float16).tobytes()
        name = "x/convolution" + (f"_{number}" if number else "")
        nodes += [{"op": "Conv2D", "name": name, "input": ["x", f"k{number}"]}, {"op": "Add", "name": "a", "input": [name, f"b{number}"]}]
        nodes.append({"op": "Add", "name": "sum", "input": [name, "another map"]})
    return {"weightsManifest": [{"weights": manifest}], "modelTopology": {"node": nodes[::-1]}}, data


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {name: value.half() for name, value in NanoDet(len(maker.NAMES)).state_dict().items()}


def test_what_was_written_is_read(state):
    read = maker.state_of(*graph_of(state))
    assert list(read) == list(state) and all(torch.equal(read[name], state[name]) for name in state)


def test_other_graphs_are_refused(state):
    graph, data = graph_of(state)
    with pytest.raises(ValueError, match="the manifest speaks of .* bytes"):
        maker.state_of(graph, data + b"\0\0")
    fewer = graph_of({name: state[name] for name in list(state)[:-2]})
    with pytest.raises(ValueError, match="are not those of"):
        maker.state_of(*fewer)
    graph["modelTopology"]["node"] = [n for n in graph["modelTopology"]["node"] if n["input"][1] != "b3"]
    with pytest.raises(ValueError, match="convolution_3: expected one bias, found 0"):
        maker.state_of(graph, data)
    graph["weightsManifest"][0]["weights"][0]["dtype"] = "string"
    with pytest.raises(ValueError, match="the type string"):
        maker.state_of(graph, data)


def test_a_file_that_is_not_the_pinned_one_is_refused(tmp_path):
    archive = tmp_path / "x.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        info = tarfile.TarInfo("package/models/nanodet.json")
        info.size = 2
        tar.addfile(info, io.BytesIO(b"{}"))
    with pytest.raises(PackageError, match="nanodet.json should have sha256 4495eb0ec74b.*, but 44136fa355b3"):
        maker.fetched_files(archive)


def test_what_ships_is_named_as_the_command_names_it(repo):
    config = json.loads((repo / "models" / "photo-detector" / "config.json").read_text(encoding="utf-8"))
    assert len(maker.NAMES) == len(set(maker.NAMES)) == 80
    assert config == {
        "_class_name": NANODET, "names": maker.NAMES, "classifier": {"living": sorted(ANIMALS), "names": imagenet_names.names()},
    }  # fmt: skip
    card = (repo / "models" / "photo-detector" / "README.md").read_text(encoding="utf-8")
    assert maker.PACKAGE.integrity in card and all(digest in card for digest in maker.FILES.values())
    assert make_photo_classifier.WHEEL_SHA256 in card and make_photo_classifier.CHECKPOINT_SHA256 in card
    assert all(name in card.replace("\n", " ") for name in (*maker.NAMES, *MORE_THINGS))

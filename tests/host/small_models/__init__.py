# SPDX-License-Identifier: GPL-3.0-or-later
"""A pack for a server of the tests: the host's own loaders give small random models of the true classes for the files of the templates.

Linked into a server's custom_nodes by `tests.host.small.with_small_models`. Everything else of a workflow is what it names.
"""

from __future__ import annotations

import functools
import sys
import types
from pathlib import Path

import nodes as host

REPO = Path(__file__).resolve().parents[3]
NODE_CLASS_MAPPINGS: dict = {}


def _small():  # noqa: ANN202
    """The modules of the tests, on the pack as this server has loaded it."""
    pack = next(m for m in list(sys.modules.values()) if Path(getattr(m, "__file__", None) or "/").resolve() == REPO / "__init__.py")
    sys.modules.setdefault("fireedit_pack", pack)
    for name, module in list(sys.modules.items()):
        if name.startswith(pack.__name__ + "."):
            sys.modules.setdefault("fireedit_pack" + name.removeprefix(pack.__name__), module)
    tests = types.ModuleType("tests")  # the host has a folder of that name
    tests.__path__ = [str(REPO / "tests")]
    sys.modules["tests"] = tests
    sys.path.append(str(REPO))
    from tests.host.inside import small_edit_models, small_parts

    return small_edit_models, small_parts


# part of a file's name: the model, channels of its latents, pixels per cell
_KINDS = {"instruct-pix2pix": ("pix2pix", 4, 8), "kontext": ("kontext", 16, 8), "qwen_image_edit": ("qwen_image", 16, 8),
          "klein": ("flux2", 128, 16)}  # fmt: skip
_ENCODED_FOR = {"flux": "kontext", "qwen_image": "qwen_image", "flux2": "flux2"}
_VAES = {"ae.safetensors": (16, 8, False), "qwen_image_vae.safetensors": (16, 8, True), "flux2-vae.safetensors": (128, 16, False)}


@functools.cache
def _model(kind: str):  # noqa: ANN202
    return getattr(_small()[0], kind)()


def _of(name: str) -> tuple:
    return next(value for part, value in _KINDS.items() if part in name)


def _encoder(kind: str):  # noqa: ANN202
    return _small()[1].Encoder(_model(kind).positive)


def _checkpoint(self, ckpt_name):  # noqa: ANN001, ANN202
    kind, channels, cell = _of(ckpt_name)
    return _model(kind).model, _encoder(kind), _small()[1].CellVAE(channels, cell, False)


host.CheckpointLoaderSimple.load_checkpoint = _checkpoint
host.UNETLoader.load_unet = lambda self, unet_name, weight_dtype: (_model(_of(unet_name)[0]).model,)
host.CLIPLoader.load_clip = lambda self, clip_name, type="", device="default": (_encoder(_ENCODED_FOR[type]),)  # noqa: A002
host.DualCLIPLoader.load_clip = lambda self, clip_name1, clip_name2, type, device="default": (_encoder(_ENCODED_FOR[type]),)  # noqa: A002
host.VAELoader.load_vae = lambda self, vae_name: (_small()[1].CellVAE(*_VAES[vae_name]),)

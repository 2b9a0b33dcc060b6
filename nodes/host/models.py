# SPDX-License-Identifier: GPL-3.0-or-later
"""The FIREEDIT value: a bundle's modules in groups that the host loads, offloads and accounts for."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import comfy.model_management as management
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

from fireedit_core.checkpoints.index import bundle_options, needs_language, parts_of, read_index

from . import unet, vae
from .streaming_patcher import StreamingPatcher, stream_linear_layers
from .whole_patcher import WholePatcher

if TYPE_CHECKING:  # diffusers and transformers take seconds to import: when a bundle is loaded, not when the host starts
    from fireedit_core.diffusion.visual_attention import VisualCrossAttention
    from fireedit_core.editor import FireEditor, RegionTokens

logger = logging.getLogger("fireedit")


class FireEditModels:
    """What travels on a FIREEDIT wire.

    Attributes:
        name: the bundle's name. options: its numbers, see `fireedit_core.checkpoints.bundle.OPTIONS`.
        editor: detect, tokenize, condition. visual_attention: the layers beside the UNet's cross attentions.
        vision, language, reader, detector, injection: host ModelPatchers, one per group that is needed together. In a bundle whose
            Q-Former and HVCA are untrained, language is None; in all others, reader, which is CLIP's text tower.
    """

    def __init__(self, name: str, editor: FireEditor, visual_attention: VisualCrossAttention, options: dict[str, Any]):
        self.name = name
        self.editor = editor
        self.visual_attention = visual_attention
        self.options = options
        self.vision = make_patcher("FireEditVision", editor.vision)
        self.language = None
        if editor.needs_language:
            stream_linear_layers(editor.language["language_model"])
            self.language = make_patcher("FireEditLanguage", editor.language, kind=StreamingPatcher)
        self.reader = None if editor.reader is None else make_patcher("FireEditReader", editor.reader)
        self.detector = make_patcher("FireEditDetector", editor.detector)
        self.injection = make_patcher("FireEditInjection", editor.tati, visual_attention)

    def use_readers(self) -> None:
        """Have the host bring to the device what reads an instruction."""
        editor = self.editor
        use(*[self.language] * editor.needs_language, *[self.reader] * editor.reads_with_clip)

    def __deepcopy__(self, memo: dict) -> FireEditModels:
        return self  # hosts before 2026-02 (#12382) deep-copy what hangs on a MODEL

    def __repr__(self) -> str:
        return f"FireEditModels({self.name!r})"


def load(folder: Path, name: str) -> tuple[FireEditModels, ModelPatcher, vae.BundleVAE]:
    """FIREEDIT, MODEL and VAE of a bundle folder.

    Raises:
        BundleError: from the core, naming the file that is missing or broken.
    """
    from fireedit_core.checkpoints.bundle import blank_language_model, load_component
    from fireedit_core.diffusion.pipeline import make_editor

    index = read_index(folder)
    options = bundle_options(index)
    dtype = module_dtype()
    later = {"unet", "vae"}
    if not needs_language(options["untrained"]):
        later.add("language_model")  # which would fill the memory, and is not asked
    parts = {c: load_component(folder, c, dtype, index) for c in parts_of(index) if c not in later}
    if "language_model" in later:
        parts["language_model"] = blank_language_model(folder, index)
    autoencoder = load_component(folder, "vae", torch.float32, index)
    host_vae = vae.BundleVAE(autoencoder)
    # as it is on disk: the host casts it to the type that it wants, which may be one that diffusers cannot load in (float8)
    source = load_component(folder, "unet", None, index)
    model = unet.build(source, parts["scheduler"], host_vae.latent_format, bool(options["source_latent_scaled"]))
    logger.info("loaded the bundle %s from %s (%s)", name, folder, str(dtype).removeprefix("torch."))
    editor = make_editor(parts, options["untrained"], options["without"])
    return FireEditModels(name, editor, parts["visual_attention"], options), model, host_vae


def use(*patchers: ModelPatcher, memory: int = 0) -> None:
    """Have the host bring these groups to the device; `memory` is a guess at what the computation needs, in bytes."""
    management.load_models_gpu(list(patchers), memory_required=memory)


def module_dtype() -> torch.dtype:
    """Type of the editor's weights: float32 on a CPU, else what the device is good at."""
    device = management.get_torch_device()
    if management.should_use_bf16(device):
        return torch.bfloat16
    return torch.float16 if management.should_use_fp16(device) else torch.float32


def to_intermediate(tokens: RegionTokens) -> RegionTokens:
    """Region tokens on the device where the host keeps values between nodes, so that they hold no VRAM."""
    device = management.intermediate_device()
    move = lambda x: x.to(device)  # noqa: E731
    tokens.mask, tokens.region_tokens, tokens.image_tokens = map(
        move, (tokens.mask, tokens.region_tokens, tokens.image_tokens)
    )
    tokens.features = tokens.features.to(device)
    return tokens


def intermediate(x: Tensor) -> Tensor:
    """A float32 copy of a tensor where the host keeps values between nodes."""
    return x.to(device=management.intermediate_device(), dtype=torch.float32)


def check_interrupted() -> None:
    """Stop here if the user cancelled."""
    management.throw_exception_if_processing_interrupted()


def make_patcher(name: str, *modules: nn.Module, kind: type[ModelPatcher] = WholePatcher) -> ModelPatcher:
    """Modules that are needed together as one group that the host loads and offloads; `name` stands in its log.

    Args:
        kind: `WholePatcher`, or `StreamingPatcher` for a group with layers that can do without their weights on the device.
    """
    # A holder of its own: the host writes `device` on the module, which is read-only on diffusers models, and names its
    # class in the log.
    holder = type(name, (nn.ModuleList,), {})(modules)
    offload = management.unet_offload_device()
    holder.to(offload)
    return kind(holder, load_device=management.get_torch_device(), offload_device=offload)

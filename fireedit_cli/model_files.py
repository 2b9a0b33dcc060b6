# SPDX-License-Identifier: GPL-3.0-or-later
"""The model files of others that our workflows name: where they go, how large they are, where they come from; and which a server lacks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fireedit_cli.comfy_client import ComfyClient, HostError
from fireedit_cli.workflow import Workflow


@dataclass(frozen=True)
class ModelFile:
    """A file as its makers publish it.

    Attributes:
        name: of the file. folder: below models/. gigabytes: 10^9 bytes. source: its address.
    """

    name: str
    folder: str
    gigabytes: float
    source: str


_HUB = "https://huggingface.co"
_FILES = (
    ModelFile("instruct-pix2pix-00-22000.safetensors", "checkpoints", 7.7, f"{_HUB}/timbrooks/instruct-pix2pix/resolve/main/"),
    ModelFile(
        "flux1-dev-kontext_fp8_scaled.safetensors", "diffusion_models", 11.9,
        f"{_HUB}/Comfy-Org/flux1-kontext-dev_ComfyUI/resolve/main/split_files/diffusion_models/",
    ),
    ModelFile("clip_l.safetensors", "text_encoders", 0.25, f"{_HUB}/comfyanonymous/flux_text_encoders/resolve/main/"),
    ModelFile("t5xxl_fp8_e4m3fn_scaled.safetensors", "text_encoders", 5.2, f"{_HUB}/comfyanonymous/flux_text_encoders/resolve/main/"),
    ModelFile("ae.safetensors", "vae", 0.34, f"{_HUB}/Comfy-Org/Lumina_Image_2.0_Repackaged/resolve/main/split_files/vae/"),
    ModelFile(
        "qwen_image_edit_2509_fp8_e4m3fn.safetensors", "diffusion_models", 20.4,
        f"{_HUB}/Comfy-Org/Qwen-Image-Edit_ComfyUI/resolve/main/split_files/diffusion_models/",
    ),
    ModelFile(
        "qwen_image_edit_2511_fp8mixed.safetensors", "diffusion_models", 20.5,
        f"{_HUB}/Comfy-Org/Qwen-Image-Edit_ComfyUI/resolve/main/split_files/diffusion_models/",
    ),
    ModelFile(
        "qwen_2.5_vl_7b_fp8_scaled.safetensors", "text_encoders", 9.4,
        f"{_HUB}/Comfy-Org/Qwen-Image_ComfyUI/resolve/main/split_files/text_encoders/",
    ),
    ModelFile(
        "qwen_2.5_vl_7b.safetensors", "text_encoders", 16.6,
        f"{_HUB}/Comfy-Org/Qwen-Image_ComfyUI/resolve/main/split_files/text_encoders/",
    ),
    ModelFile("qwen_image_vae.safetensors", "vae", 0.25, f"{_HUB}/Comfy-Org/Qwen-Image_ComfyUI/resolve/main/split_files/vae/"),
    ModelFile("flux-2-klein-4b-fp8.safetensors", "diffusion_models", 4.1, f"{_HUB}/black-forest-labs/FLUX.2-klein-4b-fp8/resolve/main/"),
    ModelFile("qwen_3_4b.safetensors", "text_encoders", 8.0, f"{_HUB}/Comfy-Org/z_image_turbo/resolve/main/split_files/text_encoders/"),
    ModelFile("flux2-vae.safetensors", "vae", 0.34, f"{_HUB}/Comfy-Org/flux2-dev/resolve/main/split_files/vae/"),
)  # fmt: skip
FILES = {file.name: file for file in _FILES}
# loaders of the host: the folder of what they offer
LOADERS = {
    "CheckpointLoaderSimple": "checkpoints", "UNETLoader": "diffusion_models", "CLIPLoader": "text_encoders",
    "DualCLIPLoader": "text_encoders", "TripleCLIPLoader": "text_encoders", "VAELoader": "vae", "LoraLoader": "loras",
    "LoraLoaderModelOnly": "loras", "ControlNetLoader": "controlnet", "UpscaleModelLoader": "upscale_models",
}  # fmt: skip
_SUFFIXES = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin", ".gguf")


def described(name: str, folder: str = "") -> str:
    """`models/vae/ae.safetensors (0.34 GB)`; of a file that we do not know, its place alone, or its name where no folder is given."""
    known = FILES.get(name)
    if known is None:
        return f"models/{folder}/{name}" if folder else name
    return f"models/{known.folder}/{known.name} ({known.gigabytes:g} GB)"


def named_in(node: dict[str, Any]) -> dict[str, str]:
    """Input -> file of a loader of the host; {} for any other node."""
    if node["class_type"] not in LOADERS:
        return {}
    return {name: value for name, value in node["inputs"].items() if isinstance(value, str) and value.lower().endswith(_SUFFIXES)}


def missing(client: ComfyClient, flow: Workflow) -> list[str]:
    """What of a workflow's nodes and model files a server lacks, a line in words for each.

    Raises HostError where the server does not answer.
    """
    said: list[str] = []
    for kind in dict.fromkeys(node["class_type"] for node in flow.nodes.values()):
        nodes = [flow.nodes[key] for key in flow.ids(kind)]
        try:
            info = client.object_info(kind)
        except HostError as error:
            if "has no node" not in str(error):
                raise
            said.append(f"the node {kind}: a newer ComfyUI, or the pack that brings it, is needed")
            continue
        offered = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
        for node in nodes:
            for name, value in named_in(node).items():
                if name in offered and value not in _choices(offered[name]):
                    known = FILES.get(value)
                    source = f", from {known.source}{known.name}" if known else ""
                    said.append(f"{described(value, LOADERS[kind])}{source}")
    return list(dict.fromkeys(said))


def _choices(spec: list[Any]) -> list[str]:
    """Of a combo, in either form in which hosts describe one."""
    return spec[0] if isinstance(spec[0], list) else (spec[1] if len(spec) > 1 else {}).get("options", [])

# SPDX-License-Identifier: GPL-3.0-or-later
"""How alike pictures are to networks: CLIP, DINO, LPIPS and the structure distance, from weights in a local folder and nothing else.

The folder (`--metric-weights`) holds the public models under their own names:

    clip-vit-base-patch32/  clip-vit-large-patch14/    transformers folders of OpenAI's CLIP
    dino-vits16/  dino-vitb8/                          transformers folders of DINO v1 (facebook/...)
    lpips/alexnet.pth  squeezenet1_1.pth  vgg16.pth    torchvision's ImageNet trunks, or the same as .safetensors

Pictures are prepared with PIL as the official scripts do it (OpenAI's CLIP and DINO's torchvision transforms): image processors of
transformers resize on tensors in some versions, which moves scores in the third digit.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..checkpoints.weights import check_weights
from ..vlm.vision import CLIP_MEAN, CLIP_STD, IMAGENET_MEAN, IMAGENET_STD

DINO_SHORT_SIDE, DINO_CROP = 256, 224
STRUCTURE_SHORT_SIDE, STRUCTURE_LONG_SIDE = 224, 480

TRANSFORMERS_FILES = "config.json, model.safetensors and, for CLIP, the tokenizer's files"
SOURCES = {
    "clip-vit-base-patch32": "openai/clip-vit-base-patch32",
    "clip-vit-large-patch14": "openai/clip-vit-large-patch14",
    "dino-vits16": "facebook/dino-vits16",
    "dino-vitb8": "facebook/dino-vitb8",
}
# What the lpips package calls the trunk, and the file that torchvision publishes.
TRUNKS = {
    "lpips/alexnet": ("alex", "alexnet-owt-7be5be79.pth"),
    "lpips/squeezenet1_1": ("squeeze", "squeezenet1_1-b8a52dc0.pth"),
    "lpips/vgg16": ("vgg", "vgg16-397923af.pth"),
}


class MetricWeights:
    """The networks in a folder, each loaded once and when it is first asked for, in float32.

    Args:
        folder: see the module; None has nothing. device: where the networks run.
    """

    def __init__(self, folder: Path | str | None, device: torch.device | str = "cpu"):
        self.folder, self.device = None if folder is None else Path(folder), torch.device(device)
        self._loaded: dict[str, Any] = {}

    def missing(self, name: str) -> str | None:
        """Why a network (a key of SOURCES or TRUNKS) cannot be used, in a sentence that says what to put where; None if it can."""
        if name in TRUNKS:
            lacking = [package for package in ("lpips", "torchvision") if importlib.util.find_spec(package) is None]
            if lacking:
                return f"needs the package {lacking[0]} (pip install {lacking[0]})"
            if self.folder is None or self._trunk(name) is None:
                return f"{self._place(name)}.safetensors or .pth is not there; put torchvision's {TRUNKS[name][1]} there under that name"
            return None
        folder = self._place(name)
        if self.folder is None or not Path(folder).is_dir():
            return f"the folder {folder} is not there; put {SOURCES[name]} there ({TRANSFORMERS_FILES})"
        try:
            check_weights(folder)
        except ValueError as error:
            return str(error).rstrip(".")
        return None

    def clip(self, name: str) -> Clip:
        """A CLIP model. Raises ValueError as `missing` says."""
        return self._get(name, lambda: Clip(self._place(name), self.device))

    def dino(self, name: str) -> Dino:
        """A DINO v1 model. Raises ValueError as `missing` says."""
        return self._get(name, lambda: Dino(self._place(name), self.device))

    def lpips(self, name: str) -> Lpips:
        """LPIPS over one of TRUNKS. Raises ValueError as `missing` says, and for a file that holds another network."""
        return self._get(name, lambda: Lpips(TRUNKS[name][0], self._trunk(name), self.device))

    def _get(self, name: str, make: Callable[[], Any]) -> Any:
        if name not in self._loaded:
            why = self.missing(name)
            if why:
                raise ValueError(f"{name}: {why}")
            self._loaded[name] = make()
        return self._loaded[name]

    def _place(self, name: str) -> str:
        return f"{self.folder or '<--metric-weights>'}/{name}"

    def _trunk(self, name: str) -> Path | None:
        found = [Path(f"{self._place(name)}{end}") for end in (".safetensors", ".pth")]
        return next((file for file in found if file.is_file()), None)


class Clip:
    """Embeddings of a CLIP folder in transformers' layout; of unit length nothing is: cosines are the caller's.

    Attributes:
        side: pictures are cropped to this many pixels, 224 for the public models.
    """

    def __init__(self, folder: Path | str, device: torch.device | str = "cpu"):
        from transformers import AutoTokenizer, CLIPModel

        self.model = _loaded(CLIPModel, folder, device)
        self.tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        self.side: int = self.model.config.vision_config.image_size
        self.context: int = self.model.config.text_config.max_position_embeddings
        self._texts: dict[str, Tensor] = {}

    @torch.no_grad()
    def picture(self, image: Image.Image) -> Tensor:
        """(D,) float32 on the CPU of a picture, seen as OpenAI's preprocessing shows it: short side to `side` (bicubic), centre crop."""
        pixels = prepared(image, self.side, self.side, CLIP_MEAN, CLIP_STD)
        return _features(self.model.get_image_features(pixel_values=pixels[None].to(self.model.device)))

    @torch.no_grad()
    def text(self, text: str) -> Tensor:
        """(D,) float32 on the CPU of a text; what is longer than the context (77 tokens) is cut off."""
        if text not in self._texts:
            tokens = self.tokenizer([text], truncation=True, max_length=self.context, return_tensors="pt").to(self.model.device)
            found = self.model.get_text_features(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
            self._texts[text] = _features(found)
        return self._texts[text]


class Dino:
    """DINO v1 in transformers' layout: the class token, and the keys of the last layer for the structure distance."""

    def __init__(self, folder: Path | str, device: torch.device | str = "cpu"):
        from transformers import ViTModel

        self.model = _loaded(ViTModel, folder, device, add_pooling_layer=False)
        # attention.attention.key up to transformers 4, attention.k_proj from 5 on
        keys = [module for name, module in self.model.named_modules() if name.endswith((".attention.key", ".k_proj"))]
        if not keys:
            raise ValueError(f"{folder}: no attention keys found in {type(self.model).__name__}; is it a ViT?")
        self._keys: nn.Module = keys[-1]

    @torch.no_grad()
    def picture(self, image: Image.Image) -> Tensor:
        """(D,) float32 on the CPU: the class token of a picture, short side to 256 (bicubic), centre crop 224, as MagicBrush does it."""
        return self._seen(prepared(image, DINO_SHORT_SIDE, DINO_CROP, IMAGENET_MEAN, IMAGENET_STD))[0, 0].cpu()

    @torch.no_grad()
    def self_similarity(self, image: Image.Image, antialias: bool = True) -> Tensor:
        """(T, T) cosines between the keys of the last layer, class token and patches, heads joined.

        Args:
            antialias: whether pixels are averaged where the picture is made smaller. torchvision's Resize did not do so with tensors up
                to 0.16, and PIE-Bench's authors pin 0.13.1; newer ones do.

        As PIE-Bench's calculator does it: the pixels are on 0..255, not on 0..1, when ImageNet's mean is taken off. That is most likely
        an oversight, but every published number has it.
        """
        pixels = torch.from_numpy(np.asarray(image.convert("RGB"), np.float32)).permute(2, 0, 1)
        height, width = pixels.shape[1:]
        short, long = min(height, width), max(height, width)
        size = [STRUCTURE_SHORT_SIDE, int(STRUCTURE_SHORT_SIDE * long / short)]
        if size[1] > STRUCTURE_LONG_SIDE:
            size = [int(STRUCTURE_LONG_SIDE * size[0] / size[1]), STRUCTURE_LONG_SIDE]
        size = size if height <= width else size[::-1]
        pixels = nn.functional.interpolate(pixels[None], size, mode="bilinear", align_corners=False, antialias=antialias)[0]
        kept: list[Tensor] = []
        hook = self._keys.register_forward_hook(lambda module, inputs, output: kept.append(output))
        try:
            self._seen((pixels - _column(IMAGENET_MEAN)) / _column(IMAGENET_STD))
        finally:
            hook.remove()
        keys = kept[0].reshape(-1, kept[0].shape[-1]).float()
        length = keys.norm(dim=1, keepdim=True)
        return (keys @ keys.T / (length @ length.T).clamp(min=1e-8)).cpu()

    def _seen(self, pixels: Tensor) -> Tensor:
        return self.model(pixel_values=pixels[None].to(self.model.device), interpolate_pos_encoding=True).last_hidden_state


class Lpips:
    """LPIPS 0.1 (Zhang et al. 2018): the heads of the lpips package over a trunk from a local file.

    Args:
        net: "alex", "squeeze" or "vgg". trunk: torchvision's state dict, `features.*`: safetensors, or a pickle, of which only plain
            tensors are read.

    Raises:
        ValueError: if the file is no such state dict.
    """

    def __init__(self, net: str, trunk: Path, device: torch.device | str = "cpu"):
        import lpips

        with warnings.catch_warnings():  # torchvision's about its old argument names
            warnings.simplefilter("ignore")
            self.model = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
        # the package cuts the trunk into slices but keeps the layers' numbers: slice3.6.weight is features.6.weight
        state = {name: "features." + name.split(".", 1)[1] for name in self.model.net.state_dict()}
        given = _tensors(trunk)
        wrong = [key for name, key in state.items() if key not in given or given[key].shape != self.model.net.state_dict()[name].shape]
        if wrong:
            raise ValueError(f"{trunk} is not torchvision's network for LPIPS ({net}): {wrong[0]} is missing or of another shape")
        self.model.net.load_state_dict({name: given[key] for name, key in state.items()})
        self.model.eval().requires_grad_(False).to(device)
        self.device = torch.device(device)

    @torch.no_grad()
    def __call__(self, first: np.ndarray, second: np.ndarray) -> float:
        """The distance of two pictures (H, W, 3), float on 0..1, of one size."""
        pair = (torch.from_numpy(np.ascontiguousarray(x)).permute(2, 0, 1)[None].float().to(self.device) * 2 - 1 for x in (first, second))
        return float(self.model(*pair))


def cosine(first: Tensor, second: Tensor) -> float:
    """Cosine of two vectors (D,); 0 where one of them is 0."""
    return float(nn.functional.cosine_similarity(first.double(), second.double(), dim=0))


def structure_distance(model: Dino, first: Image.Image, second: Image.Image, antialias: bool = True) -> float:
    """Mean squared difference of the self-similarities of two pictures of one size (Tumanyan et al. 2022, as PIE-Bench measures it)."""
    return float(nn.functional.mse_loss(model.self_similarity(first, antialias), model.self_similarity(second, antialias)))


def prepared(image: Image.Image, short_side: int, crop: int, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(3, crop, crop) of a picture: short side scaled (bicubic, PIL), centre crop, normalised. Rounds as torchvision's transforms do."""
    image = image.convert("RGB")
    width, height = image.size
    short, long = min(width, height), max(width, height)
    if short != short_side:
        other = int(short_side * long / short)
        size = (short_side, other) if width <= height else (other, short_side)
        image = image.resize(size, Image.Resampling.BICUBIC)
    left, top = (int(round((side - crop) / 2)) for side in image.size)
    image = image.crop((left, top, left + crop, top + crop))
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
    return (pixels - _column(mean)) / _column(std)


def _column(values: Sequence[float]) -> Tensor:
    return torch.tensor(values)[:, None, None]


def _features(found: Any) -> Tensor:
    """(D,) of one row; transformers 5 wraps it."""
    return (found if isinstance(found, Tensor) else found.pooler_output)[0].float().cpu()


def _loaded(kind: Any, folder: Path | str, device: torch.device | str, **options: Any) -> nn.Module:
    model = kind.from_pretrained(str(folder), local_files_only=True, use_safetensors=True, **options)
    return model.float().eval().requires_grad_(False).to(device)


def _tensors(file: Path) -> dict[str, Tensor]:
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(file)
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # of pickle, zipfile or torch, as the file has it
        raise ValueError(f"{file} is no file of plain tensors ({type(error).__name__}: {str(error).splitlines()[0]})") from error
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise ValueError(f"{file} is no state dict of tensors")
    return found

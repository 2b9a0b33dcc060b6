# SPDX-License-Identifier: GPL-3.0-or-later
"""SAM, SAM 2, SAM-HQ and EdgeTAM in transformers' own folders: a box is the prompt.

A folder is what `save_pretrained` writes: config.json, *.safetensors and the processor's files. Nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checkpoints.weights import check_weights
from ..regions.transformers_detector import to_picture
from .segmenter import check_boxes

_PROCESSORS = {"sam2": "Sam2Processor", "edgetam": "Sam2Processor", "sam3_tracker": "Sam3TrackerProcessor"}
_CORNERED = ("sam", "sam_hq")  # see the picture in the upper left of a padded square; the others see it stretched
_MOST_SIDE = 2048  # of the picture that the processor gets: the networks see 1024
_LOW = 256  # side of the masks that these networks make, of the picture's longer side


class TransformersSegmenter(nn.Module):
    """See the module. The picture is looked at once for all boxes of a call; the owner moves the module, it never moves itself."""

    soft, blind = False, False

    def __init__(self, network: nn.Module, processor: Any):
        super().__init__()
        self.network, self.processor = network.eval().requires_grad_(False), processor
        self.family = str(network.config.model_type).replace("_video", "")

    def pixel(self, box: Tensor, size: tuple[int, int]) -> float:
        """See `Segmenter.pixel`."""
        return max(max(size) / _LOW, 1.0)

    @torch.no_grad()
    def segment(self, image: Tensor, boxes: Tensor, progress: Callable[[int], None] | None = None) -> Tensor:
        """See `Segmenter.segment`. Of the masks that a network offers for a box, the one that it holds for the best is taken."""
        boxes = check_boxes(image, boxes, self.family)
        height, width = int(image.shape[-2]), int(image.shape[-1])
        masks = torch.zeros(len(boxes), height, width)
        if not len(boxes):
            return masks
        ratio = min(_MOST_SIDE / max(height, width), 1.0)
        size = (max(round(height * ratio), 1), max(round(width * ratio), 1))
        small = image[None].float() if ratio == 1 else F.interpolate(image[None].float(), size, mode="bilinear", antialias=True)
        picture = to_picture(small)
        scale = boxes.new_tensor([size[1] / width, size[0] / height] * 2)
        first = next(self.network.parameters())
        seen = None
        for i, box in enumerate(boxes):
            inputs = self.processor(images=picture, input_boxes=[[(box * scale).tolist()]], return_tensors="pt").to(first.device)
            if seen is None:
                seen = self._look(inputs["pixel_values"].to(first.dtype))
            out = self.network(input_boxes=inputs["input_boxes"].to(first.dtype), **seen)
            best = int(out.iou_scores.float().flatten().argmax())
            low = out.pred_masks.float().cpu().flatten(0, -3)[best][None, None]
            masks[i] = self._at(low, inputs, size, (height, width))
            if progress is not None:
                progress(i + 1)
        return masks

    def _look(self, pixels: Tensor) -> dict[str, Any]:
        """What the network sees in the picture, in the form that its forward takes beside a box."""
        seen = self.network.get_image_embeddings(pixels)
        if self.family == "sam_hq":  # also gives what its first layers saw
            embeddings, middle = seen
            return {"image_embeddings": embeddings, "intermediate_embeddings": middle}
        return {"image_embeddings": seen}

    def _at(self, low: Tensor, inputs: Any, size: tuple[int, int], full: tuple[int, int]) -> Tensor:
        """Logits (1, 1, h, w) as a mask (H, W) in 0..1 of the photo."""
        if self.family in _CORNERED:
            square = inputs["pixel_values"].shape[-2:]
            rows, columns = (int(v) for v in inputs["reshaped_input_sizes"][0])
            low = F.interpolate(low, tuple(square), mode="bilinear", align_corners=False)[..., :rows, :columns]
        # steep, but no step: the middle of the ramp is the edge, which is sharpened afterwards
        return F.interpolate(low, full, mode="bilinear", align_corners=False)[0, 0].mul_(4).sigmoid_()


def load_transformers_segmenter(folder: Path | str) -> TransformersSegmenter:
    """The segmenter in a folder of transformers, on the CPU in float32.

    Raises:
        ValueError: for pickled or broken weights, a folder without a processor, or a model that takes no boxes.
        ImportError: if its family needs a package that is not installed.
    """
    import transformers

    folder = Path(folder)
    check_weights(folder)
    local = {"local_files_only": True, "trust_remote_code": False}
    auto = transformers.AutoModelForMaskGeneration
    try:
        config = transformers.AutoConfig.from_pretrained(folder, **local)
        if type(config) not in auto._model_mapping:
            raise ValueError(f"a model of type {config.model_type!r} makes no masks from boxes")
        network, loaded = auto.from_pretrained(folder, use_safetensors=True, output_loading_info=True, dtype=torch.float32, **local)
        if not hasattr(network, "get_image_embeddings"):
            raise ValueError(f"a model of type {config.model_type!r} cannot be asked for one box at a time")
        # folders of SAM 2 name the processor of its video model, which takes no single picture
        name = next((c for kind, c in _PROCESSORS.items() if config.model_type.startswith(kind)), "AutoProcessor")
        processor = getattr(transformers, name).from_pretrained(folder, **local)
    except ImportError:
        raise
    except Exception as error:  # a broken config or processor ends in whatever its library raises
        raise ValueError(f"{folder.name} could not be loaded as a segmenter of transformers: {error}") from error
    if missing := sorted(loaded["missing_keys"]):
        raise ValueError(f"{folder.name} has no weights for {len(missing)} parameters, the first is {missing[0]}; copy it again.")
    return TransformersSegmenter(network, processor)

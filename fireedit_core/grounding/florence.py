# SPDX-License-Identifier: GPL-3.0-or-later
"""Florence-2: no chat, but it finds what a phrase names. Its own processor writes the task and reads the `<loc_..>` words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from PIL import Image
from torch import nn
from transformers import StoppingCriteriaList

from .chat import Watch, moved

_TASK = "<CAPTION_TO_PHRASE_GROUNDING>"


class FlorenceModel(nn.Module):
    """A Florence-2 with its processor. The owner moves the module, it never moves itself."""

    def __init__(self, network: nn.Module, processor: Any, name: str, dtype: torch.dtype = torch.float32):
        super().__init__()
        self.network, self.processor = network.eval().requires_grad_(False), processor
        self.name, self.dtype = name, dtype

    @torch.no_grad()
    def locate(
        self, picture: Image.Image, phrase: str, most_tokens: int = 256, progress: Callable[[int], None] | None = None
    ) -> list[tuple[float, float, float, float]]:
        """Boxes x1, y1, x2, y2 in pixels of an RGB picture of what an English phrase names; empty where it finds nothing.

        `progress(tokens written)` is called after each token and may raise to stop.
        """
        inputs = self.processor(text=f"{_TASK}{phrase}", images=picture, return_tensors="pt")
        device = self.network.get_input_embeddings().weight.device
        inputs = {key: moved(value, device, self.dtype) for key, value in inputs.items()}
        written = self.network.generate(
            **inputs, max_new_tokens=most_tokens, do_sample=False, num_beams=1,
            stopping_criteria=StoppingCriteriaList([Watch(0, None, progress)]),
        )  # fmt: skip
        text = self.processor.batch_decode(written, skip_special_tokens=False)[0]
        found = self.processor.post_process_generation(text=text, task=_TASK, image_size=picture.size)[_TASK]
        boxes = []
        for x1, y1, x2, y2 in found.get("bboxes", []):
            box = (max(float(x1), 0.0), max(float(y1), 0.0), min(float(x2), float(picture.width)), min(float(y2), float(picture.height)))
            if box[2] > box[0] and box[3] > box[1]:
                boxes.append(box)
        return list(dict.fromkeys(boxes))

# SPDX-License-Identifier: GPL-3.0-or-later
"""Detectors in transformers' own folders: fixed classes (DETR kin, RT-DETR) and open vocabulary (Grounding DINO, OWLv2).

A folder is what `save_pretrained` writes: config.json, *.safetensors and the processor's files. Nothing is downloaded.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from ..checkpoints.weights import check_weights
from .detector import LabelledDetector, Proposals
from .record import OBJECT_LABEL

OPEN_VOCABULARY = ("grounding-dino", "mm-grounding-dino", "owlv2", "owlvit")
_AS_ONE_TEXT = ("grounding-dino", "mm-grounding-dino")  # phrases in one sentence, a full stop after each


class TransformersDetector(LabelledDetector):
    """A network of fixed classes with its image processor; classes are named by the config's `id2label`."""

    own_threshold = 0.5  # what `post_process_object_detection` has

    def __init__(self, network: nn.Module, processor: Any):
        super().__init__()
        self.network, self.processor = network.eval().requires_grad_(False), processor

    def propose(self, image: Tensor, score_threshold: float, iou_threshold: float, prompt: str = "") -> Proposals:
        """See `LabelledDetector.propose`; the prompt means nothing to a network of fixed classes."""
        picture = to_picture(image)
        inputs = self.processor(images=picture, return_tensors="pt").to(image.device)
        out = self.network(**_in_type(inputs, self.network))
        found = self.processor.post_process_object_detection(out, threshold=score_threshold, target_sizes=[picture.size[::-1]])[0]
        names = self.network.config.id2label
        return Proposals(found["boxes"], found["scores"], [str(names.get(int(i), int(i))) for i in found["labels"]])


class OpenVocabularyDetector(LabelledDetector):
    """A network that looks for what the prompt names."""

    reads_prompt = True

    def __init__(self, network: nn.Module, processor: Any):
        super().__init__()
        self.network, self.processor = network.eval().requires_grad_(False), processor
        self.joined = network.config.model_type in _AS_ONE_TEXT
        self.own_threshold = 0.25 if self.joined else 0.1  # what `post_process_grounded_object_detection` has

    def propose(self, image: Tensor, score_threshold: float, iou_threshold: float, prompt: str = "") -> Proposals:
        """See `LabelledDetector.propose`; regions are called as the prompt calls them."""
        picture, things, joined = to_picture(image), phrases(prompt), self.joined
        self._check_length(things)
        text = ". ".join(things) + "." if joined else [things]
        options = {} if joined else {"padding": "max_length", "max_length": self._most_tokens()}
        inputs = self.processor(images=picture, text=text, return_tensors="pt", **options).to(image.device)
        out = self.network(**_in_type(inputs, self.network))
        wanted = {"threshold": score_threshold, "target_sizes": [picture.size[::-1]]}
        wanted |= {"input_ids": inputs["input_ids"]} if joined else {"text_labels": [things]}
        found = self.processor.post_process_grounded_object_detection(out, **wanted)[0]
        labels = found.get("text_labels") or found["labels"]
        return Proposals(found["boxes"], found["scores"], [_as_asked(str(label), things) for label in labels])

    def _most_tokens(self) -> int:
        config = self.network.config
        return int(config.max_text_len if self.joined else config.text_config.max_position_embeddings)

    def _check_length(self, things: list[str]) -> None:
        """Refuse what is longer than the network reads: all of a joined text, else each phrase; its library would fail, or cut in silence.

        Raises:
            ValueError: naming what is too long.
        """
        most = self._most_tokens()
        for text in [". ".join(things) + "."] if self.joined else things:
            count = len(self.processor.tokenizer(text)["input_ids"])
            if count > most:
                shown = text if len(text) <= 60 else f"{text[:57]}..."
                raise ValueError(
                    f"the prompt {shown!r} is too long: {count} tokens, and this detector reads {most}. Name fewer or shorter things."
                )


def _as_asked(label: str, things: list[str]) -> str:
    """The phrase of the prompt that a label comes from: of a joined text it has words of a phrase, or of two ("helmet. bus")."""
    if label in things or len(things) == 1:
        return label if label in things else things[0]
    words = set(re.findall(r"\w+", label))
    shares = [len(words & set(thing.split())) / len(thing.split()) for thing in things]
    best = max(shares)
    return things[shares.index(best)] if best > 0 else OBJECT_LABEL  # signs of the tokenizer


def phrases(prompt: str) -> list[str]:
    """Things to look for: lower case, parted by commas, full stops or new lines, each once.

    Raises:
        ValueError: where nothing is named.
    """
    prompt = prompt.encode("utf-8", "ignore").decode()  # half of a surrogate pair is no letter to any tokenizer
    found = list(dict.fromkeys(p.strip().lower() for p in re.split(r"[,.;\n，、；。]", prompt) if p.strip()))
    if not found:
        raise ValueError("the prompt names nothing to look for: write for example 'cat, dog'.")
    return found


def load_transformers_detector(folder: Path | str, model_type: str) -> LabelledDetector:
    """The detector in a folder of transformers, on the CPU in float32.

    Raises:
        ValueError: for pickled or broken weights, a folder without a processor, or another kind of model.
        ImportError: if its family needs a package that is not installed.
    """
    import transformers

    folder = Path(folder)
    check_weights(folder)
    local = {"local_files_only": True, "trust_remote_code": False}
    open_words = model_type in OPEN_VOCABULARY
    auto = transformers.AutoModelForZeroShotObjectDetection if open_words else transformers.AutoModelForObjectDetection
    try:
        config = transformers.AutoConfig.from_pretrained(folder, **local)
        if type(config) not in auto._model_mapping:
            raise ValueError(f"a model of type {model_type!r} is no object detector")
        if getattr(config, "use_pretrained_backbone", False):
            config.use_pretrained_backbone = False  # the weights are in this folder; the backbone's are not to be fetched
        network, loaded = auto.from_pretrained(
            folder, config=config, use_safetensors=True, output_loading_info=True, dtype=torch.float32, **local
        )
        kind = transformers.AutoProcessor if open_words else transformers.AutoImageProcessor
        processor = kind.from_pretrained(folder, **local)
    except ImportError:
        raise
    except Exception as error:  # a broken tokenizer or config ends in whatever its library raises
        raise ValueError(f"{folder.name} could not be loaded as a detector of transformers: {error}") from error
    if missing := sorted(loaded["missing_keys"]):
        raise ValueError(f"{folder.name} has no weights for {len(missing)} parameters, the first is {missing[0]}; copy it again.")
    return (OpenVocabularyDetector if open_words else TransformersDetector)(network, processor)


def to_picture(image: Tensor) -> Image.Image:
    """A picture (1, 3, H, W) in 0..1 as processors of every release take it."""
    return Image.fromarray((image[0].float().cpu().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy())


def _in_type(inputs: Any, network: nn.Module) -> dict[str, Tensor]:
    """The processor's tensors; pixels in the network's type."""
    dtype = next(network.parameters()).dtype
    return {name: x.to(dtype) if x.is_floating_point() else x for name, x in inputs.items()}

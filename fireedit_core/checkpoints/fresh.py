# SPDX-License-Identifier: GPL-3.0-or-later
"""What a component starts from where no source gives its weights: the initialisations that the architecture notes name."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedTokenizerFast

from ..vlm import ImgTokens
from .public_names import published
from .sources.fit import Part
from .sources.language_model import EMBEDDING, model_of
from .sources.lazy_tensor import LazyTensor, derived

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel

    from .sd15 import RoiMode, Sd15Config

# component -> how it starts, and what mends it
STARTS = {
    "vae": "random: no picture comes out; give --instructpix2pix",
    "unet": "random: give --instructpix2pix",
    "language_model": "random: give --language-model",
    "dinov2": "random: give --dinov2 or --groma",
    "clip_vision": "random: give --clip",
    "detector": "random but for its DINOv2: give --groma, or use another detector in the graph",
    "region_encoder": "random: give --groma, or train it",
    "adapter": "random: give --groma, or train it",
    "img_tokens": "mean row of the language model's embedding plus noise (SmartEdit): to be trained",
    "grounding": "random: to be trained (nobody published one)",
    "qformer": "random, queries N(0, 0.02) (SmartEdit): to be trained",
    "tati": "random, every AdaLN a plain LayerNorm: to be trained",
    "hvca": "random: to be trained",
    "visual_attention": "W_q, W_k, W_v are the UNet's own, W_o and the mark zero, so that the UNet starts unchanged: to be trained",
}  # fmt: skip


class FreshState:
    """The state of one fresh component, built when its first tensor is asked for and let go by `clear`.

    The same component comes out the same every time, whatever else is built.
    """

    def __init__(self, name: str, build: Callable[[], nn.Module], publish: Callable[[str, dict[str, Tensor]], dict[str, Tensor]]):
        self.name, self.build, self.publish = name, build, publish
        self._state: dict[str, Tensor] | None = None

    def tensor(self, key: str, shape: tuple[int, ...]) -> LazyTensor:
        return LazyTensor(shape, lambda: self._get(key))

    def clear(self) -> None:
        self._state = None

    def _get(self, key: str) -> Tensor:
        if self._state is None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(zlib.crc32(self.name.encode()))
                self._state = self.publish(self.name, self.build().state_dict())
        return self._state[key]


def fresh_llama(shapes: Mapping[str, tuple[int, ...]], deviation: float) -> Part:
    """A random Llama tensor by tensor, as transformers initialises it: matrices N(0, deviation), norms one."""

    def lazy(key: str, shape: tuple[int, ...]) -> LazyTensor:
        seeded = lambda: torch.Generator().manual_seed(zlib.crc32(key.encode()))  # noqa: E731
        if len(shape) == 1:
            return LazyTensor(shape, lambda: torch.ones(shape))
        return LazyTensor(shape, lambda: torch.empty(shape).normal_(0, deviation, generator=seeded()))

    return {key: lazy(key, shape) for key, shape in shapes.items()}


def img_tokens(language_model: Part, config: Sd15Config) -> Part:
    """[IMG] rows from the mean of the language model's embedding (`ImgTokens.init_from_mean`)."""

    def rows(name: str) -> Callable[[Tensor], Tensor]:
        def make(embedding: Tensor) -> Tensor:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(zlib.crc32(b"img_tokens"))
                made = ImgTokens(**config.settings("img_tokens"))
                made.init_from_mean(embedding)
            return made.state_dict()[name]

        return make

    embedding = language_model[EMBEDDING]
    return {name: derived([embedding], rows(name), shape) for name, shape in config.shapes("img_tokens").items()}


def visual_attention(unet: Part, config: Sd15Config, taken: Part) -> Part:
    """As `VisualCrossAttention.for_unet`: W_q, W_k, W_v of the UNet's own text attention, W_k and W_v as a source gives them."""
    places = config.blank("visual_attention").names
    part: Part = {}
    for key, shape in config.shapes("visual_attention").items():
        _, index, matrix, _ = key.split(".")
        own = unet.get(f"{places[int(index)]}.{matrix}.weight")  # to_out is to_out.0 there: it starts at zero here
        part[key] = taken.get(key) or own or LazyTensor(shape, lambda shape=shape: torch.zeros(shape))
    return part


def null_embedding(config: Sd15Config) -> LazyTensor:
    """The text-dropped condition where no CLIP text tower was given: zeros."""
    shape = config.shapes("tati")["null_embedding"]
    return LazyTensor(shape, lambda: torch.zeros(shape))


def state_of(name: str, config: Sd15Config, roi_mode: RoiMode) -> FreshState:
    """The fresh state of a component of `config`."""
    return FreshState(name, lambda: config.build(name, roi_mode), published)


def lora(made: PretrainedConfig, settings: LoraConfig) -> PeftModel:
    """Fresh LoRA around a language model that is itself on the meta device, initialised by PEFT (A random, B zero)."""
    from peft import get_peft_model
    from peft.tuners.lora import LoraLayer

    with torch.device("meta"):
        model = get_peft_model(model_of(made), settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(zlib.crc32(b"lora"))
        for layer in model.modules():
            if isinstance(layer, LoraLayer):
                layer.lora_A.to_empty(device="cpu")
                layer.lora_B.to_empty(device="cpu")
                layer.reset_lora_parameters("default", True)
    return model


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of single bytes, which needs no vocabulary: ids 0..2 are <unk>, <s>, </s> as in Llama."""
    words = ["<unk>", "<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, [], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>")

# SPDX-License-Identifier: GPL-3.0-or-later
"""A chat model of transformers that looks at one picture and replies: Qwen2-VL, Qwen2.5-VL, Qwen3-VL, SmolVLM2, LLaVA and their kin."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any

import torch
from PIL import Image
from torch import nn
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from .constraint import Vocabulary
from .dialects import PIXELS, Dialect, Size

logger = logging.getLogger("fireedit")

PIXELS_FED = 1_048_576  # at least so many are fed: small things are lost below a megapixel
_MOST_FED = 2.0  # times that: what is larger is scaled down
_MOST_TURN = 1_500  # characters of a reply that are shown to the model again
_ENDS = ("<|im_end|>", "<end_of_utterance>", "<|eot_id|>", "<|end|>", "<end_of_turn>")  # end a turn in chat templates


class ChatModel(nn.Module):
    """A network with its processor. The owner moves the module, it never moves itself.

    Attributes:
        name: for reports. dialect: how it writes boxes. pixels: of a picture that are fed, at least.
    """

    def __init__(
        self, network: nn.Module, processor: Any, dialect: Dialect, name: str, dtype: torch.dtype = torch.float32,
        where: Callable[[], torch.device] | None = None,
    ):  # fmt: skip
        """dtype: of the computation, usually that of the weights. where: the device of the computation, if that is not where the embedding
        lies.

        Raises:
            ValueError: for a processor without a chat template.
        """
        super().__init__()
        self.network, self.processor = network.eval().requires_grad_(False), processor
        self.dialect, self.name, self.dtype, self.pixels, self._where = dialect, name, dtype, PIXELS_FED, where
        self.tokenizer = processor.tokenizer
        if not (getattr(processor, "chat_template", None) or getattr(self.tokenizer, "chat_template", None)):
            raise ValueError(f"{name} has no chat template (chat_template.jinja or chat_template.json); take the -Instruct or -it version.")
        _allow_large_pictures(processor.image_processor, int(_MOST_FED * PIXELS_FED))
        self._vocabulary: Vocabulary | None = None

    @property
    def constrained(self) -> bool:
        """Whether replies are held to a schema."""
        return self._words().ready

    def fitted(self, size: Size) -> Size:
        """(height, width) in which a picture of `size` is fed: `pixels` at least, and not much more."""
        return fitted(size, self.pixels)

    def seen(self, picture: Image.Image) -> Size:
        """(height, width) of a picture as the model counts its pixels: what the processor resizes it to, in whole patches."""
        if self.dialect is not PIXELS:
            return picture.height, picture.width
        processor = self.processor.image_processor
        rows, columns = processor(images=[picture], return_tensors="pt")["image_grid_thw"][0, 1:].tolist()
        return rows * processor.patch_size, columns * processor.patch_size

    @torch.no_grad()
    def reply(
        self,
        picture: Image.Image,
        turns: list[str],
        schema: dict[str, Any] | None = None,
        most_tokens: int = 512,
        progress: Callable[[int], None] | None = None,
    ) -> str:
        """What the model replies, greedily, so always the same.

        Args:
            picture: RGB, in the size of `fitted`. turns: what was said in turn, by us, by the model, by us ...; the picture stands before
                the first. schema: of the reply; held to where a library for it is there. progress: called with the number of tokens
                written so far after each of them; may raise to stop.

        Raises:
            ValueError: where the processor or the network cannot take these inputs.
        """
        messages = [
            {"role": "assistant" if i % 2 else "user", "content": [{"type": "text", "text": text[-_MOST_TURN:] if i % 2 else text}]}
            for i, text in enumerate(turns)
        ]
        messages[0]["content"].insert(0, {"type": "image"})
        device = self._where() if self._where is not None else self.network.get_input_embeddings().weight.device
        try:
            text = self.processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
            inputs = self.processor(text=[text], images=[picture], return_tensors="pt")
        except ImportError:
            raise
        except Exception as error:  # a template or a processor that wants something else ends in whatever it raises
            raise ValueError(f"the processor of {self.name} cannot take the question ({type(error).__name__}: {error})") from error
        inputs = {key: moved(value, device, self.dtype) for key, value in inputs.items()}
        if "token_type_ids" not in inspect.signature(self.network.forward).parameters:
            inputs.pop("token_type_ids", None)  # some tokenizers give them to every model
        constraint = self._words().constraint(schema) if schema is not None else None
        length = inputs["input_ids"].shape[1]
        written = self.network.generate(
            **inputs,
            generation_config=self._settings(most_tokens),
            logits_processor=LogitsProcessorList([constraint] if constraint is not None else []),
            stopping_criteria=StoppingCriteriaList([Watch(length, constraint, progress)]),
        )
        return self.tokenizer.decode(written[0, length:], skip_special_tokens=True)

    def _settings(self, most_tokens: int) -> GenerationConfig:
        """Greedy, without the penalties that folders come with: they would punish the digits of boxes."""
        ends = self._ends()
        pad = self.tokenizer.pad_token_id
        own = self.network.generation_config
        return GenerationConfig(
            max_new_tokens=most_tokens, do_sample=False, num_beams=1, use_cache=True, eos_token_id=ends or None,
            pad_token_id=pad if pad is not None else (ends[0] if ends else 0), bos_token_id=own.bos_token_id,
        )  # fmt: skip

    def _ends(self) -> list[int]:
        """Tokens that end a reply: those of the folder, and those that its template ends a turn with."""
        own = self.network.generation_config.eos_token_id
        found = [*(own if isinstance(own, (list, tuple)) else [own]), self.tokenizer.eos_token_id]
        unknown = self.tokenizer.unk_token_id
        found += [number for number in map(self.tokenizer.convert_tokens_to_ids, _ENDS) if number != unknown]
        return list(dict.fromkeys(int(number) for number in found if number is not None))

    def _words(self) -> Vocabulary:
        if self._vocabulary is None:
            config = self.network.config.get_text_config()
            self._vocabulary = Vocabulary(self.tokenizer, int(config.vocab_size), self._ends())
        return self._vocabulary


def fitted(size: Size, pixels: int) -> Size:
    """(height, width) of a picture of `size` with `pixels` at least and not much more, in the same shape; no side below 28."""
    area = size[0] * size[1]
    ratio = (min(max(area, pixels), int(_MOST_FED * pixels)) / area) ** 0.5
    return max(round(size[0] * ratio), 28), max(round(size[1] * ratio), 28)


class Watch(StoppingCriteria):
    """Looks after each token whether the user wants to go on, and whether the reply is complete."""

    def __init__(self, length: int, constraint: Any, progress: Callable[[int], None] | None):
        self._length, self._constraint, self._progress = length, constraint, progress

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        if self._progress is not None:
            self._progress(input_ids.shape[1] - self._length)
        done = self._constraint is not None and self._constraint.done
        return torch.full((input_ids.shape[0],), done, dtype=torch.bool, device=input_ids.device)


def moved(value: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """A value of a processor on the device; pictures in the type of the computation."""
    if not isinstance(value, torch.Tensor):
        return value
    return value.to(device, dtype) if value.is_floating_point() else value.to(device)


def _allow_large_pictures(processor: Any, pixels: int) -> None:
    """Raise the limit of processors that count pixels (the Qwen family): folders come with smaller ones, to save memory."""
    size = getattr(processor, "size", None)
    try:
        most = size["longest_edge"] if hasattr(processor, "merge_size") else None
    except (KeyError, TypeError):
        return
    if not most or most >= pixels:
        return
    processor.size = {"shortest_edge": size["shortest_edge"], "longest_edge": pixels}
    if hasattr(processor, "max_pixels"):  # transformers 4
        processor.max_pixels = pixels

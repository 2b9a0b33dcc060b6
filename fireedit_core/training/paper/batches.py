# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows of datasets as tensors. Batch `number` of a process is a function of the number, so a run can be entered anywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ...data.mixture import Mixture, shares_of
from ...data.sample import EditSample
from ...vlm import RegionAwareVLM
from .config import PaperConfig
from .shapes import Windows, bucket_sizes, fit, may_flip

S, M = TypeVar("S"), TypeVar("M")


@dataclass
class EditRows:
    """B edits of one size.

    Attributes:
        source, target: (B, 3, H, W) uint8 RGB. mask: (B, H, W) bool, where the edit is. has_mask: (B,) bool; without, `mask` is empty.
        unchanged: (B,) bool, rows whose right answer is to change nothing.
        instructions: B texts. seeds: (B,) int64, of the noise, the timestep and what is dropped; no two draws share one.
    """

    source: Tensor
    target: Tensor
    mask: Tensor
    has_mask: Tensor
    unchanged: Tensor
    instructions: list[str]
    seeds: Tensor


@dataclass
class TalkRows:
    """B conversations about pictures of one size. pictures: (B, 3, H, W) uint8; turns: (speaker, text) of each, "human" or "gpt"."""

    pictures: Tensor
    turns: list[tuple[tuple[str, str], ...]]


def mixtures_of(sources: Sequence[S], mix: Callable[..., M]) -> tuple[M | None, M | None]:
    """(edits, conversations) of sources or streams, each mixed by `mix(sources, weights=)`; None where there are none."""
    talk = [s for s in sources if s.kind == "conversation"]
    edits = [s for s in sources if s.kind != "conversation"]
    mixed = lambda some: mix(some, weights=shares_of(some)) if some else None  # noqa: E731
    return mixed(edits), mixed(talk)


class Rows(Dataset):
    """`rows[number]` is batch `number` of one process: (EditRows, TalkRows or None).

    Args:
        edits: draws of edits. talk: draws of conversations, or None. rank, world: of the process.
        multiple: sides of the buckets are multiples of so many pixels, so that every level of the UNet has whole cells.
    """

    def __init__(self, edits: Mixture, talk: Mixture | None, config: PaperConfig, rank: int = 0, world: int = 1, multiple: int = 64):
        self.edits, self.talk, self.config, self.rank, self.world = edits, talk, config, rank, world
        buckets = bucket_sizes(config.size, multiple) if config.buckets else None
        self.windows = Windows(edits.size, config.batch * world, buckets, config.size, config.seed)

    def __len__(self) -> int:
        return self.config.steps * self.config.accumulate

    def __getitem__(self, number: int) -> tuple[EditRows, TalkRows | None]:
        draws, size = self.windows[number]
        own = draws[self.rank * self.config.batch : (self.rank + 1) * self.config.batch]
        edits = [self._edit(draw, size) for draw in own]
        talk = None
        if self.talk is not None and self.config.conversation_rows:
            numbers = Mixture.indices(number, self.config.conversation_rows, self.rank, self.world)
            talk = talk_rows([self.talk[i] for i in numbers], self.config.size)
        return edit_rows(edits, own, self.config.seed), talk

    def _edit(self, draw: int, size: tuple[int, int]) -> EditSample:
        return augmented(self.edits[draw], size, draw, self.config)


def augmented(sample: EditSample, size: tuple[int, int], draw: int, config: PaperConfig) -> EditSample:
    """The sample at `size`, cut as its draw says, and mirrored where its source allows it."""
    rng = np.random.default_rng((config.seed, draw))
    corner = tuple(rng.random(2)) if config.flip else (0.5, 0.5)
    flip = bool(rng.random() < config.flip) and sample.meta["mirrors"] and may_flip(sample.instruction)
    return fitted(sample, size, corner, flip)


def fitted(sample: EditSample, size: tuple[int, int], corner: tuple[float, float] = (0.5, 0.5), flip: bool = False) -> EditSample:
    """The sample at `size` = (height, width), pictures and mask cut and mirrored together; without boxes, which a detector finds."""
    change = lambda x: None if x is None else fit(x, size, corner, flip)  # noqa: E731
    return EditSample(
        id=sample.id, dataset=sample.dataset, source=change(sample.source), target=change(sample.target), mask=change(sample.mask),
        instruction=sample.instruction, edit_type=sample.edit_type, conversation=sample.conversation, meta=sample.meta,
    )  # fmt: skip


def edit_rows(samples: list[EditSample], draws: list[int], seed: int) -> EditRows:
    """Tensors of samples that have one size.

    Raises:
        ValueError: for a row without a target: a test set cannot be trained on.
    """
    for sample in samples:
        if sample.target is None:
            raise ValueError(f"{sample.dataset} {sample.id} has no target: this dataset is for evaluation or for conversation")
    masks = [np.zeros(s.source.shape[:2], bool) if s.mask is None else s.mask for s in samples]
    unchanged = [bool(np.array_equal(s.source, s.target)) for s in samples]
    return EditRows(
        _pictures([s.source for s in samples]), _pictures([s.target for s in samples]), torch.from_numpy(np.stack(masks)),
        torch.tensor([s.mask is not None for s in samples]), torch.tensor(unchanged), [s.instruction for s in samples],
        torch.tensor([seed * 1_000_000_007 + draw for draw in draws], dtype=torch.int64),
    )  # fmt: skip


def talk_rows(samples: list[EditSample], size: int) -> TalkRows:
    """Tensors of conversations; their pictures are squashed to squares, as both towers do anyway."""
    from PIL import Image

    squares = [np.asarray(Image.fromarray(s.source).resize((size, size), Image.Resampling.LANCZOS)) for s in samples]
    return TalkRows(_pictures(squares), [s.conversation for s in samples])


def loader(rows: Rows, first: int, workers: int) -> DataLoader:
    """Batches `first`, `first` + 1 ... in order; with `workers` processes that read ahead."""
    # a generator of its own: a loader draws a number when it starts, and that must not move the noise of a run that was resumed
    return DataLoader(
        rows, batch_size=None, generator=torch.Generator(), sampler=range(first, len(rows)), num_workers=workers, persistent_workers=False,
        prefetch_factor=2 if workers else None, multiprocessing_context="spawn" if workers else None,
    )  # fmt: skip


def joined(parts: Sequence[EditRows]) -> EditRows:
    """Several batches of one size as one."""
    if len(parts) == 1:
        return parts[0]
    tensors = {f.name: torch.cat([getattr(p, f.name) for p in parts]) for f in fields(EditRows) if f.name != "instructions"}
    return EditRows(**tensors, instructions=[text for part in parts for text in part.instructions])


def conversation_ids(vlm: RegionAwareVLM, turns: list[tuple[tuple[str, str], ...]], limit: int) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids, mask and labels, each (B, T), of conversations; labels are -100 where nothing is to be learnt: at all that humans say.

    The picture stands before the text (`<image>` is cut out, as SmartEdit moves it to the front).
    """
    tokenizer = vlm.tokenizer
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    rows = []
    for conversation in turns:
        ids, labels = [], []
        for speaker, text in conversation:
            text = " ".join(text.replace("<image>", " ").split())
            said = f"USER: {text} ASSISTANT:" if speaker == "human" else text
            new = tokenizer(said, add_special_tokens=not ids)["input_ids"]
            new = new + end if speaker == "gpt" else new
            ids += new
            labels += new if speaker == "gpt" else [-100] * len(new)
        rows.append((ids[:limit], labels[:limit]))
    width = max(len(ids) for ids, _ in rows)
    pad = lambda values, value: torch.tensor([[*v, *[value] * (width - len(v))] for v in values])  # noqa: E731
    ids = pad([ids for ids, _ in rows], tokenizer.pad_token_id or 0)
    mask = pad([[1] * len(ids) for ids, _ in rows], 0).bool()
    return ids, mask, pad([labels for _, labels in rows], -100)


def _pictures(arrays: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()

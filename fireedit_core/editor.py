# SPDX-License-Identifier: GPL-3.0-or-later
"""The three steps before sampling: detect regions, tokenize them, condition on an instruction.

`FireEditor` is what the pipeline, the trainer and the ComfyUI nodes share. Each step takes and returns a value that can be
looked at, saved and reused: the same picture needs one detection and one tokenization for any number of instructions.
"""

from __future__ import annotations

import logging
import string
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .checkpoints.index import needs_language
from .diffusion.hvca import HVCA
from .diffusion.tati import TATI
from .grounding.answer import mask_meant
from .instructions import has_words, read
from .regions.detector import Detector, detect_each
from .regions.record import Regions
from .thumbnail import thumbnail
from .vlm import ClipReader, EditQFormer, Grounding, GroundingHead, RegionAwareVLM, VisionFeatures, encode_vision

logger = logging.getLogger("fireedit")


@dataclass
class RegionTokens:
    """A batch of B pictures as the VLM sees it. Independent of the instruction and of the diffusion timestep.

    Attributes:
        regions: one `Regions` per picture, as given (may be empty).
        mask: (B, n) bool, True where a region token stands; an empty picture has one token for the whole image.
        region_tokens: (B, n, D). image_tokens: (B, m, D), row-major over `token_grid`.
        features: hidden states of both vision towers, for HVCA.
        image_size: (height, width) in pixels of the pictures.
        thumbnail: (B, 3, 16, 16) on 0..1, by which a later step sees that it was given another picture; None says nothing.
    """

    regions: list[Regions]
    mask: Tensor
    region_tokens: Tensor
    image_tokens: Tensor
    features: VisionFeatures
    token_grid: tuple[int, int]
    image_size: tuple[int, int]
    thumbnail: Tensor | None = None

    def __len__(self) -> int:
        return len(self.regions)


@dataclass
class EditConditions:
    """Everything that sampling needs, for B pictures. e and v do not depend on the timestep.

    Attributes:
        edit_embedding: e, (B, 77, D). null_embedding: (1, 77, D), takes its place where the text is dropped.
        visual: v of the positive branch, (B, 16, D). visual_image_only: v of the branch without text. Zero where the
            image is dropped.
        mask: (B, H, W) soft mask in 0..1 of where the edit will land.
        regions: the regions of each picture with the probability of being meant as score, best first. Where no region
            is meant (a change of background), all scores are small.
    """

    edit_embedding: Tensor
    null_embedding: Tensor
    visual: Tensor
    visual_image_only: Tensor
    mask: Tensor
    regions: list[Regions]


class FireEditor(nn.Module):
    """The trained modules of FireEdit outside the UNet and the autoencoder.

    `vision`, `language`, `reader` and `injection` name the groups that are needed together, so that a host can load one group,
    use it and let it go.

    Args:
        reader: CLIP's text tower, which takes the place of an untrained Q-Former.
        untrained: of `checkpoints.index.UNTRAINED`, what is left out because it is not trained yet. Without the Q-Former e is CLIP's
            reading of the instruction; without grounding the edit lands in the given regions of a score of at least 0.5, else the best,
            and everywhere where there is none; without HVCA v is zero. TATI is left out by its strength, where it is applied.
        without: of `checkpoints.index.WITHOUT`, what the bundle was trained without, as the paper or a row of its table 3 has it: "regions"
            leaves region tokens out of the sequence, "meant_region" the row that the Q-Former reads beside the [IMG] states, "grounding"
            the head, so that the edit lands as with an untrained one.
    """

    def __init__(
        self, dinov2: nn.Module, clip_vision: nn.Module, detector: nn.Module, vlm: RegionAwareVLM, grounding: GroundingHead,
        qformer: EditQFormer, tati: TATI, hvca: HVCA, reader: ClipReader | None = None, untrained: Iterable[str] = (),
        without: Iterable[str] = (),
    ):  # fmt: skip
        super().__init__()
        self.detector = detector
        self.vision = nn.ModuleDict(
            {"dinov2": dinov2, "clip_vision": clip_vision, "adapter": vlm.adapter, "region_encoder": vlm.region_encoder}
        )
        self.vlm = vlm
        self.language = nn.ModuleDict(
            {
                "language_model": vlm.language_model,
                "img_tokens": vlm.img_tokens,
                "grounding": grounding,
                "qformer": qformer,
                "hvca": hvca,
            }
        )
        self.tati = tati
        self.reader = reader
        self.untrained, self.without = frozenset(untrained), frozenset(without)
        if self.reads_with_clip and reader is None:
            raise ValueError("the Q-Former is untrained, and no CLIP text encoder was given to read in its place")

    @property
    def reads_with_clip(self) -> bool:
        """Whether CLIP reads the instruction, because the Q-Former is untrained; then the language model is not asked."""
        return "qformer" in self.untrained

    @property
    def grounds(self) -> bool:
        """Whether the bundle itself finds the place of the edit; else it lands in the regions that are given."""
        return not {"qformer", "grounding"} & (self.untrained | self.without)

    @property
    def wants_regions(self) -> bool:
        """Whether the bundle's own regions are to be detected for an edit: it finds its place by them, or has learnt to read them."""
        learnt = self.grounds or (not self.reads_with_clip and "grounding" in self.without)
        return self.detects and learnt and "regions" not in self.without

    @property
    def detects(self) -> bool:
        """Whether the bundle's own detector finds anything."""
        return "detector" not in self.untrained

    @property
    def needs_language(self) -> bool:
        """Whether `condition` needs the group `language`."""
        return needs_language(self.untrained)

    # --- the steps ---------------------------------------------------------------------------------------------------

    def use_detector(self, detector: Detector) -> None:
        """Find regions by another detector than the bundle's own, which may be untrained."""
        self.detector, self.untrained = detector, self.untrained - {"detector"}

    @torch.no_grad()
    def detect(
        self, images: Tensor, score_threshold: float | None = None, iou_threshold: float = 0.6, max_regions: int = 100,
        progress: Callable[[int], None] | None = None,
    ) -> list[Regions]:  # fmt: skip
        """Class-agnostic regions of pictures (B, 3, H, W) in 0..1, best first; picture by picture, `progress(done)`. Without a threshold
        by the detector's own."""
        score_threshold = self.detector.own_threshold if score_threshold is None else score_threshold
        return detect_each(self.detector, images, score_threshold, iou_threshold, max_regions, progress=progress)

    def tokenize(self, images: Tensor, regions: list[Regions]) -> RegionTokens:
        """Region tokens P, image tokens mu(x) and vision features of pictures (B, 3, H, W) in 0..1.

        Raises:
            ValueError: if the number of regions differs from the number of pictures, or they belong to another size.
        """
        size = (int(images.shape[-2]), int(images.shape[-1]))
        if len(regions) != images.shape[0]:
            raise ValueError(f"{images.shape[0]} pictures need as many sets of regions, got {len(regions)}")
        for one in regions:
            one.check_image(size)
        device = _device_of(self.vision)
        boxes, mask = pad_boxes(regions, device)
        if "regions" in self.without:
            mask = torch.zeros_like(mask)
            if any(map(len, regions)):
                logger.warning("this bundle was trained without region tokens: the given regions are not read")
        features = encode_vision(self.vision["dinov2"], self.vision["clip_vision"], images.to(device))
        grid = features.dino_grid
        tokens = self.vision["region_encoder"](features.dino, grid, boxes, mask)
        image_tokens = self.vision["adapter"](features.dino[-1], grid)
        half = (grid[0] // 2, grid[1] // 2)
        return RegionTokens(regions, mask, tokens, image_tokens, features, half, size, thumbnail(images))

    def condition(self, tokens: RegionTokens, instructions: list[str]) -> EditConditions:
        """Read the instructions over the tokens: edit embedding, visual tokens and grounding.

        Args:
            instructions: one per picture, or a single one for all.

        Raises:
            ValueError: for an empty instruction, or a number that does not fit.
        """
        instructions = check_instructions(instructions, len(tokens))
        grounding = None
        if self.reads_with_clip:
            embedding = self.reader(instructions)
        else:
            embedding, grounding = self._read(tokens, instructions)
        null = self.tati.null_embedding.to(embedding)
        hvca = self.language["hvca"]
        if "hvca" in self.untrained:
            visual = image_only = embedding.new_zeros(len(tokens), hvca.config.num_queries, hvca.config.hidden_size)
        else:
            memory = hvca.visual_memory(tokens.features.to(_device_of(hvca)))
            asked = embedding.to(memory.device)
            visual, image_only = hvca(asked, memory), hvca(null.to(asked).expand_as(asked), memory)
        if not self.grounds:
            where = [mask_meant(one) for one in tokens.regions]
            found = [one.sorted_by_score() for one in tokens.regions]
            return EditConditions(embedding, null, visual, image_only, torch.stack(where).to(embedding.device), found)
        scores = grounding.region_scores()
        found = []
        for row, regions in zip(scores, tokens.regions, strict=True):
            found.append(regions.with_scores(row[: len(regions)].detach().float().cpu()).sorted_by_score())
        return EditConditions(embedding, null, visual, image_only, grounding.mask(tokens.image_size), found)

    def _read(self, tokens: RegionTokens, instructions: list[str]) -> tuple[Tensor, Grounding]:
        """e (B, 77, D) and the grounding, by the language model."""
        device = _device_of(self.language)
        ids, text_mask = self.vlm.encode_text(instructions, device)
        move = lambda x: x.to(device)  # noqa: E731
        mask = move(tokens.mask)
        states = self.vlm(ids, text_mask, move(tokens.image_tokens), move(tokens.region_tokens), mask)
        boxes, _ = pad_boxes(tokens.regions, device)
        grounding = self.language["grounding"](states.img, states.regions, mask, boxes, states.image, tokens.token_grid)
        read = grounding.with_meant_region(states.img, move(tokens.region_tokens))
        if "meant_region" in self.without:
            read = states.img
        elif not self.grounds:  # the Q-Former's row of the meant region is zero, as in its alignment to CLIP
            read = torch.cat([states.img, torch.zeros_like(read[:, -1:])], dim=1)
        return self.language["qformer"](read), grounding

    @property
    def text_limit(self) -> int:
        """Tokens of an instruction that are read."""
        return self.reader.rows if self.reads_with_clip else self.vlm.img_tokens.config.max_text_tokens

    def unread_text(self, instruction: str) -> str:
        """What of an instruction stands beyond the tokens that are read; "" where all of it is."""
        if self.reads_with_clip:
            return self.reader.unread(instruction.strip())
        config = self.vlm.img_tokens.config
        prompt = config.prompt_template.format(instruction=instruction.strip())
        ids = self.vlm.tokenizer(prompt)["input_ids"]
        if len(ids) <= config.max_text_tokens:
            return ""
        if not self.vlm.tokenizer.is_fast:
            return self.vlm.tokenizer.decode(ids[config.max_text_tokens :], skip_special_tokens=True).strip()
        # a fast tokenizer knows where each token stands in the text; special ones stand at (0, 0)
        places = self.vlm.tokenizer(prompt, return_offsets_mapping=True)["offset_mapping"]
        return next((prompt[first:].strip() for first, last in places[config.max_text_tokens :] if last > first), "")

    def unknown_words(self, instruction: str) -> list[str]:
        """Words of the instruction that the bundle's tokenizer does not know at all (each becomes its unknown token)."""
        tokenizer = self.vlm.tokenizer
        if self.reads_with_clip:  # it reads letter by letter what it has no word for
            return []
        if tokenizer.unk_token_id is None:
            return []
        words = [w for w in (x.strip(string.punctuation) for x in instruction.lower().split()) if w]
        return [w for w in words if tokenizer.unk_token_id in tokenizer(w, add_special_tokens=False)["input_ids"]]


def check_instructions(instructions: list[str], pictures: int) -> list[str]:
    """One instruction per picture, without the clauses that forbid something; a single one serves all.

    "don't remove the orange cat, remove the yellow cat" comes back as "remove the yellow cat": a model would read the orange cat too.
    Other instructions come back as they are.

    Raises:
        ValueError: for another number, and for texts that are empty, have no words, or ask for nothing to be done.
    """
    if len(instructions) == 1:
        instructions = instructions * pictures
    if len(instructions) != pictures:
        raise ValueError(f"{pictures} pictures need one instruction or {pictures}, got {len(instructions)}")
    if any(not text.strip() for text in instructions):
        raise ValueError("the instruction is empty: write what to change, for example 'remove the apple'")
    return [_wanted(text) for text in instructions]


def _wanted(text: str) -> str:
    if not has_words(text):
        raise ValueError(f"the instruction {text.strip()!r} has no words: write what to change, for example 'remove the apple'")
    request = read(text)
    if not request.kept:
        return text
    if not request.edits:
        raise ValueError(f"the instruction {text.strip()!r} only says what must not be done: write what to change")
    return " and ".join(request.edits)


def pad_boxes(regions: list[Regions], device: torch.device | str | None = None) -> tuple[Tensor, Tensor]:
    """Normalised cxcywh boxes (B, n, 4) and mask (B, n); a picture without regions gets one box of the whole image."""
    rows = [(r if len(r) else Regions.whole_image(r.image_size)).normalised() for r in regions]
    width = max(len(row) for row in rows)
    boxes = torch.stack([F.pad(row.float(), (0, 0, 0, width - len(row))) for row in rows])
    mask = torch.tensor([[i < len(row) for i in range(width)] for row in rows])
    return boxes.to(device), mask.to(device)


def repeat_tokens(tokens: RegionTokens, times: int) -> RegionTokens:
    """The same picture `times` times, for one picture with several instructions. Needs a batch of one."""
    if len(tokens) != 1:
        raise ValueError(f"only a single picture can be repeated, got {len(tokens)}")
    wide = lambda x: x.expand(times, *x.shape[1:])  # noqa: E731
    features = replace(
        tokens.features, dino=tuple(map(wide, tokens.features.dino)), clip=tuple(map(wide, tokens.features.clip))
    )
    return replace(
        tokens, regions=tokens.regions * times, mask=wide(tokens.mask), region_tokens=wide(tokens.region_tokens),
        image_tokens=wide(tokens.image_tokens), features=features,
        thumbnail=None if tokens.thumbnail is None else wide(tokens.thumbnail),
    )  # fmt: skip


def _device_of(module: nn.Module) -> torch.device:
    return next(module.parameters()).device

# SPDX-License-Identifier: GPL-3.0-or-later
"""A judge that is not the editor: a small classifier that looks at one box of a picture and says what is there.

It was trained on sprites alone (`fireedit_core.training.judge`) and knows nothing of the model that it judges. Beside the
nouns it knows two more answers: `nothing`, clean background, and `smudge`, the haze that bad edits leave behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from ..data import SceneSample

JUDGE = Path(__file__).resolve().parents[2] / "models" / "judge"
NOTHING, SMUDGE, NATIVE = "nothing", "smudge", ""
CROP, MARGIN = 48, 2  # pixels: side of what the classifier sees, and what it sees around the box


class SceneJudge(ModelMixin, ConfigMixin):
    """Noun and colour of what stands in a crop.

    Shapes: crops (N, 3, 48, 48) in 0..1 -> noun logits (N, len(nouns)), colour logits (N, len(colours)).

    Args:
        nouns: the last two are NOTHING and SMUDGE. colours: the first is NATIVE, the sprite's own colours.
    """

    @register_to_config
    def __init__(self, nouns: Sequence[str], colours: Sequence[str], widths: Sequence[int] = (48, 96, 128)):
        super().__init__()
        inside = widths[0]
        layers: list[nn.Module] = [nn.Conv2d(3, inside, 4, stride=2, padding=1)]
        for width in widths:
            layers += [
                nn.Conv2d(inside, width, 3, padding=1), nn.GroupNorm(8, width), nn.SiLU(),
                nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(8, width), nn.SiLU(), nn.AvgPool2d(2),
            ]  # fmt: skip
            inside = width
        self.features = nn.Sequential(*layers)
        self.noun, self.colour = (nn.Linear(inside * (CROP // 2 ** (len(widths) + 1)) ** 2, len(names)) for names in (nouns, colours))

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.features(crops * 2 - 1).flatten(1)
        return self.noun(hidden), self.colour(hidden)

    @torch.no_grad()
    def look(self, picture: np.ndarray, boxes: Sequence[Sequence[float]]) -> list[tuple[str, str]]:
        """(noun, colour) in each box (xyxy, pixels) of a picture (H, W, 3), uint8 or float on 0..1."""
        if not len(boxes):
            return []
        image = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1).float()
        image = image / 255 if picture.dtype == np.uint8 else image
        nouns, colours = self(crops(image, torch.as_tensor(np.asarray(boxes), dtype=torch.float32)).to(self.device))
        names = zip(nouns.argmax(1).tolist(), colours.argmax(1).tolist(), strict=True)
        return [(self.config.nouns[n], self.config.colours[c]) for n, c in names]


def crops(image: Tensor, boxes: Tensor) -> Tensor:
    """What the judge sees of boxes (N, 4), xyxy in pixels, of an image (3, H, W): (N, 3, CROP, CROP)."""
    height, width = image.shape[-2:]
    found = []
    for x0, y0, x1, y1 in boxes.tolist():
        left, top = max(int(x0) - MARGIN, 0), max(int(y0) - MARGIN, 0)
        part = image[:, top : min(int(np.ceil(y1)) + MARGIN, height), left : min(int(np.ceil(x1)) + MARGIN, width)]
        found.append(F.interpolate(part[None], (CROP, CROP), mode="bilinear", antialias=True, align_corners=False))
    return torch.cat(found)


def load_judge(folder: str | Path = JUDGE) -> SceneJudge:
    """The judge of this repository. Only safetensors are read.

    Raises:
        OSError: if its files are not there; `python -m fireedit_core.training.judge` makes them.
    """
    if not (Path(folder) / "config.json").is_file():
        raise OSError(f"no judge in {folder}: train it with `python -m fireedit_core.training.judge`")
    return SceneJudge.from_pretrained(folder, use_safetensors=True, torch_dtype=torch.float32).eval()


# --- verdicts --------------------------------------------------------------------------------------------------------

# Fixed before any weights were judged; `python -m fireedit_core.evaluation judge` shows what passes and what fails.
LEAST_PSNR = 20.0  # dB inside the mask
LEAST_SHADING = 0.7  # correlation of the light and dark of a thing with the target's; a hole or a background has none to keep


@dataclass(frozen=True)
class Verdict:
    """What the judge says about one edit.

    Attributes:
        right: the wanted thing (or nothing) stands at the wanted place. close: the edited pixels are near the target's, in
            PSNR and, where a thing stands, in shading.
        same: every other object is still itself. psnr: inside the mask, in dB.
    """

    right: bool
    close: bool
    same: bool
    psnr: float

    @property
    def success(self) -> bool:
        """All three."""
        return self.right and self.close and self.same

    def to_dict(self) -> dict[str, bool]:
        """Without the PSNR."""
        return {"success": self.success, "right": self.right, "close": self.close, "same": self.same}


def judge_edit(judge: SceneJudge, sample: SceneSample, edit: np.ndarray) -> Verdict:
    """Judge an edited picture (H, W, 3), uint8 or float on 0..1, against its pair."""
    picture, target = unit(edit), unit(sample.target)
    wanted = wanted_thing(sample)
    others = [(noun, colour, box) for noun, colour, box in sample.meta["target_objects"] if (noun, colour, tuple(box)) != wanted]
    looks = judge.look(picture, [box for *_, box in others] + ([wanted[2]] if wanted else []))
    same = all((noun, colour) == look for (noun, colour, _), look in zip(others, looks, strict=False))
    right = True
    if wanted:
        noun, colour, _ = wanted
        right = looks[-1][0] == noun and (noun == NOTHING or looks[-1][1] == colour)
    psnr = psnr_of(picture, target, sample.mask)
    close = psnr >= LEAST_PSNR
    if wanted and wanted[0] != NOTHING:
        close = close and shading(picture, target, sample.mask) >= LEAST_SHADING
    return Verdict(bool(right), bool(close), bool(same), psnr)


def wanted_thing(sample: SceneSample) -> tuple[str, str, tuple] | None:
    """(noun, colour, box) that must stand in the edited picture; NOTHING for a removal, None for a background."""
    if sample.edit_type == "background":
        return None
    if sample.edit_type == "remove":
        return NOTHING, NATIVE, tuple(float(v) for v in sample.boxes[sample.target_index])
    before = {(n, c, tuple(map(float, b))) for n, c, b in zip(sample.labels, sample.colours, sample.boxes, strict=True)}
    new = [(n, c, tuple(b)) for n, c, b in sample.meta["target_objects"] if (n, c, tuple(map(float, b))) not in before]
    return new[0]


def unit(picture: np.ndarray) -> np.ndarray:
    """A picture as float64 on 0..1; uint8 is divided by 255, floats are taken as they are."""
    return picture / 255.0 if picture.dtype == np.uint8 else picture.astype(np.float64)


def psnr_of(edit: np.ndarray, target: np.ndarray, mask: np.ndarray) -> float:
    """PSNR in dB of pictures on 0..1 inside mask (H, W) bool; at most 60."""
    return float(-10 * np.log10(max(float(np.square(edit - target)[mask].mean()), 1e-6)))


def shading(edit: np.ndarray, target: np.ndarray, mask: np.ndarray) -> float:
    """Correlation (-1..1) of the luma of two pictures inside mask (H, W) bool; 0 for a flat one."""
    weights = np.array([0.299, 0.587, 0.114])
    a, b = ((picture @ weights)[mask] for picture in (edit, target))
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / max(float(np.sqrt((a * a).sum() * (b * b).sum())), 1e-6))

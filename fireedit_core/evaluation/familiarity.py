# SPDX-License-Identifier: GPL-3.0-or-later
"""From what error of its autoencoder on a bundle says that a picture is not of its world: chosen on data, measured on other data."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ..checkpoints.bundle import INDEX
from ..data import RICH_WORLD, World
from ..data.formats.reader import BrokenRow
from ..data.formats.reader import picture as read_picture
from ..diffusion.compositing import WorkingSize
from ..diffusion.pipeline import FireEditPipeline, decode_latents, encode_latents, pictures_to_tensor
from ..diffusion.reconstruction import coarse_error
from ..whole_files import write_json
from .photographs import picture_files
from .scenes import Scenes, to_tensor
from .summary import markdown_table

CROPS = 8  # of each photograph: the whole and seven windows of it, as people crop
LARGEST = 1500  # pixels of the long side: the working size is far below
# A scene that is called a photograph gives one superfluous line, a photograph that is not called one a confident wrong edit.
FALSE_ALARMS = 0.02


@dataclass(frozen=True)
class Familiarity:
    """What was measured.

    Attributes:
        limit: of `coarse_error`. scenes, photos: errors of the halves that the limit was not chosen on. count: photographs in all.
    """

    limit: float
    scenes: Tensor
    photos: Tensor
    count: int

    @property
    def false_alarms(self) -> float:
        """Share of the bundle's own scenes that are called foreign."""
        return float((self.scenes > self.limit).float().mean())

    @property
    def missed(self) -> float:
        """Share of photographs that are not."""
        return float((self.photos <= self.limit).float().mean())


def photographs(places: Sequence[Path]) -> list[Path]:
    """The picture files that are named or lie in the folders named, sorted.

    Raises:
        ValueError: where there are fewer than two, and as `picture_files`.
    """
    found = picture_files(places)
    if len(found) < 2:
        raise ValueError(f"{len(found)} pictures in {', '.join(map(str, places))}; a limit needs two or more")
    return found


@torch.no_grad()
def error_of(pipe: FireEditPipeline, picture: Tensor) -> float:
    """`coarse_error` of one picture (1, 3, H, W) in 0..1 as an edit would see it."""
    plan = WorkingSize.plan((int(picture.shape[-2]), int(picture.shape[-1])), pipe.config.native_size)
    shrunk = plan.shrink(picture.to(pipe.device))
    return float(coarse_error(decode_latents(pipe.vae, encode_latents(pipe.vae, shrunk)), shrunk))


def study(pipe: FireEditPipeline, scenes: Scenes, files: Sequence[Path], world: World = RICH_WORLD) -> Familiarity:
    """Choose the limit on every other scene and photograph, and measure it on the rest.

    The limit lies where as many photographs as possible are found and no more than `FALSE_ALARMS` of the scenes.
    """
    own = torch.tensor([error_of(pipe, to_tensor([scene.source])) for _, scene in scenes.draw(world)])
    photos = [[error_of(pipe, window) for window in _windows(file)] for file in files]
    chosen_on = torch.tensor([error for of_file in photos[::2] for error in of_file])
    limit = _limit(own[::2], chosen_on)
    return Familiarity(limit, own[1::2], torch.tensor([error for of_file in photos[1::2] for error in of_file]), len(files))


def _limit(scenes: Tensor, photos: Tensor) -> float:
    """Where both kinds of mistake together are fewest, of all limits with few enough false alarms, rounded up to 1e-4."""
    least = float(scenes.quantile(1 - FALSE_ALARMS))
    candidates = [least, *(value for value in torch.cat([scenes, photos]).tolist() if value > least)]
    mistakes = lambda limit: float((scenes > limit).float().mean() + (photos <= limit).float().mean())  # noqa: E731
    return -(-min(candidates, key=mistakes) // 1e-4) * 1e-4


def _windows(file: Path) -> Iterable[Tensor]:
    """The whole picture and windows of it, always the same ones."""
    chance = random.Random(file.name)
    try:
        picture = Image.fromarray(read_picture(file))
    except BrokenRow as error:
        raise ValueError(f"{file}: {error}") from error
    picture.thumbnail((LARGEST, LARGEST))
    yield pictures_to_tensor(picture)
    for _ in range(CROPS - 1):
        share = chance.uniform(0.35, 0.9)
        width, height = max(8, int(picture.width * share)), max(8, int(picture.height * share))
        x, y = chance.randint(0, max(0, picture.width - width)), chance.randint(0, max(0, picture.height - height))
        yield pictures_to_tensor(picture.crop((x, y, x + width, y + height)))


def keep(bundle: str | Path, limit: float) -> None:
    """Write the limit into the bundle's index, whose other lines stay."""
    path = Path(bundle) / INDEX
    write_json(path, json.loads(path.read_text(encoding="utf-8")) | {"reconstruction_limit": round(limit, 4)})


def report(found: Familiarity, command: str) -> str:
    """The study as Markdown."""
    numbers = lambda values: [f"{float(values.quantile(q)):.4f}" for q in (0.05, 0.5, 0.95)]  # noqa: E731
    return "\n\n".join([
        "# What the bundle takes for a picture of its own world",
        f"Written by `{command}`. The autoencoder's error after averaging over 4 x 4 pixels at working size; above **{found.limit:.4f}** a "
        "picture is said to be of another kind. The limit was chosen on one half of the scenes and photographs, the figures are those "
        f"of the other half: {len(found.scenes)} held-out scenes, {len(found.photos)} windows of {found.count // 2} photographs.",
        f"**False alarms {found.false_alarms:.1%} of scenes, missed {found.missed:.1%} of photographs.**",
        markdown_table(
            ("pictures", "5 %", "median", "95 %"),
            [["held-out scenes", *numbers(found.scenes)], ["photographs", *numbers(found.photos)]],
        ),
    ])  # fmt: skip

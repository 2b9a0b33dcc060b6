# SPDX-License-Identifier: GPL-3.0-or-later
"""Sprites for the synthetic world: fetched from npm, verified, cached outside git, rendered at the sizes asked for.

Artwork: Microsoft Fluent Emoji (MIT) as packed by ``@lobehub/fluent-emoji-3d`` (MIT); names: ``unicode-emoji-json``
(MIT).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from .npm_package import Package, PackageError, ensure_package

# Alpha below the first bound is dropped and above the second made full, so that "touched" is exactly alpha > 0.
ALPHA_FLOOR, ALPHA_CEIL = 24, 250


FLUENT = Package(
    "@lobehub/fluent-emoji-3d",
    "1.1.0",
    "sha512-Wlq2lVStTnr8BDpIJ0pEnTKO4LuDxxqTEhTvRtD1DLRF0me7ogeRQjKoehDHXuVJ2Qaecgl5wRBv60lUAG3h7g==",
)
NAMES = Package(
    "unicode-emoji-json",
    "0.9.0",
    "sha512-HdrQW/7SdbXUsTd8uTATv7LvQJkCSgbAgRCDCtOhQ6xn3EAx+xZHQtRniOXWJK3ywIqPegkNhP4U4EbuFsiQng==",
)


NAME_TABLE = "data-by-emoji.json"


class SpriteError(PackageError):
    """A sprite could not be found; the text says what mends it."""


def sprite_folder() -> Path:
    """``$FIREEDIT_CACHE/sprites``, or ``<repository>/.cache/sprites`` where the variable is not set."""
    root = os.environ.get("FIREEDIT_CACHE")
    return (Path(root) if root else Path(__file__).resolve().parents[2] / ".cache") / "sprites"


@dataclass(frozen=True)
class Rendered:
    """A sprite at one size, cropped to its alpha: premultiplied colour, 255 - alpha, footprint, full cover."""

    colour: np.ndarray  # (h, w, 3) uint8, premultiplied
    rest: np.ndarray  # (h, w, 1) uint8 = 255 - alpha
    footprint: np.ndarray  # (h, w) bool = alpha > 0
    opaque: np.ndarray  # (h, w) bool = alpha == 255

    @property
    def height(self) -> int:
        return self.footprint.shape[0]

    @property
    def width(self) -> int:
        return self.footprint.shape[1]

    def paste(self, image: np.ndarray, x: int, y: int) -> None:
        """Composite in place on ``image`` (H, W, 3) uint8 with the top left corner at (x, y); must lie inside."""
        part = image[y : y + self.height, x : x + self.width]
        mixed = part * self.rest.astype(np.uint16)
        mixed += 127
        mixed //= 255
        mixed += self.colour
        part[...] = mixed


def luminance(rgb: np.ndarray) -> np.ndarray:
    """Rec. 601 luma of (..., 3) values, same range as the input, float32."""
    return rgb.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)


def tint(rgba: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Recolour a sprite and keep its shading: luminance, stretched to its own range, runs dark - colour - light.

    ``rgba``: (h, w, 4) uint8, not premultiplied. Returns the same shape; alpha is untouched. Depends on nothing else,
    so a recoloured object looks the same whatever colour it had before.
    """
    luma = luminance(rgba[..., :3]) / 255.0
    inside = luma[rgba[..., 3] > 127]
    low, mid, high = np.percentile(inside, (3, 50, 97))
    if high - low < 0.35:  # a flat sprite keeps soft shading instead of amplified noise
        low, high = mid - 0.175, mid + 0.175
    level = np.clip((luma - low) / (high - low), 0.0, 1.0)
    centre = np.clip((mid - low) / (high - low), 0.25, 0.75)
    level = level ** (np.log(0.5) / np.log(centre))  # the median becomes 0.5, which is the palette colour itself
    base = np.asarray(colour, np.float32)
    dark, light = base * 0.3, base + (255.0 - base) * 0.6
    level = level[..., None]
    mixed = np.where(level < 0.5, dark + (base - dark) * (2 * level), base + (light - base) * (2 * level - 1))
    return np.concatenate([np.round(mixed).astype(np.uint8), rgba[..., 3:]], axis=-1)


def sprite_files(classes: Mapping[str, str], folder: Path | None = None) -> dict[str, Path]:
    """Where the picture of each noun lies; the packages are fetched first where they are absent.

    Raises:
        PackageError: where they cannot be fetched, or, as a SpriteError, for a name that they do not have.
    """
    folder = Path(folder) if folder is not None else sprite_folder()
    art, names = ensure_package(FLUENT, folder), ensure_package(NAMES, folder)
    table = json.loads((names / NAME_TABLE).read_text(encoding="utf-8"))
    by_name = {entry["name"]: emoji for emoji, entry in table.items()}
    found = {}
    for noun, emoji_name in classes.items():
        if emoji_name not in by_name:
            raise SpriteError(f"class {noun!r}: {NAMES.spec} has no emoji {emoji_name!r}; correct World.classes.")
        found[noun] = art / "assets" / ("-".join(f"{ord(c):04x}" for c in by_name[emoji_name]) + ".webp")
        if not found[noun].is_file():
            raise SpriteError(f"class {noun!r}: {FLUENT.spec} has no {found[noun].name} ({emoji_name!r}); choose another.")
    return found


def export(world, out: Path, folder: Path | None = None) -> int:  # noqa: ANN001 (World; avoids an import circle)
    """Copy what a World shows into `out`, laid out as `sprite_folder` is: for a machine without a network. Returns how many files."""
    root = Path(folder) if folder is not None else sprite_folder()
    chosen = [*sprite_files({**world.classes, **world.heldout}, root).values(), ensure_package(NAMES, root) / NAME_TABLE]
    for path in chosen:
        target = Path(out) / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return len(chosen)


class Sprites:
    """The chosen classes as pictures.

    ``classes`` maps noun -> emoji name of unicode-emoji-json; ``palette`` maps colour name -> RGB 0..255.
    ``detail`` bounds the longer side of the kept originals; renderings cannot be sharper than that.
    ``get(noun, colour, size)`` is cached in memory (some 100 MB in all for the default world).
    """

    def __init__(
        self,
        classes: Mapping[str, str],
        palette: Mapping[str, tuple[int, int, int]],
        folder: Path | None = None,
        detail: int = 256,
    ) -> None:
        self.palette = dict(palette)
        self._native: dict[str, np.ndarray] = {}
        for noun, path in sprite_files(classes, folder).items():
            with Image.open(path) as picture:
                native = Image.fromarray(_crop(np.asarray(picture.convert("RGBA"))))
            native.thumbnail((detail, detail), Image.Resampling.BOX)
            self._native[noun] = np.asarray(native)
        self._bases: dict[tuple[str, str], Image.Image] = {}
        self._rendered: dict[tuple[str, str, int], Rendered] = {}
        self._change: dict[tuple[str, str], float] = {}

    @classmethod
    def for_world(cls, world, folder: Path | None = None) -> Sprites:  # noqa: ANN001 (World; avoids an import circle)
        """All train and held-out classes of a World."""
        detail = min(256, 2 * max(world.all_sizes()))  # twice what is drawn is enough
        return cls({**world.classes, **world.heldout}, world.palette, folder, detail)

    @property
    def nouns(self) -> tuple[str, ...]:
        return tuple(self._native)

    def rgba(self, noun: str, colour: str = "") -> np.ndarray:
        """(h, w, 4) uint8, not premultiplied, cropped to its alpha, at most ``detail`` px."""
        native = self._native[noun]
        return tint(native, self.palette[colour]) if colour else native

    def change(self, noun: str, colour: str) -> float:
        """Mean absolute difference (0..255) of the native and the tinted sprite: how visible that recolouring is."""
        key = (noun, colour)
        if key not in self._change:
            native, tinted = self._native[noun], self.rgba(noun, colour)
            inside = native[..., 3] > 127
            self._change[key] = float(np.abs(native[inside, :3].astype(np.int16) - tinted[inside, :3]).mean())
        return self._change[key]

    def get(self, noun: str, colour: str, size: int) -> Rendered:
        """The sprite with ``size`` px as its longer side; ``colour`` is a palette name, "" for native."""
        key = (noun, colour, size)
        found = self._rendered.get(key)
        if found is None:
            found = self._rendered[key] = self._render(noun, colour, size)
        return found

    def warm(self, sizes: Iterable[int], nouns: Iterable[str] | None = None) -> None:
        """Render every colour of the nouns at these sizes now (a few seconds), so that forked workers share them."""
        sizes = list(sizes)
        for noun in nouns if nouns is not None else self.nouns:
            for colour in ("", *self.palette):
                for size in sizes:
                    self.get(noun, colour, size)

    def _render(self, noun: str, colour: str, size: int) -> Rendered:
        base = self._bases.get((noun, colour))
        if base is None:
            base = self._bases[noun, colour] = Image.fromarray(self.rgba(noun, colour), "RGBA").convert("RGBa")
        scale = size / max(base.size)
        shape = (max(1, round(base.width * scale)), max(1, round(base.height * scale)))
        pixels = base.resize(shape, Image.Resampling.HAMMING).tobytes()
        small = np.frombuffer(pixels, np.uint8).reshape(shape[1], shape[0], 4)
        alpha = small[..., 3].astype(np.int32)
        clean = np.where(alpha < ALPHA_FLOOR, 0, np.where(alpha >= ALPHA_CEIL, 255, alpha))
        colours = (small[..., :3] * clean[..., None] + alpha[..., None] // 2) // np.maximum(alpha, 1)[..., None]
        colours = np.minimum(colours, clean[..., None])
        whole = _crop(np.concatenate([colours, clean[..., None]], axis=-1).astype(np.uint8))
        alpha = whole[..., 3]
        return Rendered(
            np.ascontiguousarray(whole[..., :3]), np.ascontiguousarray(255 - whole[..., 3:]), alpha > 0, alpha == 255
        )


def _crop(rgba: np.ndarray) -> np.ndarray:
    """Cut to the box of what is visible (alpha at or above the floor)."""
    seen = rgba[..., 3] >= ALPHA_FLOOR
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    if not rows.size:
        raise SpriteError("a sprite is wholly transparent; choose another emoji for its class.")
    return rgba[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]

# SPDX-License-Identifier: GPL-3.0-or-later
"""Write docs/icon.png (400 x 400) and docs/banner.png (21:9) for the registry: `python -m authoring.make_brand`.

The banner shows the first bundled picture and what `make demo` made of it (output/demo), so run that first.
"""

from __future__ import annotations

import json
import sys

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from host_setup.host_lookup import REPO

DARK, LIGHT, LOW, HIGH = (24, 24, 28), (245, 243, 238), (255, 222, 70), (224, 66, 36)
SCALE = 4  # drawn larger and scaled down: smooth edges
# outline of the flame in a square of 1, from the foot upwards and around; a curve goes through the points
FLAME = ((0.50, 0.93), (0.27, 0.84), (0.19, 0.64), (0.27, 0.46), (0.36, 0.58), (0.41, 0.34), (0.55, 0.08), (0.59, 0.28), (0.72, 0.44),
         (0.81, 0.62), (0.74, 0.83))  # fmt: skip
HEART = ((0.50, 0.90), (0.39, 0.83), (0.37, 0.70), (0.48, 0.56), (0.52, 0.48), (0.60, 0.62), (0.64, 0.72), (0.60, 0.85))


def smooth(points: tuple, side: int, steps: int = 24) -> list[tuple[float, float]]:
    """A closed Catmull-Rom curve through points of a unit square, in pixels."""
    p, out = np.array(points), []
    for i in range(len(p)):
        a, b, c, d = (p[(i + k) % len(p)] for k in (-1, 0, 1, 2))
        for t in np.linspace(0, 1, steps, endpoint=False):
            out.append(0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3))
    return [tuple(q * side) for q in out]


def icon(side: int = 400) -> Image.Image:
    """A flame inside a region with handles."""
    big = side * SCALE
    canvas = Image.new("RGB", (big, big), DARK)
    pen = ImageDraw.Draw(canvas)
    ramp = np.linspace(0, 1, big)[:, None, None]
    for outline, low, high in ((FLAME, LOW, HIGH), (HEART, (255, 246, 200), LOW)):
        mask = Image.new("L", (big, big))
        ImageDraw.Draw(mask).polygon(smooth(outline, big), fill=255)
        colours = np.broadcast_to(np.array(high) * (1 - ramp) + np.array(low) * ramp, (big, big, 3))
        canvas.paste(Image.fromarray(colours.astype(np.uint8)), (0, 0), mask)
    a, b, width = int(0.07 * big), int(0.93 * big), big // 50
    pen.rectangle((a, a, b, b), outline=LIGHT, width=width)
    for x in (a, b):
        for y in (a, b):
            r = big // 26
            pen.rectangle((x - r, y - r, x + r, y + r), fill=(90, 155, 255), outline=LIGHT, width=width // 2)
    return canvas.resize((side, side), Image.Resampling.LANCZOS)


def banner(before: Image.Image, after: Image.Image, instruction: str) -> Image.Image:
    """Name, what it does, and one real edit."""
    canvas = Image.new("RGB", (1260, 540), DARK)
    pen = ImageDraw.Draw(canvas)
    canvas.paste(icon(190), (60, 60))
    pen.text((275, 105), "FireEdit", font=ImageFont.load_default(size=92), fill=LIGHT)
    font = ImageFont.load_default(size=32)
    for line, y in (("Edit pictures by instruction,", 300), ("region by region,", 345), ("in ComfyUI.", 390)):
        pen.text((64, y), line, font=font, fill=(190, 188, 184))
    side = 280
    for picture, x in ((before, 640), (after, 950)):
        pen.rectangle((x - 3, 97, x + side + 2, 97 + side + 5), fill=LIGHT)
        canvas.paste(picture.resize((side, side), Image.Resampling.LANCZOS), (x, 100))
    pen.text((640 + (side + 310) // 2, 430), f"“{instruction}”", font=font, fill=LOW, anchor="mm")
    return canvas


def main() -> int:
    """Write both."""
    first = json.loads((REPO / "web" / "examples" / "examples.json").read_text(encoding="utf-8"))[0]
    edited = REPO / "output" / "demo" / f"{first['image'].removesuffix('.png')}_edit.png"
    if not edited.is_file():
        sys.stderr.write(f"there is no {edited}; run `make demo` first\n")
        return 1
    icon().save(REPO / "docs" / "icon.png", optimize=True)
    with Image.open(REPO / "web" / "examples" / first["image"]) as before, Image.open(edited) as after:
        banner(before.convert("RGB"), after.convert("RGB"), first["instruction"]).save(REPO / "docs" / "banner.png", optimize=True)
    sys.stdout.write("wrote docs/icon.png and docs/banner.png\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

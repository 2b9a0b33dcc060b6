# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m fireedit_core.data sheet | classes | sprites | rate | write``: look at what the generator draws, or write it."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ..arguments import positive
from . import EDIT_TYPES, SPLITS, WORLD, SceneGenerator, Sprites
from .formats import DatasetError
from .npm_package import PackageError
from .sprites import export

log = logging.getLogger("fireedit")


def sheet(count: int, split: str, seed: int, kinds: list[str], zoom: int, columns: int) -> Image.Image:
    """Source | target pairs with the instruction under each."""
    world = WORLD.only(**dict.fromkeys(kinds, 1.0)) if kinds else WORLD
    generator = SceneGenerator(world, split=split, seed=seed)
    side = world.image_size * zoom
    rows = -(-count // columns)
    picture = Image.new("RGB", (columns * (2 * side + 12), rows * (side + 22)), "white")
    pen = ImageDraw.Draw(picture)
    for i in range(count):
        pair = generator.sample(i)
        x, y = (i % columns) * (2 * side + 12), (i // columns) * (side + 22)
        for k, image in enumerate((pair.source, pair.target)):
            large = Image.fromarray(image).resize((side, side), Image.Resampling.NEAREST)
            picture.paste(large, (x + k * (side + 2), y))
        pen.text((x + 2, y + side + 4), f"{pair.instruction}{' [twins]' if pair.twins else ''}", fill="black")
    return picture


def classes(sprites: Sprites, cell: int = 48) -> Image.Image:
    """One row per class: native, then every tint."""
    colours = ("", *sprites.palette)
    half = -(-len(sprites.nouns) // 2)
    width = cell * len(colours) + 90
    picture = Image.new("RGB", (2 * width, half * cell), (150, 160, 150))
    pen = ImageDraw.Draw(picture)
    for i, noun in enumerate(sprites.nouns):
        x, y = (i // half) * width, (i % half) * cell
        pen.text((x + 4, y + cell // 3), noun, fill="black")
        for k, colour in enumerate(colours):
            canvas = np.full((cell, cell, 3), 150, np.uint8)
            sprites.get(noun, colour, cell - 4).paste(canvas, 2, 2)
            picture.paste(Image.fromarray(canvas), (x + 90 + k * cell, y))
    return picture


def main(arguments: list[str] | None = None) -> int:
    """Run; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m fireedit_core.data", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    pairs = commands.add_parser("sheet", help="a contact sheet of source and target with the instruction")
    pairs.add_argument("--out", required=True, help="PNG to write")
    pairs.add_argument("--count", type=positive, default=24)
    pairs.add_argument("--split", choices=SPLITS, default="train")
    pairs.add_argument("--seed", type=int, default=0)
    pairs.add_argument("--kinds", nargs="*", default=[], choices=EDIT_TYPES, help="only these edit types")
    pairs.add_argument("--zoom", type=positive, default=1)
    pairs.add_argument("--columns", type=positive, default=4)
    looks = commands.add_parser("classes", help="every class in its native look and in every tint")
    looks.add_argument("--out", required=True, help="PNG to write")
    carried = commands.add_parser("sprites", help="copy the sprites that the world shows, for a machine without a network")
    carried.add_argument("--out", type=Path, required=True, help="becomes $FIREEDIT_CACHE/sprites there")
    rate = commands.add_parser("rate", help="measure pairs per second on this core")
    rate.add_argument("--count", type=positive, default=2000)
    written = commands.add_parser("write", help="write synthetic scenes in public formats, and a sources.yaml that opens them")
    written.add_argument("--out", required=True, help="folder that gets one folder per format")
    written.add_argument("--formats", nargs="+", default=None, metavar="NAME", help="only these (docs/datasets.md); default: all")
    written.add_argument("--count", type=int, default=24, help="rows of each (default %(default)d)")
    written.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    log.setLevel(logging.INFO)
    try:
        _run(options)
    except (DatasetError, PackageError, ValueError, OSError) as error:
        log.error("fireedit: %s", error)
        return 2
    return 0


def _run(options: argparse.Namespace) -> None:
    if options.command == "write":
        from .writers.registry import write

        log.info("%s", write(options.out, options.formats, options.count, options.seed).read_text(encoding="utf-8").rstrip())
    elif options.command == "sheet":
        picture = sheet(options.count, options.split, options.seed, options.kinds, options.zoom, options.columns)
        picture.save(options.out)
        log.info("wrote %s", options.out)
    elif options.command == "sprites":
        log.info("wrote %d files to %s", export(WORLD, options.out), options.out)
    elif options.command == "classes":
        classes(Sprites.for_world(WORLD)).save(options.out)
        log.info("wrote %s", options.out)
    else:
        generator = SceneGenerator()
        for name in ("cold", "warm"):
            start = time.perf_counter()
            for i in range(options.count):
                generator.sample(i)
            log.info("%s: %.0f pairs/s", name, options.count / (time.perf_counter() - start))


if __name__ == "__main__":
    sys.exit(main())

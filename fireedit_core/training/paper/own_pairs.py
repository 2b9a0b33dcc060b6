# SPDX-License-Identifier: GPL-3.0-or-later
"""`./fireedit train FOLDER`: a bundle learns from a folder of your own pairs, by LoRA. docs/own-pairs.md shows the folder.

A public dataset of a hundred thousand rows may have broken ones, which are left out and counted. Of twenty pairs each counts, so here all
are looked at before anything is trained, and every fault is named.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageCms
from transformers import PreTrainedTokenizerBase

from ...checkpoints.bundle import blank_component, bundle_options, load_component, read_index
from ...colour_profile import colour_profile
from ...data.formats.pairs import PICTURE, PairsFolder
from ...data.formats.reader import BrokenRow, DatasetError, frames, inside, is_transparent, mask, picture
from ...precision import quick_precision
from ...whole_files import write_json
from .config import PaperConfig, load_config
from .replay import replay_texts, unknown_words, write_replay
from .train import goes_on, processes

logger = logging.getLogger("fireedit")

PRESET = "own_pairs"
LEAST = 4  # pairs, one of them held aside
ADVISED = 20
LARGE = 320  # channels of the finest level of a UNet of Stable Diffusion's size
LARGE_RATE = 1e-4  # of LoRA in such a UNet; the preset's is for the tiny one
REPLAYED = 1.0  # rows of the start's own edits for each row of the pairs
SMALLEST = 64  # pixels of a side
LISTED = 12  # faults that are named before the others are only counted
RECORD, TRAINED_ON, SHEET, REPLAY = "own_pairs.json", "sources.yaml", "sheet.yaml", "replay"
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".heic")


@dataclass(frozen=True)
class OwnPairs:
    """A folder whose pairs are all right.

    Attributes:
        trained, held: numbers of the rows of a `PairsFolder`; no picture of a held one is among the trained ones.
        prints: name of each pair -> hash of its pictures and its text.
    """

    root: Path
    trained: tuple[int, ...]
    held: tuple[int, ...]
    prints: dict[str, str]


def own_config(folder: Path, arguments: Sequence[str]) -> tuple[PaperConfig, Any]:
    """The configuration of a run over a folder of pairs, and the options that are not part of it; nothing is trained.

    Pairs are checked, and lists of what is trained on and of what the sheets show are written into `out`, with what the bundle makes of
    the pictures by other instructions (replay.py).

    Args:
        arguments: of the command line behind the folder: `--held 3`, `--replay 1`, `--bundle ...`, and every setting of `PaperConfig`.

    Raises:
        DatasetError: for pairs that are not right. ValueError: for an `out` that holds something else. BundleError: for the bundle.
        SystemExit: as argparse does.
    """
    own, rest = _own_options(arguments)
    named = {"--" + a.partition("=")[0][2:].replace("-", "_") for a in rest if a.startswith("--")}  # both spellings are one option
    lists = {"--sources", "--validation_sources", "--streamed", "--captions"} & named
    if lists:
        raise ValueError(f"train {folder}: {', '.join(sorted(lists))} goes with a configuration, not with a folder of pairs")
    out = ["--out", str(Path(".cache/runs") / folder.resolve().name)]
    precise = [] if torch.cuda.is_available() else ["--precision", quick_precision("cpu"), "--frozen_dtype", "float32"]
    # what the user says comes last and counts
    config, options = load_config([PRESET, *out, *precise, *_sized(own.bundle), *rest])
    tokenizer = load_component(Path(config.bundle), "tokenizer")
    pairs = check_pairs(folder, own.held, tokenizer, *_read_by(Path(config.bundle)))
    _keep_apart(Path(config.out), folder)
    reader = PairsFolder(pairs.root)
    texts = replay_texts([reader[i].instruction for i in pairs.trained], tokenizer, config.seed) if own.replay else []
    if own.replay and not any(texts):
        logger.warning("%s: of no pair can be read which one thing it is about, so the bundle's old edits are not rehearsed", folder)
    share = own.replay if any(texts) else 0.0
    lists = _write_lists(config, pairs, share, dry=options.dry_run)
    if share and not options.dry_run:
        with processes().main_process_first():  # the others find the folder there
            write_replay(config, reader, pairs.trained, texts, Path(config.out) / REPLAY, begun=goes_on(config))
    config.sources, config.validation_sources = map(str, lists)
    config.validation = sum(len(rows) for _, rows in _shown(pairs, config.validation))
    config.feature_cache = config.feature_cache or str(Path(config.out) / "features")
    logger.info(
        "%s: %d pairs to train on, %d held aside; %d steps, about %.0f looks at each pair", folder, len(pairs.trained), len(pairs.held),
        config.steps, config.steps * config.batch * config.accumulate / (1 + share) / len(pairs.trained),
    )  # fmt: skip
    if len(pairs.trained) + len(pairs.held) < ADVISED:
        logger.warning("%s: fewer than %d pairs; see on the sheets whether it learns the edit or the pictures", folder, ADVISED)
    return config, options


def check_pairs(
    folder: Path, held: int | None = None, tokenizer: PreTrainedTokenizerBase | None = None, longest: int = 0,
    template: str = "{instruction}",
) -> OwnPairs:  # fmt: skip
    """Look at every pair, and say which are held aside.

    Args:
        held: pairs that are not trained on; None: one in ten, at least one.
        tokenizer: of the bundle, to say which words it does not know.
        longest: tokens that are read of an instruction in its `template`; 0: any number.

    Raises:
        DatasetError: that names all that is wrong, and what mends it.
    """
    reader = PairsFolder(folder)
    faults, prints, groups, seen = _strays(reader), {}, defaultdict(list), {}
    for number, row in enumerate(reader.rows):
        name = _name(row, number)
        try:
            before, print_ = _checked(reader, number)
        except BrokenRow as error:
            faults.append(f"{name}: {error}")
            continue
        if print_ in seen:
            faults.append(f"{name}: the same pictures and words as {seen[print_]}; delete one of them")
        seen.setdefault(print_, name)
        prints[name] = print_ + _mask_print(reader, row)
        groups[before].append(number)
    texts = [] if faults else [reader[i].instruction for i in range(len(reader))]
    if longest and tokenizer is not None:
        tokens = lambda text: len(tokenizer(template.format(instruction=text))["input_ids"])  # noqa: E731
        long = [i for i, text in enumerate(texts) if tokens(text) > longest]
        faults += [f"{_name(reader.rows[i], i)}: the instruction is longer than the {longest} tokens that are read" for i in long]
    if faults:
        more = f"\n  and {len(faults) - LISTED} more" if len(faults) > LISTED else ""
        raise DatasetError(f"train {folder}: nothing was trained, because\n  " + "\n  ".join(faults[:LISTED]) + more)
    if len(reader) < LEAST:
        raise DatasetError(f"train {folder}: {len(reader)} pairs are too few; {LEAST} is the least, {ADVISED} a good start")
    held = max(1, len(reader) // 10) if held is None else held
    # pairs with the same picture before stay together: else what is held aside has been seen
    aside = _aside(list(groups.values()), held)
    trained = tuple(i for i in range(len(reader)) if i not in aside)
    if held < 0 or len(trained) < LEAST - 1:
        raise DatasetError(f"train {folder}: --held {held} leaves {len(trained)} of {len(reader)} pairs; hold 0 to {len(reader) - 3}")
    if tokenizer is not None:
        new = sorted({word for text in texts for word in unknown_words(tokenizer, text)})
        if new:
            logger.warning("%s: words that the bundle does not know and cannot tell from each other: %s", folder, ", ".join(new))
    return OwnPairs(folder.resolve(), trained, tuple(sorted(aside)), prints)


def _aside(groups: list[list[int]], held: int) -> set[int]:
    """At most `held` rows in whole groups, spread evenly over all; one group in any case."""
    if held <= 0:
        return set()
    small = [group for group in groups if len(group) <= held] or [min(groups, key=len)]
    step, aside = max(1, len(small) // held), set()
    for group in small[step - 1 :: step]:
        if len(aside) + len(group) <= held or not aside:
            aside |= set(group)
    return aside


def _checked(reader: PairsFolder, number: int) -> tuple[str, str]:
    """(hash of the picture before, hash of the pair) of a row that is right. Raises BrokenRow with what is wrong and what mends it."""
    row, pictures, colours = reader.rows[number], {}, {}
    for key, word in (("source", "before"), ("target", "after")):
        if row.get(key) is None or isinstance(row[key], str) and not row[key].strip():
            raise BrokenRow(f"has no picture {word}")
        if isinstance(row[key], tuple):
            raise BrokenRow(f"several files for one picture: {', '.join(row[key])}; keep one")
        file = inside(reader.root, row[key])
        if not file.is_file():
            raise BrokenRow(f"there is no {file.name} in {file.parent}")
        _plain(file)
        pictures[key] = picture(file, file.name)
        colours[word] = _colours(file)
    if len(set(colours.values())) > 1:
        said = ", ".join(f"{word} {name}" for word, name in colours.items())
        raise BrokenRow(f"the numbers of its pictures mean other colours ({said}), which would be learnt as an edit; save both in sRGB")
    before, after = pictures["source"], pictures["target"]
    if before.shape != after.shape:
        sizes = " and ".join(f"{x.shape[1]} x {x.shape[0]}" for x in (before, after))
        raise BrokenRow(f"before and after have different sizes, {sizes}; cut or resize one so that they lie on each other")
    if min(before.shape[:2]) < SMALLEST:
        raise BrokenRow(f"{before.shape[1]} x {before.shape[0]} is too small; sides are {SMALLEST} pixels at least")
    if np.array_equal(before, after):
        raise BrokenRow("before and after are the same picture, which teaches to do nothing")
    if row.get("mask"):
        _check_mask(reader, row["mask"], before)
    try:
        text = reader.read(number).instruction
    except BrokenRow as error:
        if not str(error).startswith("no instruction"):
            raise
        said = f"{row['instruction'].name}" if isinstance(row.get("instruction"), Path) else "its row"
        raise BrokenRow(f"has no instruction; write what is to be done into {said}") from error
    shape = str(before.shape).encode()
    return _digest(shape, before.tobytes()), _digest(shape, before.tobytes(), after.tobytes(), text.encode())


def _mask_print(reader: PairsFolder, row: dict[str, Any]) -> str:
    """What the mask of a right row adds to its print: a run teaches where, too. Pairs are the same whatever their masks."""
    return ":" + _digest(np.packbits(mask(inside(reader.root, row["mask"]))).tobytes()) if row.get("mask") else ""


def _digest(*parts: bytes) -> str:
    return hashlib.blake2b(b"\0".join(parts), digest_size=16).hexdigest()


def _plain(file: Path) -> None:
    """Raises BrokenRow for a picture that would lose something on its way to 8 bits of red, green and blue."""
    try:
        with Image.open(file) as opened:
            if frames(opened) > 1:
                raise BrokenRow(f"{file.name} is a film of {frames(opened)} pictures; give one of them")
            if opened.mode.startswith(("I", "F")):
                raise BrokenRow(f"{file.name} has {opened.mode} pixels, which are no 8 bits a channel; save it as a PNG of 8 bits")
            if opened.mode == "CMYK":
                raise BrokenRow(f"{file.name} is in the four colours of print, which look otherwise on a screen; save it as RGB")
            if is_transparent(opened):
                raise BrokenRow(f"{file.name} is transparent in places, where nobody knows what it shows; put it on a background")
    except BrokenRow:
        raise
    except Exception as error:  # whatever a decoder raises for a broken file
        raise BrokenRow(f"{file.name} cannot be read ({error}); save it again") from error


def _colours(file: Path) -> str:
    """What the numbers of a picture mean: the name of its profile; without one, and in all of its kind, sRGB."""
    profile = colour_profile(file).get("icc_profile")
    if not profile:
        return "sRGB"
    try:
        name = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile))).strip()
    except (ImageCms.PyCMSError, OSError):  # one that nobody can read is not that of another picture
        name = hashlib.blake2b(profile, digest_size=4).hexdigest()
    return "sRGB" if "srgb" in name.lower() else name


def _check_mask(reader: PairsFolder, name: Any, before: np.ndarray) -> None:
    if isinstance(name, tuple):
        raise BrokenRow(f"several files for one mask: {', '.join(name)}; keep one")
    file = inside(reader.root, name)
    if not file.is_file():
        raise BrokenRow(f"there is no {file.name} in {file.parent}")
    found = mask(file, file.name)
    if found.shape != before.shape[:2]:
        sizes = [f"{x.shape[1]} x {x.shape[0]}" for x in (found, before)]
        raise BrokenRow(f"the mask {file.name} is {sizes[0]}, the pictures are {sizes[1]}")
    if not found.any():
        raise BrokenRow(f"the mask {file.name} marks nothing; paint white where the edit is, or delete it")


def _strays(reader: PairsFolder) -> list[str]:
    """Of a folder without a list: pictures and texts that belong to no pair, such as `kitchen_befor.png`."""
    if any((reader.root / name).is_file() for name in ("pairs.jsonl", "pairs.csv")):
        return []
    texts = {row["instruction"] for row in reader.rows}
    faults = []
    for file in sorted(reader.root.rglob("*")):
        place = file.relative_to(reader.root)
        if not file.is_file() or any(part.startswith(".") for part in place.parts):
            continue
        ending = file.suffix.lower()
        if ending in PICTURES and not PICTURE.fullmatch(file.name):
            faults.append(f"{place}: is no NAME_before, NAME_after or NAME_mask in png, jpg or webp; name it so, or take it away")
        if ending == ".txt" and place not in texts:
            faults.append(f"{place}: there are no pictures {place.stem}_before and {place.stem}_after to it")
    return faults


def _name(row: dict[str, Any], number: int) -> str:
    text = row.get("instruction")
    return str(text.with_suffix("")) if isinstance(text, Path) else f"row {number + 1}"


# --- the folder of the run -------------------------------------------------------------------------------------------


def _keep_apart(out: Path, folder: Path) -> None:
    if out.resolve() == folder.resolve() or folder.resolve() in out.resolve().parents:
        raise ValueError(f"train {folder}: --out {out} lies among the pairs; name a folder elsewhere")
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not (out / RECORD).is_file()):
        raise ValueError(f"train {folder}: {out} is there already and holds no run over pairs; give another --out")


def _write_lists(config: PaperConfig, pairs: OwnPairs, replay: float, dry: bool) -> tuple[Path, Path]:
    """The lists of what is trained on and what the sheets show. A run that is there must be over the same pairs.

    Args:
        replay: rows of the start's own edits for each row of the pairs.
    """
    out = Path(config.out)
    now = {"folder": str(pairs.root), "held": list(pairs.held), "replay": replay, "pairs": pairs.prints}
    record = out / RECORD
    if record.is_file():
        before = json.loads(record.read_text(encoding="utf-8"))
        if before | {"folder": now["folder"]} != now:  # which may have moved
            old, new = before.get("pairs", {}), pairs.prints
            moved = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
            moved = moved or [text for key, text in (("held", "what is held aside"), ("replay", "--replay")) if before.get(key) != now[key]]
            raise ValueError(
                f"train {pairs.root}: {out} holds a run over other pairs ({', '.join(moved[:5])} differ); give another --out, or delete it"
            )
    flip = {} if config.flip else {"flip": False}
    listed = lambda name, root: {"name": name, "format": "pairs", "root": str(root), **flip}  # noqa: E731
    row = lambda name, rows: listed(name, pairs.root) | {"rows": list(rows)}  # noqa: E731
    trained = [row("pairs", pairs.trained)]
    if replay:
        trained = [trained[0] | {"share": 1.0}, listed("replay", (out / REPLAY).resolve()) | {"share": replay}]
    files = out / TRAINED_ON, out / SHEET
    if not dry:
        out.mkdir(parents=True, exist_ok=True)
        write_json(files[0], trained, indent=1)  # JSON is YAML
        shown = [row(name, rows) for name, rows in _shown(pairs, config.validation) if rows]
        write_json(files[1], shown, indent=1)
        write_json(record, now, indent=1)
    return files


def _shown(pairs: OwnPairs, most: int) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """The halves of the sheet, by name, with at most so many rows together."""
    return ("held aside", pairs.held[: most - most // 2]), ("trained on", pairs.trained[: most // 2])


# --- the command line ------------------------------------------------------------------------------------------------


def _own_options(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """(what only a folder of pairs has, and the bundle; the arguments of the configuration)."""
    parser = argparse.ArgumentParser(
        prog="fireedit train FOLDER", allow_abbrev=False, description="Teach a bundle an edit by your own pairs of pictures.",
        epilog="Every setting of a configuration can be given too, such as --steps or --lr: fireedit train --help; docs/own-pairs.md.",
    )  # fmt: skip
    parser.add_argument("--held", type=int, help="pairs that are held aside, one in ten where it is not said")
    parser.add_argument(
        "--replay", type=_share, default=REPLAYED, help="rows of the bundle's own old edits for each row of the pairs, so that it forgets "
        "less (default %(default)g)",
    )  # fmt: skip
    parser.add_argument("--bundle", help="folder of the bundle that learns; fireedit-tiny where it is not said")
    own, rest = parser.parse_known_args(list(arguments))
    return own, rest if own.bundle is None else [*rest, "--bundle", own.bundle]


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"rows of old edits for each row of the pairs, 0 or more, got {text}")
    return value


def _sized(bundle: str | None) -> list[str]:
    """What another bundle wants otherwise than the preset of `fireedit-tiny`: its own picture size, and smaller steps if it is large."""
    if bundle is None:
        return []
    index = read_index(bundle)
    large = blank_component(bundle, "unet", index).config.block_out_channels[0] >= LARGE
    return ["--size", str(bundle_options(index)["native_size"]), *(["--lr", str(LARGE_RATE)] if large else [])]


def _read_by(bundle: Path) -> tuple[int, str]:
    """How many tokens of an instruction a bundle reads, and the template in which it stands."""
    config = blank_component(bundle, "img_tokens").config
    return config.max_text_tokens, config.prompt_template

# SPDX-License-Identifier: GPL-3.0-or-later
"""What a bundle can do already, as pairs to train on beside new ones, so that it is not forgotten.

A run over twenty pairs of one new edit sees nothing else, and the adapters turn every edit into that one. So the bundle that a run starts
from edits the same pictures by other instructions, and what comes out is trained on beside the new pairs: the start is its own teacher
(learning without forgetting, arXiv 1606.09282; prior preservation, arXiv 2208.12242). That needs neither the data that the bundle was
trained on nor a second model in memory, and the pairs can be looked at.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import PreTrainedTokenizerBase

from ...data import RICH_WORLD
from ...data.formats.pairs import PairsFolder
from ...data.sample import EDIT_TYPES
from ...data.world import article, where_words
from ...evaluation.scenes import bundle_fingerprint, default_device, load_pipeline
from ...grounding.words import read_words
from ...regions.loading import load_detector
from ...whole_files import write_json
from .config import PaperConfig

logger = logging.getLogger("fireedit")

LEAST = 48  # edits of the start; of few pictures more each
EACH = 2  # per picture at least
MADE = "replay.json"  # of what the folder was made
DIRECTIONS = ("left", "right", "above", "below")


def unknown_words(tokenizer: PreTrainedTokenizerBase, text: str) -> list[str]:
    """Words of a text that a tokenizer cannot tell from each other."""
    if tokenizer.unk_token_id is None:
        return []
    return [word for word in text.lower().split() if tokenizer.unk_token_id in tokenizer(word, add_special_tokens=False)["input_ids"]]


def replay_texts(instructions: Sequence[str], tokenizer: PreTrainedTokenizerBase, seed: int = 0) -> list[list[str]]:
    """Other instructions about the things that instructions name: to remove, replace, recolour, enlarge or shrink them, to put something
    beside them, to change the background. Of what the tokenizer has no word for there is none.

    Returns:
        A list for each instruction, its sorts of edit mixed; empty where no thing could be read out of it.
    """
    named = [_named(text) for text in instructions]
    nouns = sorted({noun for _, noun in named if noun})
    random = np.random.default_rng(seed)
    each = max(EACH, -(-LEAST // max(1, sum(bool(thing) for thing, _ in named))))
    found = []
    for number, (thing, noun) in enumerate(named):
        own: list[str] = []
        for k in range(4 * each if thing else 0):  # some have words that are not known
            text = _text(EDIT_TYPES[(number + k) % len(EDIT_TYPES)], thing, [other for other in nouns if other != noun], random)
            if text and text not in own and not unknown_words(tokenizer, text) and len(own) < each:
                own.append(text)
        found.append(own)
    return found


def _named(instruction: str) -> tuple[str, str]:
    """(how the instruction calls the one thing that it is about, its noun); empty where that cannot be read."""
    try:
        words = read_words(instruction)
    except ValueError:  # in another language, or with nothing in it
        return "", ""
    if words.kind == "other" or len(words.phrases) != 1:
        return "", ""
    nouns = words.phrases[0].nouns
    return words.thing, nouns[0].split()[-1] if nouns else ""


def _text(kind: str, thing: str, others: Sequence[str], random: np.random.Generator) -> str:
    pick = lambda items: items[random.integers(len(items))]  # noqa: E731
    if kind in ("replace", "add") and not others:
        return ""
    new = article(pick(others)) if others else ""
    words = {"x": f"the {thing}", "y": new, "c": pick(list(RICH_WORLD.palette)), "w": where_words(pick(DIRECTIONS)),
             "b": pick(RICH_WORLD.backgrounds)}  # fmt: skip
    return pick(RICH_WORLD.templates[pick(("bigger", "smaller")) if kind == "resize" else kind]).format(**words)


def write_replay(
    config: PaperConfig, pairs: PairsFolder, rows: Sequence[int], texts: Sequence[Sequence[str]], folder: Path, begun: bool = False
) -> None:
    """Edits of `rows` of pairs by their `texts`, made by the bundle that `config` starts from, as a folder of pairs. A folder that holds
    them already stays as it is; one that holds others, or is not whole, is made anew.

    The pictures are those before, at most twice the size at which they are trained on. The mask is where the bundle means to edit.

    Args:
        begun: a run has trained on the folder already. ValueError where it is to hold others: the run would be neither.
    """
    now = {"bundle": bundle_fingerprint(config.bundle), "detector": config.detector, "steps": config.validation_steps,
           "size": config.size, "texts": [[row, *own] for row, own in zip(rows, texts, strict=True)]}  # fmt: skip
    before = json.loads((folder / MADE).read_text(encoding="utf-8")) if (folder / MADE).is_file() else {}
    if before == now:
        return
    if begun and before:
        other = ", ".join(f"validation_{key}" if key == "steps" else key for key in now if before.get(key) != now[key])
        raise ValueError(f"{folder} holds edits made with another {other}, on which this run has trained; give another --out, or the same")
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    pipe, listed = load_pipeline(config.bundle, default_device()), []
    if config.detector:
        pipe.editor.use_detector(load_detector(config.detector, pipe.device))
    logger.info("%s edits the pictures by %d other instructions, to be rehearsed; see %s", config.bundle, sum(map(len, texts)), folder)
    for row, own in zip(rows, texts, strict=True):
        if not own:
            continue
        before = Image.fromarray(pairs[row].source)
        before.thumbnail((2 * config.size, 2 * config.size), Image.Resampling.LANCZOS)
        before.save(folder / f"{row}_before.png")
        noise = torch.Generator().manual_seed(row)
        made = pipe(before, list(own), num_inference_steps=config.validation_steps, generator=noise)
        for k, (text, after, where) in enumerate(zip(own, made.images, made.mask, strict=True)):
            line = {"source": f"{row}_before.png", "target": f"{row}_{k}_after.png", "instruction": text}
            after.save(folder / line["target"])
            mask = where.float().cpu().numpy() > 0.5
            if mask.any():
                line["mask"] = f"{row}_{k}_mask.png"
                Image.fromarray(mask).save(folder / line["mask"])
            listed.append(line)
    (folder / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in listed), encoding="utf-8")
    write_json(folder / MADE, now, indent=1)

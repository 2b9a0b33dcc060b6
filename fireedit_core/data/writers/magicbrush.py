# SPDX-License-Identifier: GPL-3.0-or-later
"""Scenes in the two layouts of MagicBrush; see formats/magicbrush.py. `SceneGenerator.turns` makes sessions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ..sample import SceneSample
from .files import encoded, save_picture, write_parquet


def write_hub(folder: Path, sessions: Iterable[Sequence[SceneSample]], cut_out: bool = True, split: str = "train") -> None:
    """One parquet shard, a row per turn. Masks are cut-outs of the source, or white on black."""
    rows = []
    for number, session in enumerate(_chained(sessions)):
        for turn, sample in enumerate(session, 1):
            rows.append({
                "img_id": f"{100_000 + number}", "turn_index": turn, "source_img": encoded(sample.source),
                "mask_img": encoded(_mask(sample, cut_out)), "instruction": sample.instruction, "target_img": encoded(sample.target),
            })  # fmt: skip
    write_parquet(folder / "data" / f"{split}-00000-of-00001.parquet", rows, ("source_img", "mask_img", "target_img"))


def write_folder(folder: Path, sessions: Iterable[Sequence[SceneSample]], cut_out: bool = True) -> None:
    """The four JSON files and a folder of pictures per session.

    Args:
        folder: is made. cut_out: masks are cut-outs of the source, else white on black.
        sessions: 1 to 3 turns each; as the layout has no input of its own for turn 2, it must start from what turn 1 has made.

    Raises:
        ValueError: if a session is empty, longer, or no chain.
    """
    listed: dict[str, list[dict[str, str]]] = {}
    described: dict[str, dict[str, str]] = {}
    locally: dict[str, dict[str, str]] = {}
    for number, session in enumerate(_chained(sessions)):
        name = f"{100_000 + number}"
        place, before = folder / "images" / name, f"{name}-input.png"
        save_picture(session[0].source, place / before)
        listed[name], described[name], locally[name] = [], {before: session[0].source_caption}, {}
        for turn, sample in enumerate(session, 1):
            where, after = f"{name}-mask{turn}.png", f"{name}-output{turn}.png"
            save_picture(_mask(sample, cut_out), place / where)
            save_picture(sample.target, place / after)
            listed[name].append({"input": before, "mask": where, "output": after, "instruction": sample.instruction})
            described[name][after] = sample.target_caption
            # what the edit brings in; after a removal there is only what is left
            locally[name][after] = sample.edit_noun or sample.edit_colour or sample.edit_background or sample.target_caption
            before = after
    turns = [turn for session in listed.values() for turn in session]
    folder.mkdir(parents=True, exist_ok=True)
    for file, table in (
        ("edit_sessions", listed), ("edit_turns", turns), ("global_descriptions", described), ("local_descriptions", locally),
    ):  # fmt: skip
        (folder / f"{file}.json").write_text(json.dumps(table), encoding="utf-8")


def _chained(sessions: Iterable[Sequence[SceneSample]]) -> list[Sequence[SceneSample]]:
    found = list(sessions)
    for number, session in enumerate(found):
        if not 1 <= len(session) <= 3:
            raise ValueError(f"session {number} has {len(session)} turns, not 1 to 3")
        if any(not np.array_equal(after.source, before.target) for before, after in zip(session, session[1:])):
            raise ValueError(f"session {number} is no chain: a turn does not start from the target of the one before")
    return found


def _mask(sample: SceneSample, cut_out: bool) -> np.ndarray:
    return np.dstack([sample.source, np.where(sample.mask, 0, 255).astype(np.uint8)]) if cut_out else sample.mask

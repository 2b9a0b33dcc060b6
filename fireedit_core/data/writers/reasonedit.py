# SPDX-License-Identifier: GPL-3.0-or-later
"""Scenes in the layouts of SmartEdit's pairs and of the Reason-Edit benchmark; see formats/reasonedit.py."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from ..formats.reasonedit import INFO
from ..sample import SceneSample
from .files import save_picture

FOLDERS = {  # and the text file in each
    "1-Left-Right": "Left_Right_text.txt", "2-Relative-Size": "Size_text.txt", "3-Mirror": "Mirror_text.txt",
    "4-Color": "Color_text.txt", "5-Multiple-Objects": "MultipleObjects_text.txt", "6-Reasoning": "Reason_test.txt",
}  # fmt: skip


def write_train(folder: Path, samples: Iterable[SceneSample]) -> None:
    """SyntheticData_info_new.json and two folders of pictures; every pair has two instructions that say the same."""
    pairs = {}
    for number, sample in enumerate(samples):
        origin, target = f"origin_img/{number:04d}.png", f"target_img/{number:04d}.png"
        save_picture(sample.source, folder / origin)
        save_picture(sample.target, folder / target)
        said = [sample.instruction, f"please {sample.instruction}"]
        pairs[f"{number:04d}"] = {"origin_img_path": origin, "target_img_path": target, "instruction": said}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / INFO).write_text(json.dumps(pairs), encoding="utf-8")


def write_bench(folder: Path, samples: Iterable[SceneSample]) -> None:
    """Six folders. Scenes go round them: the layout is the benchmark's, the categories mean nothing here."""
    lines: dict[str, list[str]] = {name: [] for name in FOLDERS}
    for number, sample in enumerate(samples):
        name = list(FOLDERS)[number % len(FOLDERS)]
        stem = f"{len(lines[name]):03d}"
        save_picture(sample.source, folder / name / f"{stem}.png")
        save_picture(sample.mask, folder / name / f"{stem}_mask.jpg")
        lines[name].append(f"{sample.instruction} CLIP: {sample.target_caption}")
    for name, text in FOLDERS.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / text).write_text("".join(f"{line}\n" for line in lines[name]), encoding="utf-8")

# SPDX-License-Identifier: GPL-3.0-or-later
"""Every format at once: small synthetic datasets to try a training configuration with before the real ones are there.

`write` makes a folder per format and a `sources.yaml` whose rows `formats.registry` and `streaming` read.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..formats.instructpix2pix import SHARES
from ..formats.reader import DatasetError
from ..formats.registry import FORMATS, known
from ..sample import SceneSample
from ..scenes import SceneGenerator
from . import coco_stuff, emu_edit, instructpix2pix, llava, magicbrush, pairs, reasonedit, refer, tar, ultraedit

logger = logging.getLogger("fireedit")

SOURCES = "sources.yaml"
TURNS = 3  # of a MagicBrush session
TITLES = {  # the lists of sources.yaml and what is in each
    "sources": "to train on: paste this list into a training configuration",
    "streams": "to train on, read in passing only (fireedit_core.data.streaming)",
    "evaluation": "to measure on only: there are no targets",
}


class Scenes:
    """`count` scenes, and the same number of turns in sessions; drawn when they are asked for."""

    def __init__(self, count: int, seed: int):
        self.count, self._generator = count, SceneGenerator(seed=seed)

    def first(self, count: int) -> list[SceneSample]:
        """The first `count` scenes."""
        return [self._generator.sample(i) for i in range(count)]

    @property
    def all(self) -> list[SceneSample]:
        return self.first(self.count)

    @property
    def referring(self) -> list[SceneSample]:
        """`count` scenes whose instruction refers to an object."""
        found, number = [], 0
        while len(found) < self.count:
            sample = self._generator.sample(number)
            found += [sample] if sample.target_index >= 0 else []
            number += 1
        return found

    @property
    def sessions(self) -> list[Sequence[SceneSample]]:
        """Of TURNS turns each, the last one of what is left."""
        starts = range(0, self.count, TURNS)
        return [self._generator.turns(number, min(TURNS, self.count - start)) for number, start in enumerate(starts)]


def _parquet(write: Callable[[Path, Any], None], which: str = "all") -> Callable[[Path, Scenes], dict[str, Any]]:
    def writer(folder: Path, scenes: Scenes) -> dict[str, Any]:
        write(folder, getattr(scenes, which))
        return {"files": "data"}

    return writer


def _folder(
    write: Callable[[Path, Any], None], which: str = "all", option: str = "root", **more: str
) -> Callable[[Path, Scenes], dict[str, Any]]:
    def writer(folder: Path, scenes: Scenes) -> dict[str, Any]:
        write(folder, getattr(scenes, which))
        return {option: "."} | more

    return writer


def _refcoco(name: str, by: str) -> Callable[[Path, Scenes], dict[str, Any]]:
    return _folder(lambda folder, samples: refer.write_refcoco(folder, samples, name, by), "referring", images="train2014")


def _instructpix2pix_folder(folder: Path, scenes: Scenes) -> dict[str, Any]:
    """The reader takes the first 90 % of the prompts as its split: as many more are written."""
    count, share = scenes.count, SHARES["train"][1]
    while int(share * count) < scenes.count:
        count += 1
    instructpix2pix.write_folder(folder, scenes.first(count))
    return {"root": "."}


def _llava(folder: Path, scenes: Scenes) -> dict[str, Any]:
    file, pictures = llava.write(folder, scenes.all)
    return {"file": file.name, "pictures": pictures.name}


def _tar(folder: Path, scenes: Scenes) -> dict[str, Any]:
    tar.write(folder, scenes.all, min(2, scenes.count))
    return {"files": "."}


# Each writes into a folder and returns the options that open it, paths from that folder on.
WRITERS: Mapping[str, Callable[[Path, Scenes], dict[str, Any]]] = MappingProxyType({
    "magicbrush-hub": _parquet(magicbrush.write_hub, "sessions"),
    "magicbrush-folder": _folder(magicbrush.write_folder, "sessions"),
    "ultraedit": _parquet(ultraedit.write),
    "instructpix2pix-hub": _parquet(instructpix2pix.write_hub),
    "instructpix2pix-folder": _instructpix2pix_folder,
    "reasonedit": _folder(reasonedit.write_train, option="file"),
    "coco-stuff": _folder(coco_stuff.write),
    "refcoco": _refcoco("refcoco", "unc"),
    "refcoco+": _refcoco("refcoco+", "unc"),
    "refcocog": _refcoco("refcocog", "umd"),
    "grefcoco": _folder(refer.write_grefcoco, images="train2014"),
    "llava-instruct": _llava,
    "pairs": _folder(pairs.write_listed),
    "emu-edit": _parquet(emu_edit.write_set),
    "reasonedit-bench": _folder(reasonedit.write_bench),
    "pairs-tar": _tar,
})  # fmt: skip


def write(out: Path | str, formats: Sequence[str] | None = None, count: int = 8, seed: int = 0) -> Path:
    """Synthetic scenes in several formats below `out`, a folder for each, and `out/sources.yaml`.

    Args:
        formats: names of FORMATS; None: all.
        count: rows of each, 1 or more; of gRefCOCO up to three times as many, as a scene has that many referring expressions.
        seed: of the scenes.

    Returns:
        The yaml. Its lists are `sources`, `streams` and `evaluation`, of rows `{name, format, kind, ...}`, paths from its folder on.

    Raises:
        DatasetError: for an unknown format, a count below 1, a folder that is there already and not empty, or a list that is there.
    """
    import yaml

    out, names = Path(out), list(dict.fromkeys(formats or WRITERS))
    for name in names:
        known(name)
    if count < 1:
        raise DatasetError(f"a dataset needs 1 row or more, not {count}")
    taken = [name for name in names if (out / name).exists() and (not (out / name).is_dir() or any((out / name).iterdir()))]
    taken += [SOURCES] if (out / SOURCES).exists() else []
    if taken:
        raise DatasetError(f"{out} already holds {', '.join(taken)}; remove them or name another folder")
    scenes, lists = Scenes(count, seed), {title: [] for title in TITLES}
    for name in names:
        options = WRITERS[name](out / name, scenes)
        # every one of the options is a place; "." is the folder itself
        placed = {key: (Path(name) / value).as_posix() for key, value in options.items()}
        kind = FORMATS[name].kind
        title = "streams" if FORMATS[name].stream else "sources" if kind else "evaluation"
        lists[title].append({"name": name, "format": name, **({"kind": kind} if kind else {}), **placed})
        logger.info("wrote %s", out / name)
    text = "".join(
        f"# {TITLES[title]}\n{yaml.safe_dump({title: rows}, sort_keys=False, allow_unicode=True)}" for title, rows in lists.items() if rows
    )
    file = out / SOURCES
    file.write_text(text, encoding="utf-8")
    return file

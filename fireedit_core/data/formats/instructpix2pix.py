# SPDX-License-Identifier: GPL-3.0-or-later
"""InstructPix2Pix (arXiv 2211.09800): the clip-filtered set of the hub, and the folder that the authors' server hands out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..sample import EditSample
from .reader import BrokenRow, DatasetError, ParquetReader, Reader, fitted, picture, picture_size, sentence

SHARES = {"train": (0.0, 0.9), "val": (0.9, 0.95), "test": (0.95, 1.0)}  # of seeds.json, in its order


class InstructPix2PixHub(ParquetReader):
    """`timbrooks/instructpix2pix-clip-filtered`: 313,010 rows, one split."""

    name = "instructpix2pix"
    source_column = "original_image"
    columns = ("original_image", "edit_prompt", "edited_image")
    optional = ("original_prompt", "edited_prompt")

    def sample(self, index: int, row: Mapping[str, Any]) -> EditSample:
        """See `ParquetReader`."""
        source = picture(row["original_image"], "original_image")
        return EditSample(
            id=f"{index:08d}", dataset=self.name, source=source, target=fitted(picture(row["edited_image"], "edited_image"), source),
            instruction=sentence(row["edit_prompt"]), source_caption=row.get("original_prompt") or "",
            target_caption=row.get("edited_prompt") or "",
        )  # fmt: skip


class InstructPix2PixFolder(Reader):
    """`seeds.json` and a numbered folder per prompt, with `prompt.json`, `<seed>_0.jpg` and `<seed>_1.jpg` (before, after).

    One row per prompt. Which of its seeds is taken is the epoch's choice: `choose` moves to the next one.

    Args:
        root: folder with seeds.json. split: "train", "val" or "test", by the order of seeds.json (90, 5, 5 %).

    Raises:
        DatasetError: without seeds.json.
    """

    name = "instructpix2pix"
    varies = True

    def __init__(self, root: Path | str, split: str = "train"):
        super().__init__()
        self.root, self.epoch = Path(root), 0
        file = self.root / "seeds.json"
        if split not in SHARES:
            raise DatasetError(f"{self.name} has the splits {', '.join(SHARES)}, not {split!r}")
        if not file.is_file():
            raise DatasetError(f"{self.name}: there is no {file}")
        try:
            seeds = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DatasetError(f"{self.name}: {file} cannot be read ({error})") from error
        pairs = isinstance(seeds, list) and all(isinstance(row, list) and len(row) == 2 and isinstance(row[1], list) for row in seeds)
        if not pairs:
            raise DatasetError(f"{self.name}: {file} is no list of folders with their seeds")
        first, last = (int(share * len(seeds)) for share in SHARES[split])
        self.seeds: list[tuple[str, list[str]]] = [(folder, each) for folder, each in seeds[first:last]]

    def __len__(self) -> int:
        return len(self.seeds)

    def choose(self, epoch: int) -> None:
        """Take the seed number `epoch` of each prompt, counted around."""
        self.epoch = epoch

    def read(self, index: int) -> EditSample:
        """Row `index`."""
        folder, place, seed = self._place(index)
        try:
            prompt = json.loads((place / "prompt.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:  # no JSON, or no UTF-8
            raise BrokenRow(f"no prompt.json: {place} ({error})") from error
        if not isinstance(prompt, dict):
            raise BrokenRow(f"no prompt.json: {place} has {str(prompt)[:60]!r}")
        source = picture(place / f"{seed}_0.jpg", "picture before")
        return EditSample(
            id=f"{folder}/{seed}", dataset=self.name, source=source,
            target=fitted(picture(place / f"{seed}_1.jpg", "picture after"), source), instruction=sentence(prompt.get("edit")),
            # the released data says "input", the authors' generator "caption"
            source_caption=prompt.get("input") or prompt.get("caption") or "", target_caption=prompt.get("output") or "",
        )  # fmt: skip

    def size(self, index: int) -> tuple[int, int]:
        """See `Reader`; of the seed that the epoch takes."""
        _, place, seed = self._place(index)
        return picture_size(place / f"{seed}_0.jpg", "picture before")

    def _place(self, index: int) -> tuple[str, Path, str]:
        """A prompt's folder by its name and by its path, and the epoch's seed."""
        folder, seeds = self.seeds[index]
        if not seeds:
            raise BrokenRow(f"no seeds: {folder} lists none")
        seed = seeds[self.epoch % len(seeds)]
        for name in (folder, seed):
            if not isinstance(name, str) or Path(name).name != name or name == "..":
                raise BrokenRow(f"no file name: seeds.json has {name!r}")
        return folder, self.root / folder, seed

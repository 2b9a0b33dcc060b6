# SPDX-License-Identifier: GPL-3.0-or-later
"""What every reader of a dataset has: samples by number, and a way through all of them that survives broken rows."""

from __future__ import annotations

import glob
import io
import json
import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps

from ..sample import EditSample

logger = logging.getLogger("fireedit")

SPLITS = ("train", "dev", "val", "validation", "test")  # what the hub's parquet files, or their folders, are called by


class BrokenRow(ValueError):
    """A row that cannot be used; the message says which and why."""


class DatasetError(ValueError):
    """A dataset that is not where or what it should be; the message says what was looked for."""


class Reader(ABC):
    """A dataset on disk in its own format, rows numbered from 0.

    Attributes:
        name: of the dataset, written into every sample.
        skipped: how many rows `samples` left out, by the reason.
        varies: whether `choose` makes a row another picture, which may have another size.
    """

    name: str
    varies = False

    def __init__(self) -> None:
        self.skipped: Counter[str] = Counter()

    @abstractmethod
    def __len__(self) -> int:
        """Number of rows, broken ones included."""

    @abstractmethod
    def read(self, index: int) -> EditSample:
        """Row `index`. Raises BrokenRow if it cannot be used."""

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of the source of row `index` in pixels, where the format allows it without decoding a picture.

        Raises BrokenRow if the row has no source that opens. What else `read` would find broken may go unseen here.
        """
        height, width = self.read(index).source.shape[:2]
        return height, width

    def choose(self, epoch: int) -> None:  # noqa: B027
        """Move to an epoch, for datasets whose rows are drawn anew in each."""

    def __getitem__(self, index: int) -> EditSample:
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.name} has {len(self)} rows, not {index}")
        return self.read(index % len(self))

    def samples(self, start: int = 0) -> Iterator[EditSample]:
        """All rows from `start` on. Broken ones are left out, counted in `skipped` and named in the log, never silently."""
        for index in range(start, len(self)):
            try:
                yield self.read(index)
            except BrokenRow as error:
                reason = str(error).split(":", 1)[0]
                self.skipped[reason] += 1
                logger.warning("%s, row %d is left out: %s", self.name, index, error)

    def __iter__(self) -> Iterator[EditSample]:
        return self.samples()


class ParquetReader(Reader):
    """A dataset of the hub as parquet shards on disk. Pictures are decoded one by one, so that a broken one costs its own row only.

    Args:
        files: parquet files, a pattern of them (`train-*.parquet`), or a folder of those of one split; a set that does not fit into
            memory is mapped from disk (Arrow). None: no table, the reader is there to make samples of rows that come from elsewhere
            (`prepared`, `keeps` and `sample`; see streaming.py).

    Attributes:
        columns: what a row must have. optional: what is read as well, if it is there. source_column: the picture before the edit.

    Raises:
        DatasetError: if there are no files, a folder holds those of several splits, or a column is missing.
    """

    source_column: str
    columns: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()

    def __init__(self, files: Path | str | Iterable[Path | str] | None, cache: Path | str | None = None):
        super().__init__()
        self.table = None
        self._sources: tuple[Any, Any] | None = None  # the table, and its column of sources
        if files is None:
            return
        import datasets  # for training only; a node never reads a dataset

        paths = [str(path) for path in _parquet_files(files)]
        table = datasets.load_dataset("parquet", data_files=paths, split="train", cache_dir=None if cache is None else str(cache))
        self.table = self.prepared(table, paths[0])

    def prepared(self, table: Any, where: str) -> Any:
        """A table of `datasets`, whole or streamed, with the columns that are read and its pictures left undecoded.

        Raises DatasetError, which names the file `where`, if a column is missing.
        """
        import datasets

        missing = [column for column in self.columns if column not in table.column_names]
        if missing:
            raise DatasetError(f"{self.name}: {where} has no column {', '.join(missing)}, only {', '.join(table.column_names)}")
        table = table.select_columns([c for c in (*self.columns, *self.optional) if c in table.column_names])
        for column, feature in table.features.items():
            if isinstance(feature, datasets.Image):
                table = table.cast_column(column, datasets.Image(decode=False))
        return table

    def __len__(self) -> int:
        return 0 if self.table is None else len(self.table)

    def read(self, index: int) -> EditSample:
        """Row `index`."""
        return self.sample(index, self.table[index])

    def size(self, index: int) -> tuple[int, int]:
        """See `Reader`; only the column of the source is read."""
        if self._sources is None or self._sources[0] is not self.table:
            self._sources = (self.table, self.table.select_columns([self.source_column]))
        return picture_size(self._sources[1][index][self.source_column], self.source_column)

    def keeps(self, row: Mapping[str, Any]) -> bool:
        """Whether the options of the reader let a row in."""
        return True

    @abstractmethod
    def sample(self, index: int, row: Mapping[str, Any]) -> EditSample:
        """The sample of a row; pictures are {"bytes", "path"} there."""


def _parquet_files(files: Path | str | Iterable[Path | str]) -> list[Path]:
    paths = [Path(files)] if isinstance(files, (str, Path)) else [Path(path) for path in files]
    found = [file for path in paths for file in _parquet_at(path)]
    missing = [path for path in found if not path.is_file()]
    if not found or missing:
        raise DatasetError(f"no parquet files at {', '.join(map(str, missing or paths))}")
    return found


def _parquet_at(path: Path) -> list[Path]:
    if path.is_dir():
        return of_one_split(path, sorted(path.rglob("*.parquet")))
    return [path] if path.is_file() else [Path(name) for name in sorted(glob.glob(str(path)))] or [path]


def of_one_split(folder: Path, files: list[Path]) -> list[Path]:
    """The files of a folder. Raises DatasetError where they are those of several splits by their names, as the hub has them side by side: a
    run would be trained on what it is to be measured on."""
    named = lambda file: next((name for name in (file.name.split("-")[0], file.parent.name) if name.lower() in SPLITS), "")  # noqa: E731
    found = sorted({named(file) for file in files} - {""})
    if len(found) > 1:
        raise DatasetError(f"{folder} holds the splits {', '.join(found)}; name the files of one, such as {folder}/{found[-1]}-*.parquet")
    return files


def json_table(name: str, file: Path, kind: type = dict, inner: type = dict) -> Any:
    """A JSON file whose top is a `kind` (dict or list) of `inner`s. Raises DatasetError, in the dataset's name, if it is not."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{name}: {file} cannot be read ({error})") from error
    values = found.values() if isinstance(found, dict) else found
    if not isinstance(found, kind) or not all(isinstance(value, inner) for value in values):
        called = {dict: "object", list: "list"}
        raise DatasetError(f"{name}: {file} is no {called[kind]} of {called[inner]}s")
    return found


def picture(value: Any, what: str = "picture") -> np.ndarray:
    """(H, W, 3) uint8 RGB of a file, bytes, the hub's {"bytes", "path"} or a PIL picture; turned as its EXIF says, 16 bits brought to 8.

    Raises:
        BrokenRow: if there is none or it cannot be decoded, it is moving, or its values have a range that nobody knows.
    """
    return np.asarray(_opened(value, what).convert("RGB"))


def picture_size(value: Any, what: str = "picture") -> tuple[int, int]:
    """(height, width) of what `picture` gives, from the head of the file or of the bytes: nothing is decoded.

    Of a PNG's EXIF only what stands before the pixels counts, where it nearly always is.

    Raises:
        BrokenRow: if there is none or it is no picture.
    """
    value = _content(value, what)
    try:
        with Image.open(io.BytesIO(value) if isinstance(value, bytes) else value) as opened:
            width, height = opened.size
            # not the method of the class: that of PNG decodes the picture to look behind it
            turned = Image.Image.getexif(opened).get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
    except Exception as error:  # whatever Pillow raises: of damaged files struct.error and TypeError too, of huge ones a bomb
        raise BrokenRow(f"broken {what}: {error}") from error
    return (width, height) if turned else (height, width)


def mask(value: Any, what: str = "mask", transparent: bool | None = None) -> np.ndarray:
    """(H, W) bool of a mask picture.

    Args:
        transparent: where the edit is: True at transparent pixels (DALL-E's convention), False at white ones; None: at transparent
            ones if there are any, else at white ones.

    Raises:
        BrokenRow: as `picture`; for no alpha channel where one is asked for; and where something is marked, but nothing of it white: a
            mask of numbers (0 and 1, the colours of a palette) would mark nothing, and nobody would see it.
    """
    opened = _opened(value, what)
    has_alpha = opened.mode in ("RGBA", "LA", "PA") or "transparency" in opened.info
    alpha = np.asarray(opened.convert("RGBA"))[..., 3] if has_alpha else None
    if transparent or (transparent is None and alpha is not None and bool((alpha < 128).any())):
        if alpha is None:
            raise BrokenRow(f"no transparency: the {what} has no alpha channel")
        return alpha < 128
    values = np.asarray(opened.convert("L"))
    if 0 < values.max() <= 127:
        raise BrokenRow(f"no white in the {what}: its lightest value is {values.max()} of 255, and white says where the edit is")
    return values > 127


def fitted(target: np.ndarray, source: np.ndarray) -> np.ndarray:
    """A target picture or mask at the size of the source; pairs whose sizes differ exist in most public sets."""
    if target.shape[:2] == source.shape[:2]:
        return target
    size = (source.shape[1], source.shape[0])
    if target.dtype == bool:
        return np.asarray(Image.fromarray(target.astype(np.uint8) * 255).resize(size, Image.Resampling.NEAREST)) > 127
    return np.asarray(Image.fromarray(target).resize(size, Image.Resampling.LANCZOS))


def inside(root: Path, name: Any) -> Path:
    """A file below a folder by the name that a list gives it. Raises BrokenRow for no name, and for one that leads out of the folder."""
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        raise BrokenRow(f"no file name: the row has {name!r}")
    path = (root / name.replace("\\", "/")).resolve()
    if not path.is_relative_to(root.resolve()):
        raise BrokenRow(f"a name that leaves the folder: {name}")
    return path


def sentence(value: Any, what: str = "instruction") -> str:
    """A text without line breaks and doubled spaces. Raises BrokenRow if there is none."""
    text = " ".join(value.split()) if isinstance(value, str) else ""
    if not text:
        raise BrokenRow(f"no {what}: the row has {value!r}")
    return text


def unbracketed(value: Any) -> str:
    """A prompt without the brackets that benchmarks put around the words that change; "" for what is no text."""
    return " ".join(value.replace("[", "").replace("]", "").split()) if isinstance(value, str) else ""


def _content(value: Any, what: str) -> Any:
    """What the hub's {"bytes", "path"} holds; anything else as it is."""
    if isinstance(value, Mapping):
        value = value.get("bytes") or value.get("path")
    if value is None:
        raise BrokenRow(f"no {what}: the row has none")
    return value


def _opened(value: Any, what: str) -> Image.Image:
    value = _content(value, what)
    try:
        if isinstance(value, Image.Image):
            opened = value
        else:
            opened = Image.open(io.BytesIO(value) if isinstance(value, bytes) else value)
            opened.load()
        count = frames(opened)
        turned = ImageOps.exif_transpose(opened)
    except Exception as error:  # whatever Pillow raises: of damaged files struct.error and TypeError too, of huge ones a bomb
        raise BrokenRow(f"broken {what}: {error}") from error
    if count > 1:
        raise BrokenRow(f"a moving {what}: it has {count} frames")
    return _of_eight_bits(turned, what)


def is_transparent(picture: Image.Image) -> bool:
    """Whether a picture can be seen through somewhere, which three channels cannot say."""
    if picture.mode not in ("RGBA", "LA", "PA", "La", "RGBa") and "transparency" not in picture.info:
        return False
    return bool(np.asarray(picture.convert("RGBA"))[..., 3].min() < 255)


def frames(picture: Image.Image) -> int:
    """How many frames a picture has; 1 for photographs of phones (MPO), which keep a smaller copy or a gain map behind the first."""
    return 1 if picture.format == "MPO" else getattr(picture, "n_frames", 1)


def _of_eight_bits(picture: Image.Image, what: str) -> Image.Image:
    """A picture whose values are 0..255: Pillow's `convert` cuts more bits off, which makes nearly all of it white, or black."""
    if picture.mode == "F":
        raise BrokenRow(f"a {what} of floating point, whose range nobody knows")
    if not picture.mode.startswith("I"):
        return picture
    values = np.asarray(picture, np.float32)
    if not 0 <= values.min() <= values.max() <= 65535:
        raise BrokenRow(f"a {what} of more than 16 bits, whose range nobody knows: {values.min():g} to {values.max():g}")
    return Image.fromarray((values / 257).round().astype(np.uint8))

# SPDX-License-Identifier: GPL-3.0-or-later
"""Every dataset by a name and its options, as a configuration has them: `{name: mine, format: pairs, root: my-pairs}`.

Nothing here opens a dataset or imports `datasets` before it is asked for. docs/datasets.md says what each format needs.
"""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..mixture import KINDS, Source
from .reader import DatasetError, Reader

ROW = ("name", "format", "kind", "share", "flip")  # what a row of a configuration has besides the options of its reader


@dataclass(frozen=True)
class Format:
    """A way in which a dataset lies on disk.

    Attributes:
        reader: "<module of this folder>.<class>", imported when it is opened.
        kind: what its rows teach, one of `mixture.KINDS`; None: to measure on only, there are no targets.
        doc: one line.
        fixed: options that this name has already settled.
        stream: read in passing only, see streaming.py; no row can be asked for by its number.
    """

    reader: str
    kind: str | None
    doc: str
    fixed: Mapping[str, Any] = field(default_factory=dict)
    stream: bool = False

    def load(self) -> type[Any]:
        """The reader's class: a `Reader`, or `Shards` where `stream` is set."""
        module, _, name = self.reader.partition(".")
        return getattr(importlib.import_module(f".{module}", __package__), name)

    def options(self) -> dict[str, inspect.Parameter]:
        """What can be given when it is opened, by name: the arguments of the reader's constructor that are not fixed."""
        return {name: p for name, p in inspect.signature(self.load()).parameters.items() if name not in self.fixed}


FORMATS: Mapping[str, Format] = MappingProxyType({
    "magicbrush-hub": Format("magicbrush.MagicBrushHub", "edit", "MagicBrush train and dev, parquet of the hub"),
    "magicbrush-folder": Format("magicbrush.MagicBrushFolder", "edit", "MagicBrush val and test, the authors' unzipped folder"),
    "ultraedit": Format("ultraedit.UltraEdit", "edit", "UltraEdit, its 500k and its region-based subset, parquet of the hub"),
    "instructpix2pix-hub": Format("instructpix2pix.InstructPix2PixHub", "edit", "InstructPix2Pix clip-filtered, parquet of the hub"),
    "instructpix2pix-folder": Format("instructpix2pix.InstructPix2PixFolder", "edit", "InstructPix2Pix, the authors' folder"),
    "reasonedit": Format("reasonedit.ReasonEditTrain", "reasoning", "SmartEdit's synthetic pairs that need reasoning"),
    "coco-stuff": Format("coco_stuff.CocoStuff", "segmentation", "COCO-Stuff, a class is painted"),
    "refcoco": Format("refer.RefCoco", "segmentation", "RefCOCO, the object of a sentence is painted", {"name": "refcoco"}),
    "refcoco+": Format("refer.RefCoco", "segmentation", "RefCOCO+, likewise, sentences without places", {"name": "refcoco+"}),
    "refcocog": Format("refer.RefCoco", "segmentation", "RefCOCOg, likewise, longer sentences", {"name": "refcocog"}),
    "grefcoco": Format("refer.GRefCoco", "segmentation", "gRefCOCO, none, one or several objects are painted"),
    "llava-instruct": Format("llava.LlavaInstruct", "conversation", "LLaVA-Instruct-150k, conversations about COCO pictures"),
    "pairs": Format("pairs.PairsFolder", "edit", "a folder of your own pairs"),
    "pairs-tar": Format("shards.TarPairs", "edit", "tar shards of pairs in the manner of WebDataset", stream=True),
    "emu-edit": Format("emu_edit.EmuEdit", None, "the test set of Emu Edit or its generations, parquet of the hub"),
    "reasonedit-bench": Format("reasonedit.ReasonEditBench", None, "the Reason-Edit benchmark, folders by category"),
})  # fmt: skip


def open_reader(format: str, **options: Any) -> Reader:
    """A dataset by the name of its format.

    Args:
        format: one of FORMATS.
        options: arguments of the reader's constructor, see `Format.options` and docs/datasets.md. Paths are str or Path.

    Raises:
        DatasetError: for an unknown format (it lists those that exist), an option that is unknown or missing (it lists the reader's), a
            path that is none, a format that is only streamed, and whatever the reader finds wrong.
    """
    chosen = known(format)
    if chosen.stream:
        raise DatasetError(f"{format} is read in passing only: fireedit_core.data.streaming.open_stream opens it")
    check_options(format, options)
    return chosen.load()(**options, **chosen.fixed)


def check_options(format: str, options: Mapping[str, Any]) -> None:
    """Raises DatasetError for an option that the format does not have, one that it needs, and a path that is none."""
    chosen = known(format)
    there = chosen.options()
    unknown = [name for name in options if name not in there]
    missing = [name for name, p in there.items() if p.default is p.empty and options.get(name) is None]
    if unknown or missing:
        problem = [*(f"no option {name}" for name in unknown), *(f"{name} is missing" for name in missing)]
        raise DatasetError(f"{format}: {'; '.join(problem)}. Its options are {_listed(there)}")
    for name in path_options(chosen):
        if not _is_path(options.get(name), several="Iterable" in str(there[name].annotation)):
            raise DatasetError(f"{format}: {name} must be a path, not {options[name]!r}")


def open_entry(entry: Mapping[str, Any], base: Path | str | None = None) -> Reader:
    """The reader of a row of a configuration, also of a format to measure on only; see `open_source`."""
    name, format, options = split_entry(entry, base)
    if "name" in format.options():  # a dataset of one's own has no name but this one
        options["name"] = name
    try:
        return open_reader(entry["format"], **options)
    except DatasetError as error:
        raise DatasetError(f"source {name}: {error}") from error


def open_source(entry: Mapping[str, Any], base: Path | str | None = None) -> Source:
    """A row of a configuration as a source of a `Mixture`.

    Args:
        entry: `name` (unique in the mixture), `format` (one of FORMATS), `kind` if it is not the format's own, `share` and `flip` (see
            `Source`), and the reader's options.
        base: folder that relative paths start from; None: the working directory.

    Raises:
        DatasetError: for a row without name or format, a format to measure on only, an unknown kind, and as `open_reader`.
    """
    name, format, _ = split_entry(entry, base)
    kind = kind_of(name, entry, format)
    return Source(name, open_entry(entry, base), kind, *row_settings(name, entry))


def split_entry(entry: Mapping[str, Any], base: Path | str | None = None) -> tuple[str, Format, dict[str, Any]]:
    """Name, format and options of a row; paths among the options start from `base`. Raises DatasetError for what is no row."""
    if not isinstance(entry, Mapping):
        raise DatasetError(f"a source is a row of name, format and options, not {entry!r}")
    name, format = (entry.get(key) for key in ROW[:2])
    if not isinstance(name, str) or not name.strip() or not isinstance(format, str):
        raise DatasetError(f"a source needs a name and a format, each a text; the row is {dict(entry)!r}")
    chosen = known(format)
    return name, chosen, settled(chosen, {key: value for key, value in entry.items() if key not in ROW}, base)


def row_settings(name: str, entry: Mapping[str, Any]) -> tuple[float | None, bool | None]:
    """(share, flip) of a row, None where it does not say. Raises DatasetError for values that they cannot have."""
    share, flip = entry.get("share"), entry.get("flip")
    if share is not None and (isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < math.inf):
        raise DatasetError(f"{name}: share must be a number of 0 or more, not {share!r}")
    if flip is not None and not isinstance(flip, bool):
        raise DatasetError(f"{name}: flip must be true or false, not {flip!r}")
    return share if share is None else float(share), flip


def kind_of(name: str, entry: Mapping[str, Any], format: Format) -> str:
    """The kind of a row: its own, else its format's. Raises DatasetError for an unknown one and for a format without targets."""
    if format.kind is None:
        raise DatasetError(f"{name}: {entry['format']} has no targets, it is to measure on only; open_entry opens it")
    kind = entry.get("kind") or format.kind
    if kind not in KINDS:
        raise DatasetError(f"{name} is of the kind {kind!r}; there are {', '.join(KINDS)}")
    return kind


def load_sources(file: Path | str) -> list[Source]:
    """The sources of a YAML file: a list of rows as `open_source` reads them, alone or under the key `sources`.

    Relative paths in it start from the folder of the file.

    Raises:
        DatasetError: if the file cannot be read or holds no such list, and as `open_source`.
    """
    return [open_source(row, Path(file).parent) for row in load_rows(file)]


def load_rows(file: Path | str) -> list[Any]:
    """The rows of `load_sources`, not opened. Raises DatasetError if the file cannot be read or holds no list of them."""
    import yaml

    from ...strict_yaml import parsed

    try:
        read = parsed(Path(file).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DatasetError(f"{file} cannot be read ({error})") from error
    rows = read.get("sources") if isinstance(read, Mapping) else read
    if not isinstance(rows, list) or not rows:
        raise DatasetError(f"{file} holds no list of sources, alone or under the key `sources`")
    return rows


def known(format: str) -> Format:
    """The format of a name. Raises DatasetError with all names."""
    if format not in FORMATS:
        raise DatasetError(f"there is no format {format!r}; there are {', '.join(FORMATS)}")
    return FORMATS[format]


def path_options(format: Format) -> list[str]:
    """Options that are files or folders: those whose type says so."""
    return [name for name, p in format.options().items() if "Path" in str(p.annotation)]


def settled(format: Format, options: Mapping[str, Any], base: Path | str | None) -> dict[str, Any]:
    """The options with `~` put in full and relative paths set below `base`. Addresses (`https://`, `hf://`) stay as they are."""
    paths = path_options(format)
    return {name: _below(base, value) if name in paths else value for name, value in options.items()}


def _below(base: Path | str | None, value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_below(base, each) for each in value]
    if not isinstance(value, (str, Path)) or "://" in str(value):
        return value
    path = Path(value).expanduser()
    return str(path if base is None else Path(base) / path)


def _is_path(value: Any, several: bool) -> bool:
    if several and isinstance(value, Iterable) and not isinstance(value, (str, Path, Mapping)):
        return all(_is_path(each, False) for each in value)
    return value is None or (isinstance(value, Path) or (isinstance(value, str) and bool(value.strip())))


def _listed(options: Mapping[str, inspect.Parameter]) -> str:
    return ", ".join(name if p.default is p.empty else f"{name} (if not {p.default!r})" for name, p in options.items()) or "none"

# SPDX-License-Identifier: GPL-3.0-or-later
"""One reader of lists of edits, CSV and JSON lines, for the command line and for bulk editing. Loads no model library.

People write such lists with spreadsheets, editors and scripts, so it reads what those write (Excel's `;`, byte order marks, UTF-16,
Windows' cp1252, capitals and blanks in the head) and refuses, with the line's number, what would be read as something else: text
with a comma that is not quoted would end at the comma.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_DELIMITERS = (",", ";", "\t")


class ListError(ValueError):
    """A list that cannot be read; the message names the file, the line and the mend."""


def read_records(source: Path, columns: Sequence[str], needed: Sequence[str] = ("image",)) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, record) of a .csv or .jsonl file; the names of a record are among `columns`, absent ones are left out.

    Args:
        columns: what a record may have; a name that is no such thing is refused, as what it says would be ignored.
        needed: columns that a CSV's head must have.

    Raises:
        ListError: for a file, a head or a line that cannot be read.
    """
    try:
        text = _decoded(source.read_bytes())
    except OSError as error:
        raise ListError(f"{source} cannot be read: {error}") from error
    except UnicodeError as error:
        raise ListError(f"{source} cannot be read as {source.suffix[1:].upper()}: {error}. Save it as UTF-8") from error
    if source.suffix.lower() == ".csv":
        return _csv(source, text, columns, needed)
    return _json_lines(source, text, columns)


def _decoded(content: bytes) -> str:
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return content.decode(encoding)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("cp1252")  # what Excel writes in the western world; fails for bytes that it does not have


def _csv(source: Path, text: str, columns: Sequence[str], needed: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    head = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(_DELIMITERS, key=head.count) if any(map(head.count, _DELIMITERS)) else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)
    names: list[str] | None = None
    try:
        for fields in reader:
            if not any(field.strip() for field in fields):
                continue
            line = reader.line_num
            if names is None:
                names = _names(source, line, fields, columns)
                missing = [name for name in needed if name not in names]
                if missing:
                    raise ListError(
                        f"{source}, line {line}: no column {missing[0]}; the first line must name the columns, e.g. {','.join(columns)}"
                    )
                continue
            if len(fields) > len(names) and any(field.strip() for field in fields[len(names) :]):
                raise ListError(
                    f"{source}, line {line}: more fields than columns ({len(fields)} for {len(names)}); text with a {delimiter!r} needs "
                    "double quotes"
                )
            yield line, dict(zip(names, (field.strip() for field in fields)))
    except csv.Error as error:
        raise ListError(f"{source}, line {reader.line_num}: cannot be read as CSV ({error})") from error


def _names(source: Path, line: int, fields: Sequence[str], columns: Sequence[str]) -> list[str]:
    names = [field.strip().lower() for field in fields]
    while names and not names[-1]:  # a spreadsheet's empty columns
        names.pop()
    unknown = [name for name in names if name not in columns]
    if unknown:
        raise ListError(f"{source}, line {line}: unknown column {unknown[0]!r}; there are {', '.join(columns)}")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ListError(f"{source}, line {line}: the column {twice[0]} stands there more than once")
    return names


def _json_lines(source: Path, text: str, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    # not splitlines: JSON may hold what Unicode calls a line's end
    for line, entry in enumerate(io.StringIO(text, newline=None), 1):
        if not entry.strip():
            continue
        try:
            record = json.loads(entry, object_pairs_hook=unique)
        except ValueError as error:
            raise ListError(f"{source}, line {line}: cannot be read as JSONL ({error})") from error
        if not isinstance(record, dict):
            raise ListError(f'{source}, line {line}: expected an object like {{"image": ..., "instruction": ...}}')
        unknown = [name for name in record if name not in columns]
        if unknown:
            raise ListError(f"{source}, line {line}: unknown entry {unknown[0]!r}; there are {', '.join(columns)}")
        for name, value in record.items():
            if isinstance(value, bool) or not isinstance(value, (str, int, float, type(None))):
                raise ListError(f"{source}, line {line}: {name} must be a text or a number, got {str(value)[:80]}")
        yield line, record


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON. Raises ValueError where it names an entry twice: the last one would count, and nobody would see it."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)} stands there more than once")
    return found

# SPDX-License-Identifier: GPL-3.0-or-later
"""MagicBrush's test (or val) set, by the authors' evaluation/image_eval.py.

Results are named `<id>/<id>_1.png` for a first turn, `<id>/<id>_inde_<k>.png` for turn k from the target of the turn before, and
`<id>/<id>_iter_<k>.png` for turn k from the model's own result of the turn before. The single-turn table ("all turns", 1053 pairs) has
`_1` and `_inde_k` against every output; the multi-turn table ("final turn", 535 pairs) the last `_iter_k`, or `_1` where the session has
one turn, against the last output. The authors pair files by sorting on the digits of their names, which is the number of the turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ...data.formats import BrokenRow
from ...data.formats.magicbrush import MagicBrushFolder
from ...data.formats.reader import sentence
from .benchmark import Benchmark, Case, Edit, Trial, checked_key, opened
from .profiles import Profile

SINGLE, MULTI = "single", "multi"


class MagicBrush(Benchmark):
    """The unzipped test folder; see `MagicBrushFolder`. A turn counts in the group of its number."""

    name = "magicbrush"
    views = (SINGLE, MULTI)
    titles = {SINGLE: "single-turn (all turns)", MULTI: "multi-turn (final turn)"}
    counts = {SINGLE: 1053, MULTI: 535}
    oracle = {SINGLE: {"clip_t": 0.28259}, MULTI: {"clip_t": 0.28554}}  # MagicBrush#27: right data and the right network give this

    def __init__(self, data: Path | str):
        self.reader = MagicBrushFolder(data)
        self.data = Path(data)
        self.sessions = self.reader.sessions

    def edits(self, views: Sequence[str]) -> list[Edit]:
        """See `Benchmark`; turn by turn, so that what starts from a result stands behind it."""
        found = []
        for turn in range(1, 1 + max((len(rows) for rows in self.sessions), default=0)):
            for rows in self.sessions:
                if turn > len(rows):
                    continue
                row = rows[turn - 1]
                say = self.reader.turns[row].get("instruction")
                if turn == 1 or SINGLE in views:
                    found.append(Edit(key=self._key(row, SINGLE), instruction=say, row=row))
                if turn > 1 and MULTI in views:
                    found.append(Edit(key=self._key(row, MULTI), instruction=say, row=row, after=self._key(rows[turn - 2], MULTI)))
        return found

    def trials(self, view: str) -> list[Trial]:
        """See `Benchmark`."""
        if view == SINGLE:
            return [Trial(key=self._key(row, SINGLE), row=row, task=self._turn(row)) for rows in self.sessions for row in rows]
        return [Trial(key=self._key(rows[-1], MULTI), row=rows[-1], task=self._turn(rows[-1]), start=rows[0]) for rows in self.sessions]

    def groups(self, limit: int) -> set[int]:
        """The rows of the first `limit` sessions."""
        return {row for rows in (self.sessions[:limit] if limit else self.sessions) for row in rows}

    def source_file(self, row: int) -> Path:
        """See `Benchmark`."""
        return self._file(row, "input")

    def case(self, trial: Trial, profile: Profile) -> Case:
        """See `Benchmark`. The target keeps its own size, which is often not that of the source."""
        turn, (session, _) = self.reader.turns[trial.row], self.reader.places[trial.row]
        start = trial.row if trial.start < 0 else trial.start
        asked = [t for s, t in zip(self.reader.places, self.reader.turns) if s[0] == session] if trial.start >= 0 else [turn]
        return Case(
            instruction="; ".join(sentence(t.get("instruction")) for t in asked), source=self._picture(start, "input"),
            reference=self._picture(trial.row, "output"), caption=self.reader.locally.get(session, {}).get(turn.get("output")) or "",
        )  # fmt: skip

    def _key(self, row: int, view: str) -> str:
        session, turn = self.reader.places[row]
        return checked_key(f"{session}/{session}_" + ("1" if turn == 1 else f"{'inde' if view == SINGLE else 'iter'}_{turn}"))

    def _turn(self, row: int) -> str:
        return f"turn {self.reader.places[row][1]}"

    def _file(self, row: int, what: str) -> Path:
        name = self.reader.turns[row].get(what)
        folder = name.split("-", 1)[0] if isinstance(name, str) else ""
        if folder in ("", ".", "..") or set(name) & set("/\\\0"):
            raise BrokenRow(f"no file name for {what}: {name!r}")
        return self.data / "images" / folder / name

    def _picture(self, row: int, what: str) -> Image.Image:
        return opened(self._file(row, what), what)

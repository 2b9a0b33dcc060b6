# SPDX-License-Identifier: GPL-3.0-or-later
"""A result as one HTML file with everything in it: tables, and source | edit | target of edits that nobody chose. No scripts, no links."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .benchmark import Benchmark, Case
from .profiles import PROFILES, Metric
from .report import REFERENCE_LABELS, cell, columns, counts, facts, overall_rows, task_rows
from .score import EDIT, edits_folder, read_trial

SIDE = 224  # pixels of a thumbnail's long side
DIM = 0.25  # how bright the picture is outside the mask

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222; background: #fafafa; margin: 2rem auto; max-width: 1180px; padding: 0 1rem }
h1 { font-size: 1.6rem; margin-bottom: .3rem } h2 { margin-top: 2.2rem; border-bottom: 1px solid #ddd; padding-bottom: .2rem }
p.facts { color: #555; margin: .3rem 0; overflow-wrap: anywhere } code { font-size: .9em }
.wide { overflow-x: auto } table { border-collapse: collapse; background: #fff; font-size: 13px; margin: .8rem 0 }
th, td { border: 1px solid #ddd; padding: .3rem .55rem; text-align: right; white-space: nowrap }
th { background: #f0f0f0; font-weight: 600; white-space: normal } th:first-child, td:first-child { text-align: left }
.tasks th:nth-child(2), .tasks td:nth-child(2) { text-align: left }
td small { display: block; color: #777; font-weight: 400; font-size: 11px }
.overall tbody tr:first-child td { background: #fdf1ea; font-weight: 600 }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(520px, 1fr)); gap: 14px }
.card { background: #fff; border: 1px solid #ddd; border-radius: 6px; padding: 10px 12px; break-inside: avoid }
.card h3 { font-size: 15px; margin: 0 0 2px; font-weight: 600 } .card .key { color: #777; font-size: 12px; margin-bottom: 8px }
.row { display: flex; gap: 8px } figure { margin: 0; flex: 1 1 0; min-width: 0 } img { width: 100%; display: block; border-radius: 3px }
figcaption { font-size: 11px; color: #777; text-align: center; margin-top: 2px }
.scores { font-size: 12px; margin: 8px 0 0; color: #333 } .scores b { font-weight: 600 }
.scores span { margin-right: 1em; white-space: nowrap; display: inline-block }
"""


def write_sheet(path: Path | str, result: Mapping[str, Any], benchmark: Benchmark, count: int = 60) -> Path:
    """Write the sheet of a result of `score` beside the data and the edits that it was made of.

    Args:
        count: edits that are shown of each view: every n-th of those that were used, so that none is picked. 0 shows all.
    """
    parts = [f"<h1>{escape(benchmark.name)}: {escape(result.get('name') or 'results')}</h1>"]
    parts += [f'<p class="facts">{_code(line)}</p>' for line in facts(result).split("\n\n")]
    for view, found in result["views"].items():
        parts += [f"<h2>{escape(found['title'])}</h2>", f'<p class="facts">{escape(counts(found))}</p>']
        parts.append(_table(*overall_rows(result, found), kind="overall"))
        head, rows = task_rows(result, found)
        if rows:
            parts.append(_table(head, rows, kind="tasks"))
        shown = every_nth(found["cases"], count)
        total = len(found["cases"])
        said = "all of them" if len(shown) == total else f"{len(shown)} of {total} at even distances, not chosen"
        parts.append(f'<p class="facts">Shown: {said}.</p>')
        parts.append(f'<div class="cards">{"".join(_cards(result, benchmark, view, shown))}</div>')
    title = escape(f"{benchmark.name}: {result.get('name') or 'results'}")
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style></head>'
        f"<body>\n{chr(10).join(parts)}\n</body></html>\n"
    )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    return path


def every_nth(cases: Sequence[Any], count: int) -> list[Any]:
    """`count` of the cases at even distances, the first among them; all for 0 or for fewer cases."""
    if not count or len(cases) <= count:
        return list(cases)
    return [cases[i * len(cases) // count] for i in range(count)]


def _cards(result: Mapping[str, Any], benchmark: Benchmark, view: str, shown: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    profile, (folder, _) = PROFILES[result["profile"]["name"]], edits_folder(result["generated"])
    trials = {trial.key: trial for trial in benchmark.trials(view)}
    metrics = columns(result)
    for record in shown:
        case, edit = read_trial(benchmark, trials[record["key"]], profile, folder)
        pictures = [("source", case.source), ("edit", edit)]
        if profile.reference != "source":
            pictures.append(({"target": "target"}.get(profile.reference, REFERENCE_LABELS[profile.reference]), case.reference))
        elif case.mask is not None:
            pictures.append(("where the edit belongs", masked(case)))
        figures = "".join(
            f'<figure><img src="{thumbnail(image)}" alt="{escape(name)}"><figcaption>{escape(name)}</figcaption></figure>'
            for name, image in pictures
        )
        task = f" · {escape(record['task'])}" if record["task"] else ""
        yield (
            f'<div class="card"><h3>{escape(record["instruction"])}</h3><div class="key">{escape(record["key"])}{task}</div>'
            f'<div class="row">{figures}</div><p class="scores">{_scores(record["scores"][EDIT], metrics)}</p></div>'
        )


def masked(case: Case) -> Image.Image:
    """The source, dimmed where the edit does not belong."""
    pixels = np.asarray(case.source, np.float32)
    return Image.fromarray((pixels * np.where(case.mask, 1.0, DIM)[..., None]).astype(np.uint8))


def thumbnail(image: Image.Image) -> str:
    """A small JPEG as a data URI."""
    small, out = image.convert("RGB"), io.BytesIO()
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    small.save(out, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


def _scores(scores: Mapping[str, Any], metrics: Sequence[Metric]) -> str:
    cells = []
    for metric in metrics:
        value = scores.get(metric.name)
        one = {"mean": value if isinstance(value, (int, float)) else None, "infinite": int(value == "inf")}
        cells.append(f"<span>{escape(metric.label)} <b>{cell(one, metric, interval=False)}</b></span>")
    return "".join(cells)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], kind: str) -> str:
    top = "".join(f"<th>{escape(text)}</th>" for text in head)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f'<div class="wide"><table class="{kind}"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(text: str) -> str:
    """A table cell; an interval goes on a line of its own, so that the table is not wider than the page."""
    mean, bracket, interval = text.partition(" [")
    return f"<td>{escape(mean)}{f'<small>[{escape(interval)}</small>' if bracket else ''}</td>"


def _code(text: str) -> str:
    """Text with what stands between backticks as code."""
    pieces = escape(text).split("`")
    return "".join(f"<code>{piece}</code>" if number % 2 else piece for number, piece in enumerate(pieces))

# SPDX-License-Identifier: GPL-3.0-or-later
"""A result of `score` as Markdown tables and as a plot, the published numbers beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..summary import OVERALL, markdown_table
from .profiles import PROFILES, Metric
from .published import JUDGED, JUDGED_HEAD, Published, beside
from .score import EDIT, IDENTITY, REFERENCE, by_reason

IDENTITY_LABEL = "doing nothing (the source)"
REFERENCE_LABELS = {"target": "the targets themselves", "edited_image": "Emu Edit's own pictures"}


def write(result: Mapping[str, Any], out: Path | str) -> list[Path]:
    """`result.json`, `result.md` and `result.png` in a folder."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    files = [out / f"result.{end}" for end in ("json", "md", "png")]
    files[0].write_text(json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    files[1].write_text(markdown(result) + "\n", encoding="utf-8")
    plot(result, files[2])
    return files


def markdown(result: Mapping[str, Any]) -> str:
    """The whole report."""
    profile = result["profile"]
    parts = [f"# {result['benchmark']}: {result.get('name') or 'results'}", facts(result)]
    for found in result["views"].values():
        parts += [f"## {found['title']}", counts(found), markdown_table(*overall_rows(result, found))]
        head, rows = task_rows(result, found)
        if rows:
            parts += ["By task:", markdown_table(head, rows)]
        shown = {row.editor: row for row in _beside(result, found)}
        if shown:
            parts.append("Published: " + "; ".join(f"{row.editor}: {row.source} ({row.how})" for row in shown.values()) + ".")
    parts += [
        "## What was measured",
        "\n".join(f"- {line}" for line in profile["preparation"]) + (f"\n\n{profile['note']}" if profile["note"] else ""),
        "Means with 95 % bootstrap intervals over pictures. Metrics of preservation reward doing nothing: read them beside the row of the "
        "source and beside CLIP-T or CLIP-dir. " + ", ".join(f"{name} {version}" for name, version in result["software"].items()) + ".",
        "## Editors of today, by a judge model",
        "ImgEdit overall (1 to 5) and GEdit-Bench-EN (0 to 10), both judged by GPT-4.1: another scale, nothing above compares with it.",
        markdown_table(JUDGED_HEAD, JUDGED),
    ]
    return "\n\n".join(parts)


def facts(result: Mapping[str, Any]) -> str:
    """What was scored, by which profile, made with what; and what was left out, a line each."""
    profile, made = result["profile"], result["generation"]
    lines = [f"Edits in `{result['generated']}`, profile `{profile['name']}` version {profile['version']} (hash `{profile['hash']}`)."]
    if result["limit"]:
        lines.append(f"Only the first {result['limit']} of the data: not the benchmark's number.")
    if made:
        lines.append(
            f"Made by bundle {made['bundle']} (`{made['bundle_fingerprint']}`): {made['steps']} steps, text guidance "
            f"{made['text_guidance']:g}, image guidance {made['image_guidance']:g}, long side {made['working_size'] or 'own'}, pixels kept "
            f"outside: {made['keep_outside']}, seed {made['seed']}"
            + "".join(f", {key} {made[key]}" for key in ("sampling", "detector") if key in made) + "."
        )
    lines += [f"Left out: {', '.join(names)}: {why}." for why, names in by_reason(result["left_out"]).items()]
    return "\n\n".join(lines)


def counts(found: Mapping[str, Any]) -> str:
    """How many edits were used, skipped and not measured, in words."""
    skipped = {reason: len(keys) for reason, keys in found["skipped"].items()}
    text = f"{found['used']} of {found['expected']} edits used"
    if skipped:
        text += "; skipped: " + ", ".join(f"{reason} {number}" for reason, number in skipped.items())
    if found["published_count"] and found["published_count"] != found["expected"]:
        text += f"; the published set has {found['published_count']}"
    for name, reasons in found["unmeasured"].items():
        text += f"; without {name}: " + ", ".join(f"{number} ({reason})" for reason, number in reasons.items())
    return text + "."


def columns(result: Mapping[str, Any]) -> list[Metric]:
    """The columns of the tables: the metrics that were measured, then the judge's scores."""
    known = {metric.name: metric for metric in PROFILES[result["profile"]["name"]].metrics}
    judged = [Metric(name, "judged", "", f"judge: {name}", more=True, digits=2) for name in result["judged"]]
    return [known[name] for name in result["profile"]["metrics"]] + judged


def overall_rows(result: Mapping[str, Any], found: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Head and rows: the edits, the baselines, the published numbers."""
    metrics = columns(result)
    head = ["editor", "n", *(f"{m.label} {'↑' if m.more else '↓'}" for m in metrics)]
    rows = []
    for system, table in found["tables"].items():
        cells = [cell(table[OVERALL][m.name], m) for m in metrics]
        rows.append([system_label(result, system), str(found["used"]), *cells])
    for row in _beside(result, found):
        values = [f"{row.values[m.name] * m.scale:.{m.digits}f}" if m.name in row.values else "-" for m in metrics]
        rows.append([row.editor + ("" if row.task == OVERALL else f", {row.task}"), "", *values])
    return head, rows


def task_rows(result: Mapping[str, Any], found: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Head and rows: a task's edits, and the source beside them. No rows where there is one group only."""
    metrics = columns(result)
    rows = []
    for task in found["tables"][EDIT]:
        if task == OVERALL:
            continue
        number = sum(case["task"] == task for case in found["cases"])
        for system in (EDIT, IDENTITY):
            table = found["tables"][system][task]
            rows.append([task, system_label(result, system), str(number), *(cell(table[m.name], m) for m in metrics)])
    return ["task", "editor", "n", *(m.label for m in metrics)], rows


def system_label(result: Mapping[str, Any], system: str) -> str:
    """What a system is called in tables."""
    if system == REFERENCE:
        return REFERENCE_LABELS[result["profile"]["reference"]]
    return {EDIT: result.get("name") or "these edits", IDENTITY: IDENTITY_LABEL}[system]


def cell(value: Mapping[str, Any], metric: Metric, interval: bool = True) -> str:
    """A mean with its interval; "inf" where every value is, "-" where nothing was measured."""
    infinite = value.get("infinite", 0)
    if value["mean"] is None:
        return "inf" if infinite else "-"
    show = lambda x: f"{x * metric.scale:.{metric.digits}f}"  # noqa: E731
    text = show(value["mean"])
    if interval:
        text += f" [{show(value['interval'][0])}, {show(value['interval'][1])}]"
    return text + (f" (+{infinite} inf)" if infinite else "")


def _beside(result: Mapping[str, Any], found: Mapping[str, Any]) -> list[Published]:
    view = next(name for name, other in result["views"].items() if other is found)
    names = {metric.name for metric in columns(result)}
    return [row for row in beside(result["profile"]["name"], view) if names & set(row.values)]


def plot(result: Mapping[str, Any], path: Path | str) -> None:
    """A panel per view and metric: means with intervals, published numbers as diamonds. PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    metrics, views = columns(result), result["views"]
    if not metrics:
        raise ValueError("nothing was measured: no metric had its network, and the profile has none without")
    wide = len(metrics) if len(metrics) <= 4 else -(-len(metrics) // 2)
    high = -(-len(metrics) // wide)
    tallest = max(len(overall_rows(result, found)[1]) for found in views.values())
    size = (3.6 * wide + 2.2, (0.32 * tallest + 0.9) * high * len(views))
    figure, axes = pyplot.subplots(high * len(views), wide, figsize=size, constrained_layout=True, squeeze=False)
    for number, found in enumerate(views.values()):
        labels = [row[0] for row in overall_rows(result, found)[1]]
        for place in range(high * wide):
            axis = axes[number * high + place // wide][place % wide]
            if place >= len(metrics):
                axis.set_visible(False)
                continue
            _panel(axis, result, found, metrics[place])
            axis.set_yticks(range(len(labels)), labels if place % wide == 0 else [""] * len(labels), fontsize=8)
            axis.set_ylim(len(labels) - 0.5, -0.5)
            title = f"{metrics[place].label} ({'more' if metrics[place].more else 'less'} is better)"
            axis.set_title(f"{found['title']}\n{title}" if len(views) > 1 else title, fontsize=9)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _panel(axis: Any, result: Mapping[str, Any], found: Mapping[str, Any], metric: Metric) -> None:
    colours = {EDIT: "#d6623a", IDENTITY: "#888888", REFERENCE: "#3a60aa"}
    for y, (system, table) in enumerate(found["tables"].items()):
        value = table[OVERALL][metric.name]
        if value["mean"] is None:
            continue
        mean, (low, high) = value["mean"] * metric.scale, (x * metric.scale for x in value["interval"])
        axis.errorbar(mean, y, xerr=[[max(mean - low, 0)], [max(high - mean, 0)]], fmt="o", color=colours[system], capsize=3)
    for y, row in enumerate(_beside(result, found), len(found["tables"])):
        if metric.name in row.values:
            axis.plot(row.values[metric.name] * metric.scale, y, "D", color="#55aa77", markersize=5)
    axis.grid(alpha=0.3)
    axis.tick_params(axis="x", labelsize=8)

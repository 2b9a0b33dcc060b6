# SPDX-License-Identifier: GPL-3.0-or-later
"""Many scores as one table: means with bootstrap intervals, by edit type and overall."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..data import EDIT_TYPES
from .metrics import GROUNDING_GROUPS, SUCCESS_ERROR, EditScore

# Fixed before anything was measured, as the thresholds in metrics.py.
MASTERED_SUCCESS = 0.5  # a type is mastered when more than this share of its held-out scenes succeed strictly
MASTERED_SCENES = 300  # on at least this many scenes
BOOTSTRAP_ROUNDS = 1000
CONFIDENCE = 0.95

OVERALL = "overall"
SYSTEMS = ("edit", "identity", "autoencoder")
VERDICTS = ("success", "right", "close", "same")  # of the judge

# What issue 2 asks of v0: (what, row, field, group, goal, "at least" | "at most").
GOALS = (
    ("grounding top-1, one object matches", OVERALL, "grounding", "single", 0.97, "at least"),
    ("grounding top-1, twins", OVERALL, "grounding", "twins", 0.92, "at least"),
    ("relative error, remove", "remove", "relative_error", "", 0.35, "at most"),
    ("relative error, recolour", "recolour", "relative_error", "", 0.35, "at most"),
    ("relative error, background", "background", "relative_error", "", 0.35, "at most"),
    ("relative error, replace", "replace", "relative_error", "", 0.60, "at most"),
    ("relative error, add", "add", "relative_error", "", 0.60, "at most"),
    ("relative error, resize", "resize", "relative_error", "", 0.60, "at most"),
    ("mean absolute change outside the mask", OVERALL, "outside_change", "", 0.03, "at most"),
)


def bootstrap(values: Sequence[float], rounds: int = BOOTSTRAP_ROUNDS, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean over scenes, CONFIDENCE wide; the same values give the same interval.

    Raises:
        ValueError: for no values.
    """
    array = np.asarray(values, np.float64)
    if not len(array):
        raise ValueError("bootstrap needs at least one value")
    picks = np.random.default_rng(seed).integers(0, len(array), (rounds, len(array)))
    low, high = np.quantile(array[picks].mean(1), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def estimate(values: Sequence[float]) -> dict[str, Any]:
    """{"n", "mean", "interval"} of some scenes; mean and interval are None for none."""
    if not len(values):
        return {"n": 0, "mean": None, "interval": None}
    return {"n": len(values), "mean": float(np.mean(values)), "interval": list(bootstrap(values))}


def summarise(scores: Sequence[EditScore]) -> dict[str, Any]:
    """The numbers of one row of the table."""
    errors = [s.relative_error for s in scores]
    row: dict[str, Any] = {
        "n": len(scores),
        "success": estimate([s.success for s in scores]),
        "inside_right": estimate([s.relative_error < SUCCESS_ERROR for s in scores]),  # one half of a success
        "relative_error": estimate(errors) | {"median": float(np.median(errors)) if errors else None},
        "outside_change": estimate([s.outside_change for s in scores]),
        "bystanders_intact": estimate([s.bystanders_intact for s in scores]),
    }
    for name in ("psnr", "psnr_outside", "l1", "l2", "lpips"):
        row[name] = estimate([v for s in scores if (v := getattr(s, name)) is not None])
    seen = [s.judged for s in scores if s.judged is not None]
    row["judged"] = {key: estimate([verdict[key] for verdict in seen]) for key in VERDICTS}
    pointed = [s for s in scores if s.grounded is not None]
    row["grounding"] = {g: estimate([s.grounded for s in pointed if s.grounding == g]) for g in GROUNDING_GROUPS}
    return row


def by_type(scores: Sequence[EditScore]) -> dict[str, dict[str, Any]]:
    """A row per edit type that occurs, and one overall."""
    rows = {}
    for kind in EDIT_TYPES:
        own = [s for s in scores if s.edit_type == kind]
        if own:
            rows[kind] = summarise(own)
    rows[OVERALL] = summarise(scores)
    return rows


def mastered(result: Mapping[str, Any]) -> list[str]:
    """Edit types that a result (see `scenes.evaluate`) shows as mastered.

    More than MASTERED_SUCCESS of at least MASTERED_SCENES held-out scenes succeed; no other split counts.
    """
    return [k for k, row in _judged(result).items() if row["success"]["mean"] > MASTERED_SUCCESS]


def not_mastered(result: Mapping[str, Any]) -> list[str]:
    """Edit types that were measured on enough held-out scenes and are not mastered."""
    return [k for k, row in _judged(result).items() if row["success"]["mean"] <= MASTERED_SUCCESS]


def _judged(result: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The rows that are allowed to say whether a type is mastered."""
    if result["config"]["split"] != "heldout":
        return {}
    rows = result["tables"]["edit"]
    return {k: rows[k] for k in EDIT_TYPES if k in rows and rows[k]["n"] >= MASTERED_SCENES}


def goals(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The goals of issue 2 beside what was measured; a row that was not measured is left out."""
    rows, out = result["tables"]["edit"], []
    for what, row, field, group, goal, side in GOALS:
        if row not in rows:
            continue
        found = rows[row][field][group] if group else rows[row][field]
        if found["mean"] is None:
            continue
        met = found["mean"] >= goal if side == "at least" else found["mean"] <= goal
        out.append({"what": what, "goal": f"{side} {goal:g}", "measured": found["mean"], "n": found["n"], "met": met})
    return out


# What issue 3 asks of v1: success by the judge.
JUDGED_GOALS = {"remove": 0.92, "recolour": 0.92, "background": 0.92, "resize": 0.85, "replace": 0.80, "add": 0.80}


# --- tables ----------------------------------------------------------------------------------------------------------

HEAD = ("edit type", "n", "strict success", "inside right", "bystanders intact", "relative error", "median", "outside change",
        "grounding single", "grounding twins", "no region")  # fmt: skip
BASE_HEAD = ("edit type", "identity: success", "rel. error", "autoencoder of the target: success", "inside right",
             "bystanders intact", "rel. error", "outside change")  # fmt: skip


def edit_rows(result: Mapping[str, Any]) -> list[list[str]]:
    """The main table as text cells under HEAD."""
    out = []
    for name, row in result["tables"]["edit"].items():
        g = row["grounding"]
        error = row["relative_error"]
        out.append([
            name, str(row["n"]), share(row["success"]), share(row["inside_right"], False), share(row["bystanders_intact"], False),
            number(error), _plain(error["median"]), number(row["outside_change"], 4), *(share(g[k]) for k in GROUNDING_GROUPS),
        ])  # fmt: skip
    return out


JUDGE_HEAD = ("edit type", "success by the judge", "goal", "right thing", "close to the target", "others the same", "PSNR inside",
              "outside", "L1", "L2", "LPIPS")  # fmt: skip


def judge_rows(result: Mapping[str, Any], system: str = "edit") -> list[list[str]]:
    """What the judge says as text cells under JUDGE_HEAD; none where nothing was judged."""
    rows = result["tables"].get(system, {})
    if not rows or not rows[OVERALL].get("judged", {}).get("success", {}).get("n"):
        return []
    return [
        [
            name, share(row["judged"]["success"]), f"{100 * JUDGED_GOALS[name]:.0f} %" if name in JUDGED_GOALS else "-",
            *(share(row["judged"][key], False) for key in VERDICTS[1:]),
            number(row["psnr"], 1, False), number(row["psnr_outside"], 1, False), number(row["l1"], 4), number(row["l2"], 4),
            number(row["lpips"], 4),
        ]
        for name, row in rows.items()
    ]  # fmt: skip


def baseline_rows(result: Mapping[str, Any]) -> list[list[str]]:
    """The baselines as text cells under BASE_HEAD."""
    same, floor = result["tables"]["identity"], result["tables"]["autoencoder"]
    return [
        [
            name, share(same[name]["success"], False), number(same[name]["relative_error"], interval=False),
            *(share(floor[name][key], False) for key in ("success", "inside_right", "bystanders_intact")),
            number(floor[name]["relative_error"]),
            number(floor[name]["outside_change"], 4, False),
        ]
        for name in floor
    ]  # fmt: skip


CALIBRATION_HEAD = ("score of the top region", "n", "mean score", "right")
CALIBRATION_EDGES = (0.0, 0.5, 0.8, 0.9, 0.95, 0.99, 1.0)


def calibration_rows(scenes: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """How often the top region is the one that is meant, by its score, of scene records where an object is meant."""
    pairs = [(s["sure"], s["grounded"]) for s in scenes if s.get("sure") is not None and s["grounding"] != "none"]
    rows = []
    for low, high in zip(CALIBRATION_EDGES, CALIBRATION_EDGES[1:]):
        own = [(sure, hit) for sure, hit in pairs if low <= sure < high or (high == 1 and sure == 1)]
        if own:
            hits = estimate([hit for _, hit in own])
            rows.append([f"{low:g} to {high:g}", str(len(own)), f"{np.mean([sure for sure, _ in own]):.3f}", share(hits)])
    return rows


def calibration_error(scenes: Sequence[Mapping[str, Any]]) -> float | None:
    """Expected calibration error of the top region's score: mean |share right - mean score|, weighted by the bins' sizes."""
    pairs = [(s["sure"], s["grounded"]) for s in scenes if s.get("sure") is not None and s["grounding"] != "none"]
    if not pairs:
        return None
    sure, hit = np.array(pairs, float).T
    bins = np.clip(np.digitize(sure, CALIBRATION_EDGES) - 1, 0, len(CALIBRATION_EDGES) - 2)
    return float(sum(abs(hit[bins == b].sum() - sure[bins == b].sum()) for b in np.unique(bins)) / len(pairs))


def goal_rows(result: Mapping[str, Any]) -> list[list[str]]:
    """The goals as text cells."""
    return [[g["what"], g["goal"], f"{g['measured']:.3f}", str(g["n"]), "yes" if g["met"] else "no"] for g in goals(result)]


GOAL_HEAD = ("goal", "wanted", "measured", "n", "met")


def share(value: Mapping[str, Any], interval: bool = True) -> str:
    """A share in per cent with its interval; "-" where nothing was measured."""
    if value["mean"] is None:
        return "-"
    low, high = value["interval"]
    return f"{100 * value['mean']:.1f} %" + (f" [{100 * low:.0f}, {100 * high:.0f}]" if interval else "")


def number(value: Mapping[str, Any], digits: int = 3, interval: bool = True) -> str:
    """A mean with its interval; "-" where nothing was measured."""
    if value["mean"] is None:
        return "-"
    low, high = value["interval"]
    return f"{value['mean']:.{digits}f}" + (f" [{low:.{digits}f}, {high:.{digits}f}]" if interval else "")


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def text_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns padded with blanks, for a terminal."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths)).rstrip() for line in lines)


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The same in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

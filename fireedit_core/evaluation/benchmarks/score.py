# SPDX-License-Identifier: GPL-3.0-or-later
"""Score a folder of edits in a benchmark's own naming, ours or anybody's, beside what a do-nothing editor and the targets would get."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import math
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from ...data.formats import BrokenRow
from ..similarity import MetricWeights
from ..summary import OVERALL, estimate
from .benchmark import Benchmark, Case, Trial, opened
from .generate import PICTURES, read_manifest
from .measures import Comparison, Unmeasured, hindrance, measure
from .profiles import Metric, Profile

logger = logging.getLogger("fireedit")

EDIT, IDENTITY, REFERENCE = "edit", "identity", "reference"
PACKAGES = ("torch", "torchvision", "transformers", "torchmetrics", "lpips", "numpy", "pillow")
MISSING = "no result"
ORACLE_TOLERANCE = 1e-3  # half precision on an accelerator moves the third digit of single pictures, not of the mean


def score(
    benchmark: Benchmark, profile: Profile, generated: Path | str, weights: MetricWeights, views: Sequence[str] = (), limit: int = 0,
    judge: Mapping[str, Mapping[str, float]] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Measure every edit of the views (none: of all views).

    Args:
        generated: the folder of results, or the `out` of `generate`. weights: the networks; metrics whose network is not there are left
            out, with a line that says which and what to put where.
        limit: only the first pictures of the data (sessions, where there are some); 0 is all.
        judge: scores that a judge gave, {key: {name: number}}; see `judge_scores`. They stand in the tables beside the metrics.

    Returns:
        A JSON-able result: "benchmark", "profile", "generation", "software", "left_out" {metric: why}, "judged" (names), "views" {view:
        {"title", "expected", "used", "skipped" {reason: [keys]}, "tables" {system: {task: {metric: estimate}}}, "unmeasured", "cases"}}.

    Raises:
        ValueError: if the folder is not there, or no edit of a view can be used.
    """
    folder, manifest = edits_folder(generated)
    if not folder.is_dir():
        raise ValueError(f"there is no folder of results {folder}")
    metrics, left_out = [], {}
    for metric in profile.metrics:
        why = hindrance(metric, weights)
        if why:
            left_out[metric.name] = why
        else:
            metrics.append(metric)
    for why, names in by_reason(left_out).items():
        logger.warning("left out: %s: %s", ", ".join(names), why)
    judge = dict(judge or {})
    judged = {name for scores in judge.values() for name in scores}
    if taken := sorted(judged & {metric.name for metric in profile.metrics}):
        raise ValueError(f"a judge's scores cannot be called {', '.join(taken)}, as a metric of {profile.name} is; give them other names")
    result: dict[str, Any] = {
        "benchmark": benchmark.name,
        "profile": {"name": profile.name, "version": profile.version, "hash": profile.fingerprint, "reference": profile.reference,
                    "metrics": [m.name for m in metrics], "preparation": list(profile.preparation), "note": profile.note},
        "generated": str(generated), "generation": manifest, "software": software(), "left_out": left_out,
        "judged": sorted(judged),
        "limit": limit, "views": {},
    }  # fmt: skip
    for view in tuple(views) or benchmark.views:
        result["views"][view] = _view(benchmark, view, profile, metrics, folder, weights, limit, judge)
    known = {case["key"] for found in result["views"].values() for case in found["cases"]}
    unknown = sorted(set(judge) - known)
    if unknown:
        logger.warning("%d judged keys are no edit that was scored, the first is %s", len(unknown), unknown[0])
    return result


def _view(
    benchmark: Benchmark, view: str, profile: Profile, metrics: list[Metric], folder: Path, weights: MetricWeights, limit: int,
    judge: Mapping[str, Mapping[str, float]],
) -> dict[str, Any]:  # fmt: skip
    rows = benchmark.groups(limit)
    trials = [trial for trial in benchmark.trials(view) if trial.row in rows]
    skipped: dict[str, list[str]] = {}
    unmeasured: dict[str, Counter[str]] = {metric.name: Counter() for metric in metrics}
    cases = []
    for trial in tqdm(trials, unit="edit", desc=f"{benchmark.name} {view}"):
        try:
            case, edit = read_trial(benchmark, trial, profile, folder)
        except BrokenRow as error:
            skipped.setdefault(str(error).split(":", 1)[0], []).append(trial.key)
            logger.warning("%s, %s is left out: %s", benchmark.name, trial.key, error)
            continue
        cases.append({
            "key": trial.key, "task": trial.task, "instruction": case.instruction,
            "scores": _case_scores(case, edit, profile, metrics, weights, unmeasured),
        })  # fmt: skip
        cases[-1]["scores"][EDIT] |= judge.get(trial.key, {})
    if not cases:
        first = next(iter(skipped.items()), ("no trials", [""]))
        raise ValueError(
            f"{benchmark.name}, {view}: none of {len(trials)} edits in {folder} can be used ({first[0]}; the first that was looked for is "
            f"{first[1][0]}.png)"
        )
    names = [metric.name for metric in metrics] + sorted({name for scores in judge.values() for name in scores})
    expected = benchmark.counts.get(view)
    if expected and not limit and len(trials) != expected:
        logger.warning("%s, %s: the data has %d edits, the published set %d", benchmark.name, view, len(trials), expected)
    tables = {system: _table(cases, system, names) for system in cases[0]["scores"]}
    return {
        "calibration": _calibration(benchmark, view, tables, len(cases)),
        "title": benchmark.titles.get(view, view), "published_count": expected, "expected": len(trials), "used": len(cases),
        "skipped": skipped, "unmeasured": {name: dict(reasons) for name, reasons in unmeasured.items() if reasons},
        "tables": tables, "cases": cases,
    }  # fmt: skip


def read_trial(benchmark: Benchmark, trial: Trial, profile: Profile, folder: Path) -> tuple[Case, Image.Image]:
    """What is compared, and the edit as the protocol sees it. Raises BrokenRow where one of them is not to be had or not to be used."""
    file = benchmark.find(folder, trial.key)
    if file is None:
        raise BrokenRow(f"{MISSING}: {trial.key}.png is not in {folder}")
    edit = opened(file, "result")
    refused = benchmark.refused(edit, profile)
    if refused:
        raise BrokenRow(f"{refused}: the protocol leaves it out")
    return benchmark.case(trial, profile), benchmark.seen(edit)


def _case_scores(
    case: Case, edit: Image.Image, profile: Profile, metrics: list[Metric], weights: MetricWeights, unmeasured: dict[str, Counter[str]],
) -> dict[str, dict[str, float | None]]:  # fmt: skip
    systems = {EDIT: edit, IDENTITY: case.source}
    if profile.reference != "source":
        systems[REFERENCE] = case.reference
    kept: dict = {}
    scores: dict[str, dict[str, float | None]] = {}
    for system, image in systems.items():
        own = scores.setdefault(system, {})
        comparison = Comparison(image, case, weights, kept)
        for metric in metrics:
            try:
                value = measure(comparison, metric)
                if math.isnan(value):
                    raise Unmeasured("not a number")
            except Unmeasured as reason:
                own[metric.name] = None
                if system == EDIT:
                    unmeasured[metric.name][str(reason)] += 1
            else:
                own[metric.name] = "inf" if value == math.inf else value  # JSON has no infinity
    return scores


def _table(cases: Sequence[Mapping[str, Any]], system: str, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """{task: {metric: estimate}}, and all tasks together as OVERALL."""
    tasks = sorted({case["task"] for case in cases})
    groups = {task: [case for case in cases if case["task"] == task] for task in tasks if len(tasks) > 1 or task}
    groups[OVERALL] = list(cases)
    return {task: {name: _estimate([case["scores"][system].get(name) for case in own]) for name in names} for task, own in groups.items()}


def _calibration(benchmark: Benchmark, view: str, tables: Mapping[str, Any], used: int) -> dict[str, dict[str, float]]:
    """{metric: {"known", "found"}} of the references themselves, where the whole set was scored; a difference is no edit's fault."""
    found = {}
    for name, known in benchmark.oracle.get(view, {}).items() if used == benchmark.counts.get(view) else ():
        mean = tables[REFERENCE][OVERALL].get(name, {}).get("mean")
        if mean is None:
            continue
        found[name] = {"known": known, "found": mean}
        if abs(mean - known) > ORACLE_TOLERANCE:
            logger.warning(
                "%s, %s: the references get %s %.5f, and %.5f is known: the data or the network is another one, and no number of this "
                "table compares with published ones", benchmark.name, view, name, mean, known,
            )  # fmt: skip
    return found


def _estimate(values: Sequence[float | str | None]) -> dict[str, Any]:
    """Mean and interval of the finite values; "infinite" counts the others (the PSNR of what is exactly unchanged)."""
    found = estimate([value for value in values if isinstance(value, (int, float))])
    infinite = sum(value == "inf" for value in values)
    return found | ({"infinite": infinite} if infinite else {})


def edits_folder(generated: Path | str) -> tuple[Path, dict[str, Any] | None]:
    """Where the pictures lie, and what is known of how they were made, for the `out` of `generate` or any other folder."""
    folder = Path(generated)
    manifest = read_manifest(folder)
    if manifest is None and folder.name == PICTURES:
        return folder, read_manifest(folder.parent)
    return (folder / PICTURES if manifest is not None else folder), manifest


def judge_scores(file: Path | str) -> dict[str, dict[str, float]]:
    """Scores that a judge (VIEScore, EditScore, people) gave to edits: a JSON object {key: {name: number}}, keys as the results are named.

    Raises:
        ValueError: if the file is no such thing.
    """
    try:
        found = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} cannot be read as JSON ({error})") from error
    if not isinstance(found, dict):
        raise ValueError(f"{file} must be an object {{key: {{name: number}}}}, it is a {type(found).__name__}")
    for key, scores in found.items():
        fine = isinstance(scores, dict) and all(
            isinstance(x, (int, float)) and not isinstance(x, bool) and math.isfinite(x) for x in scores.values()
        )
        if not fine:
            raise ValueError(f"{file}: {key} must have an object of numbers like {{\"sc\": 7, \"pq\": 8.5}}, it has {str(scores)[:80]}")
    return {key: {str(name): float(x) for name, x in scores.items()} for key, scores in found.items()}


def software() -> dict[str, str]:
    """Versions of what the numbers depend on; "-" for a package that is not there."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "-"
    return found


def by_reason(left_out: Mapping[str, str]) -> dict[str, list[str]]:
    """The names that each reason concerns."""
    reasons: dict[str, list[str]] = {}
    for name, why in left_out.items():
        reasons.setdefault(why, []).append(name)
    return reasons

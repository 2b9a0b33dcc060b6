# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the edits that a benchmark asks for. What is there is not made again, so a run that was stopped goes on.

    out/generation.json       what the pictures were made with; a run with other settings is refused
    out/pictures/<key>.png    the edits in the benchmark's own naming: this folder goes to `score`, or to the authors' script
    out/sources/<key>.png     sources that the data does not hold as files, or not at the size that the sampling edits
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from ...bulk import BulkReport, EditOptions, EditRow, edit_rows
from ...bulk.results import result_path
from ...checkpoints.index import bundle_options, read_index
from ...data.formats import BrokenRow
from ...data.formats.reader import sentence
from ...regions.loading import load_detector
from ...whole_files import write_json
from ..scenes import bundle_fingerprint, default_device, detector_fingerprint, load_pipeline, machine
from .benchmark import Benchmark, Edit, opened
from .sampling import OWN, SAMPLINGS, Sampling

logger = logging.getLogger("fireedit")

MANIFEST, PICTURES, SOURCES = "generation.json", "pictures", "sources"
FREE = ("bundle", "views", "machine", "failed")  # of the manifest: what may differ from run to run


@dataclass(frozen=True)
class Settings:
    """How the edits are sampled; None takes the value of `sampling` (one of SAMPLINGS). `seed`: the noise of an edit depends on it and the
    key alone."""

    seed: int = 0
    steps: int | None = None
    text_guidance: float | None = None
    image_guidance: float | None = None
    working_size: int | None = None
    keep_outside: str = "off"
    sampling: str = OWN

    def resolved(self, bundle: Path | str) -> Settings:
        """The same with the values of the sampling filled in. Raises ValueError for a size where the sampling has its own."""
        own = bundle_options(read_index(bundle))
        own["working_size"] = own["native_size"]
        way = SAMPLINGS[self.sampling]
        if way is not None:
            if self.working_size is not None:
                raise ValueError(f"--sampling {self.sampling} has a size of its own: leave --working-size out")
            own |= {"steps": way.steps, "text_guidance": way.text_guidance, "image_guidance": way.image_guidance, "working_size": 0}
        return Settings(**{name: own[name] if value is None else value for name, value in asdict(self).items()})


def generate(
    benchmark: Benchmark, bundle: Path | str, out: Path | str, settings: Settings | None = None, views: Sequence[str] = (),
    limit: int = 0, batch: int = 1, device: str | None = None, facts: dict[str, Any] | None = None,
    detector: Path | str | None = None,
) -> BulkReport:  # fmt: skip
    """Make all edits of the views (none: of all views).

    Args:
        limit: only the first pictures of the data (sessions, where there are some); 0 is all. A later run may go further.
        detector: finds the regions in place of the bundle's own. batch: pictures of one size edited together.
        facts: more that must be the same in every run into `out`, such as the split.

    Returns:
        What came of each edit, by the benchmark's own keys.

    Raises:
        ValueError: for pictures in `out` that were made with other settings, and as `edit_rows`.
        BundleError: for a bundle that cannot be loaded.
    """
    out, settings = Path(out), (settings or Settings()).resolved(bundle)
    options = EditOptions(settings.steps, settings.text_guidance, settings.image_guidance, settings.working_size, settings.keep_outside)
    views = tuple(views) or benchmark.views
    if detector:
        facts = (facts or {}) | {"detector": Path(detector).resolve().name, "detector_fingerprint": detector_fingerprint(detector)}
    facts = facts or {}
    _write_manifest(benchmark, bundle, out, settings, views, facts, device)
    rows, way = benchmark.groups(limit), SAMPLINGS[settings.sampling]
    result, pipe = BulkReport(), None
    for round_ in _rounds([edit for edit in benchmark.edits(views) if edit.row in rows]):
        jobs = []
        for edit in tqdm(round_, unit="source", desc=f"{benchmark.name}: sources", leave=False):
            try:
                source = _source(benchmark, edit, out)
                if way is not None:
                    source = _fitted_source(out, edit, source, way)
                jobs.append(EditRow(f"{PICTURES}/{edit.key}", source, sentence(edit.instruction), noise_seed(settings.seed, edit.key)))
            except BrokenRow as error:
                result.failed[edit.key] = str(error)
                logger.warning("%s, %s is left out: %s", benchmark.name, edit.key, error)
        if pipe is None and any(not result_path(out, job.key).is_file() for job in jobs):
            pipe = load_pipeline(bundle, device)
            if detector:
                pipe.editor.use_detector(load_detector(detector, pipe.device))
            if way is not None:
                way.schedule(pipe)
        report = edit_rows(jobs, out, bundle, options, batch, device, pipe=pipe)
        short = lambda key: key.removeprefix(f"{PICTURES}/")  # noqa: E731
        result.done += map(short, report.done)
        result.skipped += map(short, report.skipped)
        result.failed |= {short(key): why for key, why in report.failed.items()}
    manifest = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
    manifest["failed"] = result.failed
    write_json(out / MANIFEST, manifest, indent=1)
    return result


def noise_seed(seed: int, key: str) -> int:
    """The seed of an edit's noise, 63 bits that depend on the run's seed and the key alone."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{key}".encode()).digest()[:8], "big") >> 1


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """What `generate` wrote down about a folder; None for a folder that it did not make."""
    file = folder / MANIFEST
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("no object")
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} cannot be read ({error}); delete it if the pictures are to be scored without it") from error
    return found


def _write_manifest(
    benchmark: Benchmark, bundle: Path | str, out: Path, settings: Settings, views: Sequence[str], facts: dict[str, Any],
    device: str | None,
) -> None:  # fmt: skip
    numbers = asdict(settings)
    if settings.sampling == OWN:  # as in folders from before there was another
        del numbers["sampling"]
    fixed = {"benchmark": benchmark.name, **facts, **numbers, "bundle_fingerprint": bundle_fingerprint(bundle)}
    known = read_manifest(out)
    told = {key: value for key, value in (known or {}).items() if key not in FREE}
    # of both: a detector or a way of sampling that is named no longer is a difference too
    other = [f"{key} {told.get(key)!r}, now {fixed.get(key)!r}" for key in told | fixed if told.get(key) != fixed.get(key)] if known else []
    if other:
        raise ValueError(f"{out} holds edits made with other settings ({'; '.join(other)}); give another --out, or delete the folder")
    if known is None and (out / PICTURES).is_dir() and any((out / PICTURES).iterdir()):
        raise ValueError(f"{out / PICTURES} holds pictures and no {MANIFEST} that says how they were made; give another --out")
    done = [view for view in benchmark.views if view in {*views, *((known or {}).get("views") or ())}]
    out.mkdir(parents=True, exist_ok=True)
    facts = {"bundle": Path(bundle).resolve().name, "views": done, "machine": machine(default_device(device))}
    write_json(out / MANIFEST, fixed | facts, indent=1)


def _rounds(edits: list[Edit]) -> list[list[Edit]]:
    """Edits in the order in which they can be made: first what starts from the data, then what starts from those results, ..."""
    depth: dict[str, int] = {}
    rounds: list[list[Edit]] = []
    for edit in edits:
        depth[edit.key] = depth[edit.after] + 1 if edit.after else 0
        while len(rounds) <= depth[edit.key]:
            rounds.append([])
        rounds[depth[edit.key]].append(edit)
    return rounds


def _source(benchmark: Benchmark, edit: Edit, out: Path) -> Path:
    """The file that an edit starts from; written out of the data where there is none. Raises BrokenRow."""
    if edit.after:
        before = result_path(out, f"{PICTURES}/{edit.after}")
        if not before.is_file():
            raise BrokenRow(f"no source: the turn before it, {edit.after}, has no result")
        return before
    file = benchmark.source_file(edit.row)
    if file is None:
        file = out / SOURCES / f"{edit.key}.png"
        if not file.is_file():
            _write_source(out, edit, Image.fromarray(benchmark.reader.read(edit.row).source))
    elif not file.is_file():
        raise BrokenRow(f"no source: {file} is not there")
    return file


def _fitted_source(out: Path, edit: Edit, source: Path, way: Sampling) -> Path:
    """The picture at the size that a way of sampling gives it; the file stays as it is where the edit of it is there already."""
    file = out / SOURCES / f"{edit.key}.png"
    if file.is_file() and result_path(out, f"{PICTURES}/{edit.key}").is_file():
        return file
    return _write_source(out, edit, way.fitted(opened(source, "source")))


def _write_source(out: Path, edit: Edit, picture: Image.Image) -> Path:
    file = out / SOURCES / f"{edit.key}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.part")
    picture.save(part, format="PNG")
    os.replace(part, file)
    return file

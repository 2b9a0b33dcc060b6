# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be edited: a picture, a folder or a list of them as jobs, of which none writes over a picture of the user's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
COLUMNS = ("image", "instruction", "output", "seed")
SEEDS = range(2**64)  # what ComfyUI's seed widgets take


class JobError(ValueError):
    """A list of jobs that cannot be worked off; the message says what to give instead."""


@dataclass
class Job:
    """One edit: a picture file, an instruction, the file that receives the result.

    `refused` are the servers that could not do it, with what they said; `said` is what the nodes said of it when it was done.
    """

    source: Path
    instruction: str
    output: Path
    seed: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)


def jobs_of(source: Path, instruction: str | None, output: Path | None, seed: int = 0) -> list[Job]:
    """Jobs of a picture, of a folder of pictures, or of a CSV file with the columns image, instruction and, if wanted, output and seed.

    Args:
        instruction: what to do; in a CSV for the rows that have none of their own.
        output: file for a picture, folder otherwise; None puts the result beside the source.

    Raises:
        JobError: for a source that is not there, no instruction, two jobs with one output, or an output that is a source of any job
            or lies outside the output folder: a picture of the user's is never written over.
    """
    if seed not in SEEDS:
        raise JobError(f"the seed must be a whole number of 0 to 2^64 - 1, got {seed}")
    folder: Path | None = None
    if source.is_dir():
        files = sorted(p for p in source.iterdir() if p.suffix.lower() in PICTURES and not p.name.startswith(".") and p.is_file())
        if not files:
            raise JobError(f"{source} holds no pictures ({', '.join(PICTURES)})")
        folder = output or source.resolve().with_name(f"{source.resolve().name}_edited")
        jobs = [Job(p, instruction or "", folder / f"{p.stem}.png", seed) for p in files]
    elif source.suffix.lower() in (".csv", ".jsonl"):
        folder = output or source.with_name(f"{source.stem}_edited")
        jobs = _jobs_of_list(source, instruction, folder, seed)
    else:
        target = output or source.with_name(f"{source.stem}_edited.png")
        jobs = [Job(source, instruction or "", target / f"{source.stem}.png" if target.is_dir() else target, seed)]
    for job in jobs:
        if not job.instruction.strip():
            raise JobError(f'what is to be done with {job.source}? Add an instruction, for example "remove the cat"')
        if not job.source.is_file():
            raise JobError(f"there is no picture {job.source}")
        if job.output.suffix.lower() not in PICTURES:
            raise JobError(f"{job.output} must end in one of {', '.join(PICTURES)}")
    _check_outputs(jobs, source, folder)
    return jobs


def _check_outputs(jobs: Sequence[Job], source: Path, folder: Path | None) -> None:
    twice = [o for o, n in Counter(job.output.resolve() for job in jobs).items() if n > 1]
    if twice:
        mend = "name one of the pictures otherwise" if source.is_dir() else "give the list a column output"
        more = f", as are {len(twice) - 1} others" if len(twice) > 1 else ""
        raise JobError(f"{twice[0]} is the output of more than one job{more}; {mend}")
    if folder is not None and folder.is_file():
        raise JobError(f"{folder} is a file; several edits need a folder as -o")
    if source.is_dir() and folder is not None and folder.resolve() == source.resolve():
        raise JobError(f"the results cannot go into the folder of the pictures, {source}; give another folder as -o")
    pictures = {job.source.resolve() for job in jobs}
    for job in jobs:
        place = job.output.resolve()
        if place in pictures:
            raise JobError(f"{job.output} is a picture to be edited, and would be written over; give another -o")
        if folder is not None and not place.is_relative_to(folder.resolve()):
            raise JobError(f"the output {job.output} lies outside of {folder}; give a name below it, or another -o")


def _jobs_of_list(source: Path, instruction: str | None, folder: Path, seed: int) -> list[Job]:
    from fireedit_core.lists import ListError, read_records  # for lists alone: a picture needs nothing of the core

    jobs = []
    try:
        for number, row in read_records(source, COLUMNS):
            value = {name: "" if row.get(name) is None else str(row[name]).strip() for name in COLUMNS}
            if not value["image"]:
                raise JobError(f"{source}, line {number}: no image")
            own = value["seed"]
            if own and (not own.isdecimal() or int(own) not in SEEDS):
                raise JobError(f"{source}, line {number}: the seed {own!r} is no whole number of 0 to 2^64 - 1")
            picture = source.parent / value["image"]
            place = folder / (value["output"] or f"{picture.stem}.png")
            jobs.append(Job(picture, value["instruction"] or instruction or "", place, int(own) if own else seed))
    except ListError as error:
        raise JobError(str(error)) from error
    if not jobs:
        raise JobError(f"{source} needs a first line with the columns image and instruction, and rows below it")
    return jobs

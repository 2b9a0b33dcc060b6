# SPDX-License-Identifier: GPL-3.0-or-later
"""Edit pictures by instruction inside a real, headless ComfyUI: the bundled examples, or a picture of your own.

    python -m fireedit_cli.demo
    python -m fireedit_cli.demo --image my.jpg --instruction "remove the cat"

The photographs go the photo way (find the thing by words, edit without a generative model), the scenes of emoji the bundle's; a picture of
one's own goes the photo way where the bundle says that it is not of its kind.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import requests
from PIL import Image, ImageFilter

from fireedit_cli.batch import TALKERS, Places
from fireedit_cli.comfy_host import ComfyServer, HostError, HostNotFound
from fireedit_cli.demo_sheet import draw_sheet
from fireedit_cli.pictures import PictureError, read_picture
from fireedit_cli.ways import PHOTO_WORKFLOW, WAYS, Ways
from fireedit_cli.workflow import Workflow, WorkflowError, slot_of, use_bundle
from host_setup.host_lookup import REPO

log = logging.getLogger("fireedit")

EXAMPLES = REPO / "web" / "examples" / "examples.json"
PHOTOS = EXAMPLES.with_name("photos.json")
# What the host composites (fireedit_core edit_mask): the mask above one half, grown by 3 px with a ramp of 4 px.
MASK_REACH = 7
ONE_HALF = 127 / 255  # the host cuts to 8 bit by rounding down: what was above one half may arrive as 127

STAGES = {
    "FireEditLoader": "load", "FireEditRegionDetect": "detect", "FireEditRegionTokenize": "tokenize",
    "FireEditVLMConditioning": "read", "FireEditApply": "apply", "FireEditSample": "sample", "FireEditDetectorLoader": "load",
    "FireEditRegionMasks": "masks", "FireEditGround": "ground", "FireEditQuickEdit": "edit",
}  # fmt: skip


class DemoError(ValueError):
    """Something about the request; the message says what to give instead."""


@dataclass
class Job:
    """One picture, (H, W, 3) uint8, what to do with it, on which way (`ways.WAYS`), whether the picture is part of the repository, and the
    colour profile of its file."""

    name: str
    picture: np.ndarray
    instruction: str
    way: str = "auto"
    shipped: bool = False
    profile: dict[str, bytes] = field(default_factory=dict)


@dataclass
class Edit:
    """What came back: pictures (H, W, 3) uint8, mask (H, W) float 0..1, what the language model meant in words."""

    job: Job
    edited: np.ndarray
    overlay: np.ndarray
    mask: np.ndarray
    meant: str
    seconds: float
    stages: dict[str, float] = field(default_factory=dict)


def jobs_of(
    image: str | None, instruction: str | None, examples: Path = EXAMPLES, photos: Path = PHOTOS, way: str = "auto"
) -> list[Job]:  # fmt: skip
    """The user's picture and instruction, or the bundled photographs and scenes. Raises DemoError with what is missing."""
    if image or instruction is not None:
        if not image:
            raise DemoError('an instruction needs a picture: make demo IMAGE=my.png INSTRUCTION="remove the cat"')
        path = Path(image).expanduser()
        picture = read_picture(path)
        if not (instruction or "").strip():
            raise DemoError(f'what is to be done with {path}? Add INSTRUCTION="remove the cat"')
        from fireedit_core.colour_profile import colour_profile

        return [Job(re.sub(r"[^\w.-]+", "_", path.stem) or "picture", picture, instruction.strip(), way, profile=colour_profile(path))]
    return [*_photographs(photos), *_scenes(examples)]


def _photographs(photos: Path) -> list[Job]:
    """The photographs of the list whose file is there: in its folder, or in an installed package, from which none is copied."""
    found = []
    for record in json.loads(photos.read_text(encoding="utf-8")) if photos.is_file() else ():
        spec = importlib.util.find_spec(record["package"]) if "package" in record else None
        folder = photos.parent if "package" not in record else Path(spec.origin).parent if spec and spec.origin else None
        if folder is None or not (folder / record["image"]).is_file():
            log.info("%s is not there (package %s); left out", record["image"], record.get("package"))
            continue
        found.append(Job(record["name"], read_picture(folder / record["image"]), record["instruction"], "photo", "package" not in record))
    return found


def _scenes(examples: Path) -> list[Job]:
    """The pictures of the embedded bundle's own world."""
    if not examples.is_file():
        raise DemoError(f"the bundled pictures are missing ({examples}); get the repository's web/examples back, or give IMAGE=")
    records = json.loads(examples.read_text(encoding="utf-8"))
    if not records:
        raise DemoError(f"{examples} lists no pictures; give IMAGE= and INSTRUCTION=")
    return [Job(Path(r["image"]).stem, read_picture(examples.parent / r["image"]), r["instruction"], "bundle", True) for r in records]


def make_workflow(server: ComfyServer, bundle: str | None = None) -> Ways:
    """The edit workflow and the photo way, each with its mask as a second picture; see `mask_picture`."""
    flow, photo = Workflow.load(), Workflow.load(PHOTO_WORKFLOW)
    if bundle:
        flow.set("FireEditLoader", "bundle", use_bundle(server, bundle))
    for made, maker in ((flow, "FireEditVLMConditioning"), (photo, "FireEditQuickEdit")):
        slot = slot_of(server.object_info(maker), "MASK")
        grey = made.add("MaskToImage", mask=[made.only(maker), slot])
        made.add("PreviewImage", images=[grey, 0])
    return Ways(flow, photo)


def mask_picture(flow: Workflow) -> str:
    """The id of the preview that shows the mask."""
    (found,) = flow.fed_by("PreviewImage", "MaskToImage")
    return found


def run(server: ComfyServer, ways: Ways, job: Job, seed: int | None) -> Edit:
    """One edit through /prompt. Raises HostError with the node's own message when it fails."""
    name = server.upload_image(job.picture, f"{job.name}.png")
    base, why = (ways.photo, "") if job.way == "photo" else (ways.main, "")
    if job.way == "auto":
        base, why = ways.choose(server, name, job.instruction)
    flow = base.copy()
    places = Places.of(flow)
    places.fill(flow, name, job.instruction, seed)
    result = server.run(flow.nodes)
    mask_id, overlay = mask_picture(flow), flow.only("FireEditRegionsPreview")
    missing = [i for i in (places.result, overlay, mask_id) if not result.images.get(i)]
    if missing:
        raise HostError(f"the run of {job.name} gave no picture at node(s) {missing}")
    rgb = lambda i: on_chequers(result.images[i][0])  # noqa: E731
    said = [why, *(text for kind in TALKERS for i in flow.ids(kind) for text in result.outputs.get(i, {}).get("text") or [])]
    return Edit(
        job, rgb(places.result), rgb(overlay), rgb(mask_id)[..., 0] / 255, "\n".join(filter(None, said)), result.seconds,
        stage_seconds(flow, result.node_seconds),
    )  # fmt: skip


def on_chequers(picture: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 of (H, W, 3 or 4): what is transparent lies on the grey chequers that stand for it."""
    if picture.shape[-1] < 4:
        return picture
    rows, columns = np.indices(picture.shape[:2]) // 8
    ground = np.where((rows + columns) % 2, 255, 204)[..., None]
    alpha = picture[..., 3:] / 255
    return (picture[..., :3] * alpha + ground * (1 - alpha)).round().astype(np.uint8)


def stage_seconds(flow: Workflow, seconds: Mapping[str, float]) -> dict[str, float]:
    """Seconds per stage in the order of the way; what is no stage of ours (files, overlay) is "rest"."""
    spent = dict.fromkeys([*STAGES.values(), "rest"], 0.0)
    for node_id, value in seconds.items():
        spent[STAGES.get(flow.nodes.get(node_id, {}).get("class_type", ""), "rest")] += value
    return spent


def describe(edit: Edit) -> str:
    """Where it edited, how much changed inside and outside the mask, and the seconds per stage."""
    job, hard = edit.job, edit.mask >= ONE_HALF
    lines = [f"{job.name}: {job.instruction!r} on {job.picture.shape[1]} x {job.picture.shape[0]} px"]
    lines += [f"  read     {part}" for part in edit.meant.splitlines() if part]
    if hard.any():
        rows, columns = np.flatnonzero(hard.any(1)), np.flatnonzero(hard.any(0))
        lines.append(
            f"  mask     x {columns[0]}..{columns[-1]}, y {rows[0]}..{rows[-1]}, {hard.mean():.1%} of the picture"
        )
    else:
        lines.append("  mask     empty: nothing in the picture was taken to be meant")
    inside, outside = change(job.picture, edit.edited, edit.mask)
    lines.append(f"  change   {inside:.4f} inside the mask, {outside:.4f} outside (mean absolute, of 1)")
    parts = ", ".join(f"{name} {value:.2f}" for name, value in edit.stages.items() if value >= 0.005)
    return "\n".join([*lines, f"  seconds  {edit.seconds:.2f}: {parts}"])


def change(source: np.ndarray, edited: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
    """Mean absolute change on 0..1 inside and outside what the mask lets the host touch; 0 where there is no pixel."""
    reach = Image.fromarray(((mask >= ONE_HALF) * 255).astype(np.uint8)).filter(ImageFilter.MaxFilter(2 * MASK_REACH + 1))
    inside = np.asarray(reach) > 0
    difference = np.abs(edited.astype(np.float32) - source).mean(-1) / 255
    mean = lambda which: float(difference[which].mean()) if which.any() else 0.0  # noqa: E731
    return mean(inside), mean(~inside)


def save(edit: Edit, folder: Path) -> None:
    """<name>_source.png, <name>_edit.png and <name>_regions.png."""
    for what, picture in (("source", edit.job.picture), ("edit", edit.edited), ("regions", edit.overlay)):
        Image.fromarray(picture).save(folder / f"{edit.job.name}_{what}.png", **edit.job.profile)


def demo(options: argparse.Namespace) -> None:
    """Everything; raises DemoError, WorkflowError, HostNotFound, HostError, TimeoutError or OSError."""
    begin = time.monotonic()
    jobs = jobs_of(options.image, options.instruction, way=options.way)
    if options.shipped:
        jobs = [job for job in jobs if job.shipped]
    folder = Path(options.out)
    folder.mkdir(parents=True, exist_ok=True)
    edits = []
    with ComfyServer() as server:
        ways = make_workflow(server, options.bundle)
        for job in jobs:
            edit = run(server, ways, job, options.seed)
            save(edit, folder)
            log.info("%s", describe(edit))
            edits.append(edit)
        started = server.start_seconds
    draw_sheet([(e.job.picture, e.overlay, e.edited, e.job.instruction) for e in edits]).save(folder / "sheet.png")
    total = time.monotonic() - begin
    log.info("%d picture(s) in %.1f s, of which ComfyUI took %.1f s to start; look at %s", len(edits), total, started, folder / "sheet.png")


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m fireedit_cli.demo", description=__doc__.splitlines()[0])
    parser.add_argument("--image", help="a PNG or JPEG of your own; without it the bundled pictures are edited")
    parser.add_argument("--instruction", help='what to change, e.g. "remove the cat"')
    parser.add_argument("--seed", type=int, help="of the noise; default: the workflow's")
    parser.add_argument("--out", default="output/demo", help="folder for the pictures")
    parser.add_argument("--shipped", action="store_true", help="leave out what lies in other packages: for pictures that may be shown")
    parser.add_argument("--way", choices=WAYS, default="auto", help="of a picture of one's own (default %(default)s)")
    parser.add_argument("--bundle", help="another bundle: its name, or its folder; default: the workflow's")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        demo(options)
    except (DemoError, PictureError, WorkflowError, HostNotFound, HostError, TimeoutError, OSError, requests.RequestException) as error:
        log.error("make demo failed: %s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

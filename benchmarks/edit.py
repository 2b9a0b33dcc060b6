# SPDX-License-Identifier: GPL-3.0-or-later
"""Time the same edits in a warm ComfyUI server and in `FireEditPipeline`, turn by turn.

Each run has a picture, an instruction and a seed of its own, so the server cannot answer from its cache. Both sides start
from a PNG file and end with the same two PNGs, the edit and the overlay of the regions; they sample with the numbers of the
workflow and use as many CPU threads. They take turns, so that whatever else the machine does falls on both.
"""

from __future__ import annotations

import io
import logging
import os
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from fireedit_cli.comfy_host import ComfyServer
from fireedit_cli.demo import stage_seconds
from fireedit_cli.workflow import Workflow, WorkflowError, use_bundle
from fireedit_core.data import SceneGenerator
from fireedit_core.diffusion.pipeline import FireEditPipeline, pictures_to_tensor
from fireedit_core.regions.drawing import draw_regions
from host_setup.host_lookup import REPO

log = logging.getLogger("fireedit")


@dataclass
class Timing:
    """Seconds of every measured run, warm-ups left out.

    Attributes:
        graph: from /prompt to the end of the run. stages: per run, seconds per stage. pipeline: from file to file.
        load_graph, load_pipeline: of the bundle. system_load: of the machine in the minute before.
        difference: largest difference of the two edits of a run, on 0..1, where they start from the same noise.
    """

    graph: list[float] = field(default_factory=list)
    stages: list[dict[str, float]] = field(default_factory=list)
    pipeline: list[float] = field(default_factory=list)
    difference: float = 0.0
    load_graph: float = 0.0
    load_pipeline: float = 0.0
    system_load: float = 0.0
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """Median of the graph over median of the pipeline."""
        return statistics.median(self.graph) / statistics.median(self.pipeline)


def bundle_folder(bundle: str) -> Path:
    """Where a bundle lies, given by folder or by its name below the pack's models/. Raises WorkflowError if nowhere."""
    for folder in (Path(bundle), REPO / "models" / bundle):
        if (folder / "model_index.json").is_file():
            return folder
    raise WorkflowError(f"there is no bundle {bundle!r}: neither a folder with a model_index.json nor a name below models/")


def measure(bundle: str | None, runs: int, steps: int, warmups: int = 1) -> Timing:
    """Time `runs` edits on both sides.

    Args:
        bundle: name or folder; None takes the workflow's.
        steps: sampling steps; the guidance scales are the workflow's.

    Raises:
        WorkflowError, HostNotFound, HostError, BundleError: naming what is missing or failed.
    """
    flow = Workflow.load()
    folder = bundle_folder(bundle or flow.get("FireEditLoader", "bundle"))
    flow.set("FireEditSample", "steps", steps)
    guidance = {name: float(flow.get("FireEditSample", name)) for name in ("text_guidance", "image_guidance")}
    keep = flow.get("FireEditSample", "keep_outside")
    zoom = flow.get("FireEditRegionsPreview", "zoom")
    timing = Timing(settings={"bundle": folder.name, "steps": steps, **guidance, "keep_outside": keep})
    timing.system_load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    pictures = SceneGenerator(split="heldout", seed=1, masks=False)
    # the server is asked to use exactly the threads that this process has
    env = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    with ComfyServer(cpu=True, env=env) as server:
        flow.set("FireEditLoader", "bundle", use_bundle(server, str(folder)))
        begin = time.perf_counter()
        pipe = FireEditPipeline.from_pretrained(folder)
        pipe.set_progress_bar_config(disable=True)
        timing.load_pipeline = time.perf_counter() - begin
        for index in tqdm(range(warmups + runs), unit="edit", desc="benchmark"):
            sample = pictures.sample(index)
            path = server.base / f"bench_{index}.png"
            Image.fromarray(sample.source).save(path)
            seed, text = 1000 + index, sample.instruction
            warm = index >= warmups
            first = lambda: _graph(server, flow, path, text, seed, timing, warm)  # noqa: B023, E731
            second = lambda: _pipeline(pipe, path, text, seed, steps, guidance, keep, zoom, timing, warm)  # noqa: B023, E731
            # who goes first changes from run to run
            if index % 2:
                drawn, made = second(), first()
            else:
                made, drawn = first(), second()
            if warm:
                timing.difference = max(timing.difference, float(np.abs(made.astype(int) - drawn.astype(int)).max()) / 255)
    return timing


def _graph(server: ComfyServer, base: Workflow, path: Path, text: str, seed: int, timing: Timing, warm: bool) -> np.ndarray:
    flow = base.copy()
    flow.set("LoadImage", "image", server.upload_image(path))
    flow.set("FireEditVLMConditioning", "instruction", text)
    flow.set("FireEditSample", "seed", seed)
    result = server.run(flow.nodes)
    stages = stage_seconds(flow, result.node_seconds)
    if warm:
        timing.graph.append(result.seconds)
        timing.stages.append(stages)
    else:
        timing.load_graph = max(timing.load_graph, stages["load"])
    return result.images[flow.fed_by("SaveImage", "FireEditSample")[0]][0][..., :3]


def _pipeline(
    pipe: FireEditPipeline, path: Path, text: str, seed: int, steps: int, guidance: dict[str, float], keep: str, zoom: int,
    timing: Timing, warm: bool,
) -> np.ndarray:  # fmt: skip
    begin = time.perf_counter()
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    out = pipe(
        picture, text, num_inference_steps=steps, keep_outside=keep,
        generator=torch.Generator().manual_seed(seed), **guidance,
    )  # fmt: skip
    overlay = draw_regions(pictures_to_tensor(picture)[0], out.regions[0], out.mask[0], min_side=zoom)
    for drawn, level in ((out.images[0], 4), (Image.fromarray(overlay), 1)):  # as the host's SaveImage and PreviewImage
        drawn.save(io.BytesIO(), format="PNG", compress_level=level)
    if warm:
        timing.pipeline.append(time.perf_counter() - begin)
    return np.asarray(out.images[0])


def cpu_name() -> str:
    """What the processor calls itself."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    import platform

    return platform.processor() or platform.machine()


def machine_line() -> str:
    """Processor, cores, threads and versions."""
    import diffusers
    import transformers

    return (
        f"{cpu_name()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads; torch {torch.__version__}, diffusers "
        f"{diffusers.__version__}, transformers {transformers.__version__}"
    )

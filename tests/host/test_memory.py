# SPDX-License-Identifier: GPL-3.0-or-later
"""A server that edits all day: memory stays flat over 100 prompts, and a changed seed or instruction does only what it must."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from fireedit_cli.comfy_host import ComfyServer
from tests.host.small import install, load_workflow, node_of, picture

PROMPTS, WARM = 100, 40
TEXTS = ("remove the red apple", "make the cat blue", "remove the left dog", "make it red", "remove the background")
SIZES = ((64, 64), (60, 52), (48, 80))


def resident(pid: int) -> float:
    """Megabytes of a process that are in memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


def edit(server: ComfyServer, image: str, **changes) -> dict:
    return load_workflow("fireedit_edit", FireEditLoader={"bundle": install(server)}, LoadImage={"image": image}, **changes)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_memory_stays_flat(server: ComfyServer):
    images = [server.upload_image(picture(*size, seed=i), f"memory-{i}.png") for i, size in enumerate(SIZES)]
    sizes = []
    for number in range(PROMPTS):
        graph = edit(
            server, images[number % len(images)], FireEditSample={"seed": number, "steps": 2},
            FireEditVLMConditioning={"instruction": TEXTS[number % len(TEXTS)]},
        )  # fmt: skip
        server.run(graph, timeout=120)
        sizes.append(resident(server.pid))
    early, late = statistics.median(sizes[WARM : WARM + 20]), statistics.median(sizes[-20:])
    assert late <= 1.01 * early, f"{early:.0f} MB after {WARM} prompts, {late:.0f} MB after {PROMPTS}"


def ran(server: ComfyServer, graph: dict) -> set[str]:
    """Classes of the nodes that were computed and not taken from the host's cache."""
    result = server.run(graph, timeout=120)
    keys = {event.data["node"] for event in result.events if event.kind == "executing" and event.data.get("node")}
    return {graph[key]["class_type"] for key in keys}


def test_only_what_depends_on_a_change_is_computed_again(server: ComfyServer):
    image = server.upload_image(picture(60, 52, seed=33), "changes.png")
    seen = {"FireEditRegionsPreview", "FireEditGroundingPreview"}
    base = {"FireEditSample": {"seed": 1, "steps": 2}, "FireEditVLMConditioning": {"instruction": TEXTS[0]}}
    everything = ran(server, edit(server, image, **base))
    assert {"FireEditRegionDetect", "FireEditRegionTokenize", "FireEditVLMConditioning", "FireEditSample"} <= everything
    seed = ran(server, edit(server, image, **base | {"FireEditSample": {"seed": 2, "steps": 2}}))
    assert seed == {"FireEditSample", "SaveImage"}  # neither detector nor language model
    text = ran(server, edit(server, image, **base | {"FireEditVLMConditioning": {"instruction": TEXTS[1]}}))
    assert text == {"FireEditVLMConditioning", "FireEditSample", "SaveImage", *seen}
    graph = edit(server, image, **base)
    graph[node_of(graph, "FireEditApply")]["inputs"]["hvca_strength"] = 0.5
    assert ran(server, graph) <= {"FireEditApply", "FireEditSample", "SaveImage", "FireEditVLMConditioning", *seen}

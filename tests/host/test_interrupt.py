# SPDX-License-Identifier: GPL-3.0-or-later
"""Cancel acts within one sampling step, and the next prompt runs."""

from __future__ import annotations

import select

import pytest

from fireedit_cli.comfy_host import ComfyServer, Event, ExecutionInterrupted
from tests.host.small import install, load_workflow, picture

STEPS, SIZE = 1000, 512
# workflow, node that samples, node with the number of steps
ROUTES = (("fireedit_edit", "7", "FireEditSample"), ("fireedit_stock_sampler", "11", "BasicScheduler"))


def hear(server: ComfyServer) -> None:
    """Read what has arrived, and wait for nothing."""
    while select.select([server._socket.sock], [], [], 0)[0]:
        server._receive(1.0)


@pytest.mark.parametrize("name, node, inputs", ROUTES)
def test_interrupt_stops_within_a_step(server: ComfyServer, name: str, node: str, inputs: str):
    image = server.upload_image(picture(SIZE, SIZE, seed=21), "interrupt.png")
    settings = {
        "FireEditLoader": {"bundle": install(server)}, "LoadImage": {"image": image},
        "FireEditVLMConditioning": {"instruction": "remove the cat", "working_size": SIZE},
    }  # fmt: skip
    long = load_workflow(name, **settings, **{inputs: {"steps": STEPS}})
    prompt = server.queue(long)

    def is_step(event: Event) -> bool:
        return event.kind == "progress" and event.data["node"] == node

    def steps() -> int:
        return max(event.data["value"] for event in server._events[prompt] if is_step(event))

    server.wait_for(prompt, lambda event: is_step(event) and event.data["value"] >= 2, 60)
    server.interrupt(prompt)
    hear(server)
    before = steps()
    with pytest.raises(ExecutionInterrupted):
        server.wait(prompt, 60)
    # the step that was running may end, no other may begin; the word of the one before it may have been on its way
    assert before <= steps() <= before + 2 < STEPS
    short = load_workflow(name, **settings, **{inputs: {"steps": 2}})
    assert server.run(short, timeout=60).images

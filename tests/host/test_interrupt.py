# SPDX-License-Identifier: GPL-3.0-or-later
"""Cancel acts within one sampling step, and the next prompt runs."""

from __future__ import annotations

import time

import pytest

from fireedit_cli.comfy_host import ComfyServer, ExecutionInterrupted
from tests.host.small import install, load_workflow, picture

STEPS = 1000
# workflow, node that samples, node with the number of steps
ROUTES = (("fireedit_edit", "7", "FireEditSample"), ("fireedit_stock_sampler", "11", "BasicScheduler"))


@pytest.mark.parametrize("name, node, inputs", ROUTES)
def test_interrupt_stops_within_a_step(server: ComfyServer, name: str, node: str, inputs: str):
    image = server.upload_image(picture(768, 768, seed=21), "interrupt.png")
    settings = {
        "FireEditLoader": {"bundle": install(server)}, "LoadImage": {"image": image},
        "FireEditVLMConditioning": {"instruction": "remove the cat", "working_size": 768},
    }  # fmt: skip
    long = load_workflow(name, **settings, **{inputs: {"steps": STEPS}})
    prompt = server.queue(long)
    at_work = lambda event: event.kind == "progress" and event.data["node"] == node and event.data["value"] >= 2  # noqa: E731
    started = server.wait_for(prompt, at_work, 60)
    asked = time.monotonic()
    server.interrupt(prompt)
    with pytest.raises(ExecutionInterrupted):
        server.wait(prompt, 30)
    ended = time.monotonic()
    steps = [e for e in server._events[prompt] if e.kind == "progress" and e.data["node"] == node]
    assert steps[-1].data["value"] < STEPS
    late = [e for e in steps if e.seconds > asked]
    pace = (steps[-1].seconds - steps[0].seconds) / max(len(steps) - 1, 1)
    assert pace > 0.2, "steps this fast prove nothing: take a larger picture"
    # the step that was running may end, no other may begin
    assert len(late) <= 1 and ended - asked < 1.1 * pace + 0.2, (len(late), pace, ended - asked)
    assert started.seconds < asked
    short = load_workflow(name, **settings, **{inputs: {"steps": 2}})
    assert server.run(short, timeout=60).images

# SPDX-License-Identifier: GPL-3.0-or-later
"""What nodes show by themselves: the curve on FireEdit Apply, and words while they run."""

from __future__ import annotations

import json

import pytest

from tests.browser.conftest import FRONT_ENDS, Canvas
from tests.host.small import REPO

SET = """([type, name, value]) => { const w = app.graph.nodes.find((n) => n.type === type).widgets.find((w) => w.name === name);
  w.value = value; w.callback?.(value); app.extensionManager.workflow.activeWorkflow.changeTracker.checkState(); }"""


@pytest.fixture
def edit(canvas: Canvas) -> Canvas:
    canvas.load(json.loads((REPO / "workflows" / "fireedit_edit.json").read_text(encoding="utf-8")), "fireedit_edit")
    return canvas


def said(canvas: Canvas, wanted: str) -> None:
    """Wait until the curve says it."""
    canvas.page.wait_for_function(
        "(wanted) => document.querySelector('.fireedit-schedule .said')?.textContent.includes(wanted)", arg=wanted, timeout=10_000
    )


def bars(canvas: Canvas, which: str) -> int:
    return canvas.run("(c) => (document.querySelector(`.fireedit-schedule path.${c}`).getAttribute('d').match(/M/g) ?? []).length", which)


def test_the_curve_follows_the_widgets_and_the_sampler(edit: Canvas):
    said(edit, "TATI 1.00, HVCA 1.00 in 20 of 20 steps (simple)")
    assert bars(edit, "tati") == bars(edit, "hvca") == 20
    edit.run(SET, ["FireEditApply", "end_percent", 0.5])
    said(edit, "in 10 of 20 steps")
    assert bars(edit, "tati") == 10
    edit.run(SET, ["FireEditApply", "tati_strength", 0.25])
    said(edit, "TATI 0.25, HVCA 1.00")
    edit.run(SET, ["FireEditSample", "scheduler", "karras"])
    said(edit, "steps (karras)")
    assert "in 10 of 20" not in edit.run("() => document.querySelector('.fireedit-schedule .said').textContent")
    edit.run(SET, ["FireEditSample", "steps", 7])
    said(edit, "of 7 steps")
    edit.shot("curve")
    edit.run("() => app.graph.nodes.find((n) => n.type === 'FireEditSample').disconnectInput(0)")
    said(edit, "no sampler yet")


def test_a_run_is_told_on_the_nodes(edit: Canvas):
    heard = "() => { window.__said = []; app.api.addEventListener('progress_text', (e) => window.__said.push(e.detail.text)); }"
    edit.run(heard)
    edit.run(SET, ["FireEditSample", "steps", 2])
    edit.view(0.6, (150, 150))  # all nodes on the screen
    # a value that no other test has: from detection on, nothing comes out of the host's cache
    edit.run(SET, ["FireEditRegionDetect", "score_threshold", 0.1 + FRONT_ENDS.index(edit.name) / 100])
    edit.queue()
    lines = edit.run("() => window.__said")
    wanted = (
        "looking for regions", "reading the picture", "reading the instruction", "encoding the source picture",
        "editing 1 picture, 2 steps",
    )  # fmt: skip
    places = [lines.index(line) for line in wanted]
    assert places == sorted(places) and "decoding" in lines and any("outside" in line for line in lines)
    edit.shot("words")
    assert edit.run("() => document.querySelector('.fireedit-schedule').offsetHeight") < 100


OUTCOMES = ("4 regions, best score", "region tokens,", "most likely region", "inside the mask")


def test_what_a_node_said_stays_on_it(edit: Canvas):
    """After the run, after a second one, and when one comes back from another workflow; once each."""
    edit.run(SET, ["FireEditSample", "steps", 2])
    edit.run(SET, ["FireEditRegionDetect", "score_threshold", 0.2 + FRONT_ENDS.index(edit.name) / 100])  # as above
    edit.view(0.6, (150, 150))

    def each_once() -> None:
        for text in OUTCOMES:
            edit.page.get_by_text(text).first.wait_for(timeout=10_000)
        edit.page.wait_for_timeout(1000)  # what is to vanish has time for it
        for text in OUTCOMES:
            assert edit.page.get_by_text(text).count() == 1, text

    edit.queue()
    each_once()
    edit.shot("what-was-said")
    edit.run(SET, ["FireEditSample", "seed", 7])
    edit.queue()
    each_once()
    edit.load({"nodes": [], "links": [], "last_node_id": 0, "last_link_id": 0, "version": 0.4}, "another")
    assert edit.page.get_by_text(OUTCOMES[1]).count() == 0
    edit.run("async () => { await app.extensionManager.command.execute('Workspace.PreviousOpenedWorkflow'); }")
    edit.page.wait_for_function("() => app.graph.nodes.length > 0")
    each_once()


LONG = "\n".join(f"line {i} of a long report" for i in range(8))
SAYS = """([height, text]) => { const n = app.graph.nodes.find((n) => n.type === 'FireEditRegionTokenize');
  n.setSize([n.size[0], height]); n.onExecuted({ text: [text] }); app.graph.setDirtyCanvas(true, true); return n.id; }"""
SEEN = "(id) => { const e = app.graph.getNodeById(id).fireeditWords.root; return [e.clientHeight, e.scrollHeight]; }"


def test_a_long_report_is_seen_whole_where_the_node_has_room(edit: Canvas):
    """And three of its lines where it has none; what is one line takes the room of one, and nothing takes none."""
    edit.view(0.8, (150, 150))

    def seen(height: int, text: str) -> tuple[float, float]:
        node = edit.run(SAYS, [height, text])
        edit.page.wait_for_timeout(700)
        return tuple(edit.run(SEEN, node))

    small = seen(120, LONG)
    edit.shot("long-report-small")
    assert 40 <= small[0] <= small[1]
    shown, all_of_it = seen(420, LONG)
    edit.shot("long-report")
    assert shown == all_of_it > 100  # nothing to scroll
    shown, all_of_it = seen(420, "one line")
    assert shown == all_of_it < 30
    assert seen(420, "")[0] == 0

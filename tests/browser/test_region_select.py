# SPDX-License-Identifier: GPL-3.0-or-later
"""The picker of FireEdit Region Select with a mouse and a keyboard: what is seen, what is saved and what is queued are one text."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from PIL import Image

from authoring.make_workflows import ui_workflow
from fireedit_core.data import SceneGenerator
from host_setup.host_lookup import REPO
from tests.browser.conftest import FRONT_ENDS, TWO, Canvas, closed, opened
from tests.host.small import install, load_workflow, node_of

NAME = "fireedit_pick_regions"


@pytest.fixture
def scene():
    return SceneGenerator(split="heldout", seed=0).sample(0)


@pytest.fixture
def picker(canvas: Canvas, scene):
    """The workflow with the small bundle and a scene, run once, the picker in the middle of the window."""
    return loaded_picker(canvas, scene)


def loaded_picker(canvas: Canvas, scene) -> Picker:
    server = canvas.server
    graph = load_workflow(
        NAME, FireEditLoader={"bundle": install(server)}, LoadImage={"image": server.upload_image(scene.source, "pick.png")},
        FireEditVLMConditioning={"instruction": "remove the red apple"}, FireEditRegionDetect={"score_threshold": 0.4},
        FireEditSample={"steps": 2},
    )  # fmt: skip
    canvas.load(in_the_middle(graph, server.object_info()))
    return Picker(canvas, int(node_of(graph, "FireEditRegionSelect")))


def in_the_middle(graph: dict, info: dict) -> dict:
    """The workflow with the picker at the origin and everything else far to the right, so that nothing lies over it."""
    select = node_of(graph, "FireEditRegionSelect")
    places = {key: (3000 + 500 * (i % 4), 700 * (i // 4), 300, 400) for i, key in enumerate(graph)}
    return ui_workflow(NAME, graph, info, places | {select: (0, 0, 420, 560)})


class Picker:
    def __init__(self, canvas: Canvas, node: int):
        self.canvas, self.node, self.page = canvas, node, canvas.page
        self.centre()

    def centre(self) -> None:
        """Bring the node to the middle, at a zoom at which every pixel of the picture can be hit."""
        self.canvas.view(1, (500, 200))
        self.page.wait_for_timeout(400)

    @property
    def text(self) -> str:
        return self.canvas.run("(id) => app.graph.getNodeById(id).widgets.find((w) => w.name === 'selection').value", self.node)

    @property
    def state(self) -> dict:
        """Less the fingerprint of the picture and the places of the regions that are spoken of."""
        return {key: value for key, value in json.loads(self.text or "{}").items() if key not in ("picture", "found")}

    def queued(self) -> str:
        """The text in the prompt that the button would send."""
        return self.canvas.run("async (id) => (await app.graphToPrompt()).output[id].inputs.selection", str(self.node))

    def regions(self):
        return self.page.locator(".fireedit-picker g[role=checkbox]")

    def point(self, x: float, y: float) -> tuple[float, float]:
        """A pixel of the picture in the window."""
        return tuple(self.canvas.run(
            "([x, y]) => { const s = document.querySelector('.fireedit-picker svg'), "
            "p = new DOMPoint(x, y).matrixTransform(s.getScreenCTM()); return [p.x, p.y]; }", [x, y],
        ))  # fmt: skip

    def click(self, x: float, y: float, **options) -> None:
        self.page.mouse.click(*self.point(x, y), **options)
        self.page.wait_for_timeout(100)

    def drag(self, a: tuple[float, float], b: tuple[float, float]) -> None:
        self.page.mouse.move(*self.point(*a))
        self.page.mouse.down()
        self.page.mouse.move(*self.point((a[0] + b[0]) / 2, (a[1] + b[1]) / 2))
        self.page.mouse.move(*self.point(*b))
        self.page.mouse.up()
        self.page.wait_for_timeout(100)


def middle(box) -> tuple[float, float]:
    return float(box[0] + box[2]) / 2, float(box[1] + box[3]) / 2


def found(picker: Picker) -> list[list[float]]:
    """Boxes of the last run, once the front end has heard of them."""
    read = "(id) => app.graph.getNodeById(id).properties.fireedit_regions"
    return json.loads(picker.page.wait_for_function(read, arg=picker.node, timeout=20_000).json_value())["boxes"]


@pytest.mark.parametrize("canvas", TWO, indirect=True)
def test_draw_before_the_first_run(picker: Picker):
    """The picture of Load Image is there at once, and a box drawn on it is what is queued."""
    assert picker.regions().count() == 0 and picker.page.locator(".fireedit-picker svg image").count() == 1
    picker.drag((20, 30), (70, 90))
    (drawn,) = picker.state["boxes"]
    assert np.abs(np.array(drawn["box"]) - [20, 30, 70, 90]).max() <= 1 and picker.queued() == picker.text
    picker.canvas.shot("drawn-before-the-first-run")


def test_pick_draw_resize_name_and_undo(picker: Picker, scene):
    picker.canvas.queue()
    boxes = found(picker)
    assert picker.regions().count() == len(boxes) >= 2
    picker.click(*middle(boxes[0]))
    assert picker.state == {"picked": [0]} and picker.regions().nth(0).get_attribute("aria-checked") == "true"
    picker.click(*middle(boxes[1]))
    picker.click(*middle(boxes[0]))
    assert picker.state == {"picked": [1]}
    picker.page.locator(".fireedit-picker select").select_option("restrict")
    assert picker.state["mode"] == "restrict"
    # a handle of a found region: it has a place of its own from then on
    x1, y1, x2, y2 = boxes[1]
    picker.drag((x2, y2), (x2 - 6, y2 - 8))
    assert np.abs(np.array(picker.state["moved"]["1"]) - [x1, y1, x2 - 6, y2 - 8]).max() <= 1.5
    picker.drag((2, 2), (24, 20))
    assert len(picker.state["boxes"]) == 1 and picker.regions().count() == len(boxes) + 1
    picker.page.mouse.dblclick(*picker.point(*middle(boxes[1])))
    field = picker.page.locator(".fireedit-picker input.name")
    field.fill("my thing")
    field.press("Enter")
    assert picker.state["names"] == {"1": "my thing"}
    picker.canvas.shot("picked-drawn-resized-named")
    assert picker.queued() == picker.text
    # a run with it: the language model sees two regions, and says how sure it is
    picker.canvas.queue()
    assert picker.page.locator(".fireedit-picker text", has_text="%").count() >= 1
    picker.canvas.shot("after-a-run")


def choose(canvas: Canvas, name: str) -> None:
    """Another file on Load Image, as a user chooses it."""
    canvas.run(
        """(name) => { const w = app.graph.nodes.find((n) => n.type === 'LoadImage').widgets[0];
        w.options.values = [...w.options.values, name]; w.value = name; w.callback?.(name);
        app.extensionManager.workflow.activeWorkflow.changeTracker.checkState(); }""",
        name,
    )
    canvas.page.wait_for_function(
        "(name) => document.querySelector('.fireedit-picker svg image')?.getAttribute('href').includes(name)", arg=name
    )
    canvas.page.wait_for_timeout(500)


def test_another_picture_is_shown_at_once_without_the_old_regions(picker: Picker):
    canvas = picker.canvas
    picker.click(5, 5)
    canvas.queue()
    assert found(picker) and picker.regions().count() >= 2
    other = canvas.server.upload_image(np.full((40, 80, 3), 90, np.uint8), "other.png")
    choose(canvas, other)
    shown = picker.page.locator(".fireedit-picker svg image")
    assert picker.regions().count() == 0 and shown.count() == 1
    picker.page.wait_for_function("() => document.querySelector('.fireedit-picker svg').getAttribute('viewBox') === '0 0 80 40'")


@pytest.mark.parametrize("drawn", [False, True], ids=["picked after a run", "drawn before one"])
def test_a_pick_stays_with_its_picture(picker: Picker, scene, drawn: bool):
    """Another picture shows none of it and is not edited by it; the first one, chosen again, has it back."""
    canvas = picker.canvas
    if drawn:
        canvas.page.wait_for_timeout(500)
        picker.drag((20, 30), (70, 90))
    else:
        canvas.queue()
        picker.click(*middle(found(picker)[0]))
    picker.page.locator(".fireedit-picker select").select_option("force")
    mine = picker.text
    assert json.loads(mine)["picture"].startswith("128x128:")
    choose(canvas, canvas.server.upload_image(SceneGenerator(split="heldout", seed=0).sample(5).source, "another.png"))
    hint, chosen = picker.page.locator(".fireedit-picker .hint", has_text="another picture"), ".fireedit-picker [aria-checked=true]"
    hint.wait_for()  # the picker looks at the picture that came before it says so
    assert picker.page.locator(chosen).count() == 0
    canvas.shot(f"pick-of-another-picture-{'drawn' if drawn else 'picked'}")
    with pytest.raises(RuntimeError, match="the selection was made on another picture"):
        canvas.queue()
    canvas.run("() => { document.querySelectorAll('.p-dialog-close-button, .p-toast-close-button').forEach((b) => b.click()); }")
    # what the message says: the mode is another then, and all else is kept for its picture
    mode = picker.page.locator(".fireedit-picker select")
    mode.select_option("auto")
    assert json.loads(picker.text) == {key: value for key, value in json.loads(mine).items() if key != "mode"}
    canvas.queue()
    choose(canvas, "pick.png")
    hint.wait_for(state="detached")
    mode.select_option("force")
    assert picker.text == mine
    canvas.queue()  # the regions of the last run were of the other picture
    picker.page.locator(chosen).wait_for()
    # a new pick on the other picture takes the place of the old one
    choose(canvas, "another.png")
    hint.wait_for()  # what is drawn before belongs to the picture that was seen
    picker.drag((10, 10), (50, 50))
    assert len(picker.state["boxes"]) == 1 and "picked" not in picker.state
    assert json.loads(picker.text)["picture"] != json.loads(mine)["picture"]
    canvas.queue()


@pytest.mark.parametrize("canvas", TWO, indirect=True)
def test_what_is_drawn_while_the_server_looks_at_the_picture_belongs_to_it(picker: Picker):
    """And not to the one before, whose boxes are not shown on it meanwhile."""
    canvas = picker.canvas
    canvas.page.wait_for_timeout(500)
    picker.drag((20, 30), (70, 90))
    mine = json.loads(picker.text)["picture"]
    name = canvas.server.upload_image(SceneGenerator(split="heldout", seed=0).sample(7).source, "looked-at.png")
    asked = []
    canvas.page.route("**/fireedit/fingerprint*", lambda route: asked.append(route))  # not answered yet
    try:
        choose(canvas, name)
        assert picker.regions().count() == 0 and asked
        picker.drag((90, 10), (120, 40))
        for one in asked:
            one.continue_()
        picker.page.wait_for_function("() => document.querySelectorAll('.fireedit-picker g[role=checkbox]').length === 1", timeout=10_000)
    finally:
        canvas.page.unroute("**/fireedit/fingerprint*")
    (drawn,) = picker.state["boxes"]
    assert np.abs(np.array(drawn["box"]) - [90, 10, 120, 40]).max() <= 1 and json.loads(picker.text)["picture"] != mine


@pytest.mark.parametrize("canvas", TWO, indirect=True)
def test_nothing_is_written_over_a_text_that_is_no_selection(picker: Picker):
    """Half typed, or a slip: the work in it is not lost by a click."""
    canvas = picker.canvas
    picker.page.wait_for_timeout(500)
    write = "([id, t]) => { const w = app.graph.getNodeById(id).widgets.find((w) => w.name === 'selection'); w.value = t; w.callback(t); }"
    hint = picker.page.locator(".fireedit-picker .hint", has_text="no selection")
    for broken in ('{"mode": "force", "boxes": [{"box": [1, 2, 30, 40], "name": "hat"}', '{"boxs": [[1, 2, 30, 40]]}'):
        canvas.run(write, [picker.node, broken])
        hint.wait_for()
        picker.drag((20, 30), (70, 90))
        picker.page.locator(".fireedit-picker select").select_option("restrict")
        assert picker.text == broken
    picker.page.locator(".fireedit-picker button", has_text="Clear").click()
    hint.wait_for(state="detached")
    picker.drag((20, 30), (70, 90))
    assert len(picker.state["boxes"]) == 1


@pytest.mark.parametrize("canvas", TWO, indirect=True)
def test_a_pick_follows_its_thing_to_another_number(canvas: Canvas):
    """What stands in front of the picker numbers the things anew; the picker and the node go by the place."""
    server = canvas.server
    painted = np.full((128, 128, 4), 200, np.uint8)
    for i in range(3):
        painted[8 : 32 - 4 * i, 8 + 40 * i : 32 + 40 * i, 3] = 0
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": server.upload_image(painted, "three-spots.png")}},
        "2": {"class_type": "FireEditRegionsFromMask", "inputs": {"mask": ["1", 1], "threshold": 0.5, "min_area": 16, "label": "spot"}},
        "3": {"class_type": "FireEditRegionsFilter", "inputs": {
            "regions": ["2", 0], "labels": "", "min_score": 0.0, "min_area": 0.0, "max_area": 1.0, "numbers": "", "top": 0}},
        "4": {"class_type": "FireEditRegionSelect", "inputs": {"image": ["1", 0], "selection": "", "regions": ["3", 0]}},
    }  # fmt: skip
    canvas.load(in_the_middle(graph, server.object_info()))
    keep = "(t) => { app.graph.nodes.find((n) => n.type === 'FireEditRegionsFilter').widgets.find((w) => w.name === 'numbers').value = t; }"
    canvas.queue()
    picker = Picker(canvas, 4)
    assert len(found(picker)) == 3
    picker.click(60, 20)
    mode = picker.page.locator(".fireedit-picker select")
    mode.select_option("force")
    assert picker.state == {"mode": "force", "picked": [1]} and json.loads(picker.text)["found"] == {"1": [48, 8, 72, 28]}
    mine = picker.text
    canvas.run(keep, "1, 2")
    canvas.queue()
    picker.page.wait_for_function("() => document.querySelectorAll('.fireedit-picker g[role=checkbox]').length === 2")
    assert [picker.regions().nth(i).get_attribute("aria-checked") for i in range(2)] == ["true", "false"] and picker.text == mine
    picker.click(100, 18)
    assert picker.state["picked"] == [0, 1]  # by the numbers of now, as soon as something is changed
    picker.click(100, 18)
    canvas.run(keep, "0, 2")
    with pytest.raises(RuntimeError, match="region 0 of the selection, picked at 48, 8, 72, 28, is not among"):
        canvas.queue()
    canvas.run("() => { document.querySelectorAll('.p-dialog-close-button, .p-toast-close-button').forEach((b) => b.click()); }")
    mode.select_option("auto")
    canvas.queue()
    picker.page.locator(".fireedit-picker .hint", has_text="Picked as region 0").wait_for()
    assert picker.page.locator(".fireedit-picker [aria-checked=true]").count() == 0
    canvas.shot("picked-and-not-there")


@pytest.mark.parametrize("canvas", TWO, indirect=True)
def test_keyboard(picker: Picker):
    picker.canvas.queue()
    box = found(picker)[0]
    picker.page.locator(".fireedit-picker g[role=checkbox]").first.focus()
    picker.page.keyboard.press("Space")
    assert picker.state["picked"] == [0]
    picker.page.keyboard.press("ArrowRight")
    picker.page.keyboard.press("Shift+ArrowDown")
    moved = picker.state["moved"]["0"]
    assert moved[0] == pytest.approx(box[0] + 1, abs=1) and moved[1] >= box[1] + 1
    picker.page.keyboard.press("Delete")
    assert picker.state == {} and picker.canvas.run("(id) => !!app.graph.getNodeById(id)", picker.node), "the node itself is gone"


def test_reload_copy_and_undo_keep_the_state(picker: Picker):
    picker.canvas.queue()
    picker.click(*middle(found(picker)[0]))
    before = picker.text
    picker.drag((2, 2), (24, 20))
    after = picker.text
    assert before and after != before
    saved = picker.canvas.run("() => app.graph.serialize()")
    picker.canvas.page.reload()
    picker.canvas.open()
    picker.canvas.load(saved)
    again = Picker(picker.canvas, picker.node)
    assert again.text == after and again.queued() == after
    assert again.regions().count() == len(found(again)) + 1  # the regions of the last run are shown at once
    again.canvas.shot("reloaded")
    # undo takes back the last change and nothing else
    again.drag((60, 60), (90, 95))
    changed = again.text
    again.page.keyboard.press("Escape")
    again.canvas.run("() => document.activeElement?.blur()")
    again.canvas.run("async () => { await app.extensionManager.workflow.activeWorkflow.changeTracker.undo(); }")
    again.page.wait_for_timeout(500)
    assert changed != after and again.text == after


@pytest.mark.parametrize("canvas", TWO, indirect=True)
def test_a_typed_text_is_the_same_as_the_mouse(picker: Picker):
    """The picture from the drawn selection equals the one of the same JSON through /prompt."""
    picker.canvas.queue()
    picker.click(*middle(found(picker)[0]))
    picker.page.locator(".fireedit-picker select").select_option("force")
    prompt = picker.canvas.run("async () => (await app.graphToPrompt()).output")
    save = next(k for k, n in prompt.items() if n["class_type"] == "SaveImage")
    server = picker.canvas.server
    mouse = server.run(prompt, timeout=120).images[save][0]
    server.free()
    typed = json.loads(json.dumps(prompt))
    typed[str(picker.node)]["inputs"]["selection"] = '{"picked":[0], "mode":"force"}'
    assert np.array_equal(server.run(typed, timeout=120).images[save][0], mouse)
    typed[str(picker.node)]["inputs"]["selection"] = '{"picked":[1], "mode":"force"}'
    assert not np.array_equal(server.run(typed, timeout=120).images[save][0], mouse)


@pytest.mark.parametrize("canvas", TWO, indirect=True)
def test_a_copy_has_a_state_of_its_own(picker: Picker):
    picker.drag((20, 30), (70, 90))
    first = picker.text
    copy = picker.canvas.run(
        """(id) => { const before = new Set(app.graph.nodes.map((n) => n.id)), node = app.graph.getNodeById(id);
        app.canvas.selectNode(node); app.canvas.copyToClipboard(); app.canvas.pasteFromClipboard();
        return app.graph.nodes.find((n) => !before.has(n.id)).id; }""",
        picker.node,
    )
    read = "(id) => app.graph.getNodeById(id).widgets.find((w) => w.name === 'selection').value"
    assert picker.canvas.run(read, copy) == first
    picker.canvas.run("(id) => { app.graph.getNodeById(id).pos = [3000, 0]; app.canvas.setDirty(true, true); }", copy)
    picker.page.wait_for_timeout(300)
    picker.drag((80, 10), (110, 60))
    assert picker.text != first and picker.canvas.run(read, copy) == first


@pytest.mark.parametrize("canvas", TWO, indirect=True)
@pytest.mark.parametrize("count", [1, 50])
def test_few_and_many_regions(canvas: Canvas, count: int):
    """Regions of a painted mask: each of them can be hit, and the text says which."""
    server = canvas.server
    painted = np.full((128, 128, 4), 200, np.uint8)
    columns = 10
    boxes = [(4 + 12 * (i % columns), 4 + 24 * (i // columns)) for i in range(count)]
    for x, y in boxes:
        painted[y : y + 16, x : x + 8, 3] = 0
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": server.upload_image(painted, f"spots-{count}.png")}},
        "2": {"class_type": "FireEditRegionsFromMask", "inputs": {"mask": ["1", 1], "threshold": 0.5, "min_area": 16, "label": "spot"}},
        "3": {"class_type": "FireEditRegionSelect", "inputs": {"image": ["1", 0], "selection": "", "regions": ["2", 0]}},
    }
    canvas.load(in_the_middle(graph, server.object_info()))
    canvas.queue()
    picker = Picker(canvas, 3)
    seen = found(picker)
    assert len(seen) == picker.regions().count() == count
    chosen = [0, count // 2, count - 1] if count > 1 else [0]
    for number in chosen:
        picker.click(*middle(seen[number]))
    canvas.shot(f"{count}-regions")
    assert picker.state["picked"] == chosen and picker.queued() == picker.text


def test_inside_a_subgraph(picker: Picker):
    """Converted with its neighbours, opened, picked in, queued and run: as outside."""
    canvas = picker.canvas
    # a node that comes out of the host's cache says nothing, so this run must be like none before it
    fresh = 0.15 + time.time() % 1 / 100
    canvas.run("(x) => { app.graph.nodes.find((n) => n.type === 'FireEditRegionDetect').widgets[0].value = x; }", fresh)
    inner = canvas.run(
        """(id) => { const kinds = ['FireEditRegionDetect', 'FireEditRegionSelect', 'FireEditRegionTokenize'];
        const items = new Set(app.graph.nodes.filter((n) => kinds.includes(n.type)));
        const { subgraph, node } = app.graph.convertToSubgraph(items);
        app.canvas.openSubgraph(subgraph, node);
        return subgraph.nodes.find((n) => n.type === 'FireEditRegionSelect').id; }""",
        picker.node,
    )
    canvas.spent = True  # it is left within the subgraph
    canvas.page.wait_for_timeout(500)
    node = f"app.canvas.graph.getNodeById({inner})"
    picker.centre()
    canvas.queue()
    canvas.page.wait_for_function(f"() => {node}.properties.fireedit_regions", timeout=20_000)
    boxes = json.loads(canvas.run(f"() => {node}.properties.fireedit_regions"))["boxes"]
    assert picker.regions().count() == len(boxes) >= 2
    picker.click(*middle(boxes[1]))
    text = canvas.run(f"() => {node}.widgets.find((w) => w.name === 'selection').value")
    assert json.loads(text)["picked"] == [1]
    prompt = canvas.run("async () => (await app.graphToPrompt()).output")
    (queued,) = [n["inputs"]["selection"] for n in prompt.values() if n["class_type"] == "FireEditRegionSelect"]
    assert queued == text
    said = "() => app.canvas.graph.nodes.find((n) => n.type === 'FireEditRegionTokenize').widgets.find((w) => w.name === 'words').element"
    # the outcome of a node in a subgraph, which comes after the picker's
    canvas.page.wait_for_function(f"{said}.textContent.includes('region tokens,')", timeout=20_000)
    canvas.shot("in-a-subgraph")


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_with_a_finger(request, scene, name: str):
    canvas = opened(request, name, touch=True)
    picker = loaded_picker(canvas, scene)
    canvas.queue()
    box = found(picker)[0]
    canvas.page.touchscreen.tap(*picker.point(*middle(box)))
    canvas.page.wait_for_timeout(200)
    assert picker.state == {"picked": [0]}
    send = canvas.page.context.new_cdp_session(canvas.page).send
    points = [picker.point(x, y) for x, y in ((2, 2), (12, 10), (24, 20))]
    for kind, point in zip(("touchStart", "touchMove", "touchMove", "touchEnd"), [*points, None], strict=True):
        send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [] if point is None else [{"x": point[0], "y": point[1]}]})
    canvas.page.wait_for_timeout(300)
    canvas.shot("with-a-finger")
    (drawn,) = picker.state["boxes"]
    assert np.abs(np.array(drawn["box"]) - [2, 2, 24, 20]).max() <= 1.5 and picker.queued() == picker.text
    closed(canvas)


def overlapping(canvas: Canvas) -> list:
    """Pairs of names in the picker of which one lies on the other."""
    return canvas.run(
        """() => { const all = [...document.querySelectorAll('.fireedit-picker .names text')].map((t) => [t.textContent, t.getBBox()]);
        return all.flatMap(([a, p], i) => all.slice(i + 1).filter(([, q]) => p.x < q.x + q.width && q.x < p.x + p.width &&
          p.y < q.y + q.height && q.y < p.y + p.height).map(([b]) => [a, b])); }"""
    )


def tip(canvas: Canvas) -> str:
    return canvas.page.locator(".fireedit-picker .tip").text_content()


def test_names_and_masks_of_a_photograph(canvas: Canvas):
    """What was found is called by its name and drawn by its outline; a click on the thing picks it, one beside it in its box does too."""
    server = canvas.server
    with Image.open(REPO / "web" / "examples" / "fireedit_photo_astronaut.jpg") as file:
        photo = np.asarray(file.convert("RGB"))
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": server.upload_image(photo, "astronaut.png")}},
        "2": {"class_type": "FireEditDetectorLoader", "inputs": {"detector": "photo-detector (built in)"}},
        "3": {"class_type": "FireEditRegionDetect", "inputs": {
            "image": ["1", 0], "detector": ["2", 0], "score_threshold": 0.2 + FRONT_ENDS.index(canvas.name) / 1000, "iou_threshold": 0.5,
            "max_regions": 9, "prompt": "", "instruction": ""}},
        "4": {"class_type": "FireEditRegionMasks", "inputs": {"image": ["1", 0], "regions": ["3", 0], "max_regions": 9}},
        "5": {"class_type": "FireEditRegionSelect", "inputs": {"image": ["1", 0], "selection": "", "regions": ["4", 0]}},
    }  # fmt: skip
    canvas.load(in_the_middle(graph, server.object_info()))
    canvas.queue()
    picker = Picker(canvas, 5)
    seen = found(picker)
    said = canvas.run("(id) => app.graph.getNodeById(id).properties.fireedit_regions", 5)
    assert len(said) < 20_000
    names = picker.page.locator(".fireedit-picker .names text").all_text_contents()
    number = next(int(name.split()[0]) for name in names if " person 0." in name)
    assert any(" helmet 0." in name for name in names) and not overlapping(canvas)
    assert picker.page.locator(".fireedit-picker path.mask").count() == len(seen)
    assert picker.regions().nth(number).get_attribute("aria-label").startswith(f"region {number}, person, 0.")
    canvas.shot("photograph")
    picker.click(230, 120)  # her face
    assert picker.state == {"picked": [number]}
    canvas.shot("photograph-picked")
    # what is moved has left its mask
    picker.page.keyboard.press("Shift+ArrowRight")
    assert picker.page.locator(".fireedit-picker path.mask").count() == len(seen) - 1
    picker.page.keyboard.press("Delete")
    assert picker.state == {}
    # at another zoom, and in a larger node: the same picture, and no more lines
    for scale in (0.4, 2.0):
        canvas.view(scale, (500 / scale, 100 / scale))
        canvas.page.wait_for_timeout(300)
        canvas.shot(f"photograph-zoom-{scale}")
        assert not overlapping(canvas)
    canvas.view(1, (300, 100))
    canvas.run("(id) => { app.graph.getNodeById(id).setSize([900, 860]); app.canvas.setDirty(true, true); }", 5)
    canvas.page.wait_for_timeout(500)
    canvas.shot("photograph-large")
    assert not overlapping(canvas)


@pytest.mark.parametrize("canvas", TWO, indirect=True)
def test_eighty_named_regions_are_no_clutter(canvas: Canvas):
    """No name lies on another; the one under the pointer, or that has the focus, is told whole, and of several the smallest is hit."""
    server = canvas.server
    rng = np.random.default_rng(0)
    painted = np.full((600, 800, 4), 200, np.uint8)
    spots = [(20 + 78 * (i % 10), 8 + 74 * (i // 10)) for i in range(80)]
    for x, y in spots:
        high, wide = rng.integers(30, 64, 2)
        rows, columns = np.ogrid[:high, :wide]
        blob = ((rows - high / 2) / (high / 2)) ** 2 + ((columns - wide / 2) / (wide / 2)) ** 2 < 1
        painted[y : y + high, x : x + wide, 3][blob] = 0
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": server.upload_image(painted, "eighty.png")}},
        "2": {"class_type": "FireEditRegionsFromMask", "inputs": {
            "mask": ["1", 1], "threshold": 0.5, "min_area": 16, "label": "traffic light"}},
        "3": {"class_type": "FireEditRegionSelect", "inputs": {"image": ["1", 0], "selection": "", "regions": ["2", 0]}},
    }  # fmt: skip
    canvas.load(in_the_middle(graph, server.object_info()))
    canvas.queue()
    picker = Picker(canvas, 3)
    seen = found(picker)
    assert len(seen) == 80 and picker.page.locator(".fireedit-picker path.mask").count() == 80
    assert len(canvas.run("(id) => app.graph.getNodeById(id).properties.fireedit_regions", 3)) < 100_000
    assert not overlapping(canvas) and 40 <= picker.page.locator(".fireedit-picker .names text").count() <= 80
    canvas.shot("eighty")
    assert tip(canvas) == ""
    picker.page.mouse.move(*picker.point(*middle(seen[17])))
    assert tip(canvas) == "17 traffic light 1.00"
    canvas.shot("eighty-hover")
    # a large box drawn around many takes nothing from those inside
    picker.drag((2, 2), (500, 400))
    inside = next(i for i, box in enumerate(seen) if box[2] < 480 and box[3] < 380)
    picker.click(*middle(seen[inside]))
    assert picker.state["picked"] == [inside]
    picker.page.mouse.move(5, 5)
    assert tip(canvas).startswith(f"{inside} traffic light")  # it has the focus
    picker.page.keyboard.press("Tab")
    assert tip(canvas).startswith(f"{inside + 1} traffic light")
    canvas.shot("eighty-picked")

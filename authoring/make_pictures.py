# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures of the nodes as they are, from real runs in a real browser: `python -m authoring.make_pictures [workflow ...]`.

Writes docs/workflow.png (README), workflows/<name>.jpg (thumbnails of the templates) and web/docs/pictures/<node id>.jpg (help pages),
docs/photos.jpg.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageOps

from authoring.front_end import Canvas, started_chromium
from authoring.make_workflows import FOLDED_IN, SCREEN
from authoring.workflow_notes import NEEDS
from fireedit_cli.comfy_host import ComfyServer
from fireedit_cli.workflow import Workflow
from host_setup.host_lookup import REPO

WORKFLOWS, HELP, FIGURE = REPO / "workflows", REPO / "web" / "docs" / "pictures", REPO / "docs" / "workflow.png"
FIGURES = {"fireedit_photo_kontext": REPO / "docs" / "photos.jpg"}  # the graphs that a page of docs/ shows
SHOWN_FIRST = "fireedit_edit"  # the workflow of the README; a node is shown in the first workflow that has it
CORNER = (120, 200)  # px of the page at which the canvas's own 0, 0 is put: clear of the bars of the front end
THUMBNAIL = (480, 270)

# workflow around an edit model -> what FireEdit Quick Edit does in the model's place for the thumbnail
IN_ITS_PLACE = {
    "fireedit_photo_ip2p": "make the person black and white", "fireedit_photo_kontext": "make the person black and white",
    "fireedit_photo_qwen": "make the main object blue", "fireedit_photo_klein": "make the main object green",
}  # fmt: skip

# where nodes stand on the page, in CSS pixels
_BOXES = """(corner) => { const r = app.canvas.canvas.getBoundingClientRect(); app.canvas.ds.scale = 1;
  app.canvas.ds.offset = [corner[0] - r.left, corner[1] - r.top]; app.canvas.setDirty(true, true);
  return app.graph.nodes.map((n) => [n.type, n.pos[0] + corner[0], n.pos[1] + corner[1] - 30, n.size[0], n.size[1] + 30]); }"""


def boxes_of(canvas: Canvas) -> list[tuple[str, tuple[int, int, int, int]]]:
    """(node type, left, top, right, bottom) of every node on the page, with its title."""
    found = canvas.run(_BOXES, list(CORNER))
    canvas.page.wait_for_timeout(700)
    return [(kind, (round(x), round(y), round(x + w), round(y + h))) for kind, x, y, w, h in found]


def around(boxes: list[tuple[int, int, int, int]], margin: int = 12) -> tuple[int, int, int, int]:
    """The rectangle that holds all boxes."""
    return (
        min(b[0] for b in boxes) - margin, min(b[1] for b in boxes) - margin,
        max(b[2] for b in boxes) + margin, max(b[3] for b in boxes) + margin,
    )  # fmt: skip


def results_of(canvas: Canvas) -> tuple[list[Image.Image], list[Image.Image]]:
    """(sources, edits): what the Load Image and Save Image nodes of the open workflow show."""
    server = canvas.server
    names = canvas.run("() => app.graph.nodes.filter((n) => n.type === 'LoadImage').map((n) => n.widgets[0].value)")
    saved = canvas.run("() => app.graph.nodes.filter((n) => n.type === 'SaveImage').flatMap((n) => app.nodeOutputs[n.id]?.images ?? [])")
    read = lambda reference: Image.open(io.BytesIO(server.view(reference))).convert("RGB")  # noqa: E731
    return [read({"filename": n, "subfolder": "", "type": "input"}) for n in names], [read(r) for r in saved]


def without_the_model(server: ComfyServer, name: str) -> tuple[list[Image.Image], list[Image.Image]]:
    """([crop, its mask], [finished photo]) of a workflow around an edit model, with an edit of FireEdit Quick Edit in the model's place.

    The weights are not here, and what random ones make is noise; crop, mask and finish are those of the workflow's own nodes.
    """
    flow = Workflow.load(WORKFLOWS / "api" / f"{name}.json")
    ground, crop, finish = (flow.only(f"FireEdit{kind}") for kind in ("Ground", "PhotoCrop", "PhotoFinish"))
    photo = flow.nodes[flow.only("LoadImage")]["inputs"]
    photo["image"] = server.upload_image(REPO / "web" / "examples" / photo["image"], photo["image"])
    flow.nodes[ground]["inputs"]["instruction"] = IN_ITS_PLACE[name]
    flow.nodes[crop]["inputs"].pop("vae", None)
    original, region = flow.nodes[crop]["inputs"]["image"], flow.nodes[crop]["inputs"]
    edited = flow.add("FireEditQuickEdit", image=original, answer=[ground, 2], regions=[ground, 0])
    flow.nodes[finish]["inputs"]["edited"] = [flow.add("FireEditPhotoCrop", **region | {"image": [edited, 0]}), 0]
    mask = flow.add("MaskToImage", mask=[crop, 1])
    shown = [flow.add("PreviewImage", images=[key, 0]) for key in (crop, mask, finish)]
    ours = {key: node for key, node in flow.nodes.items() if node["class_type"].startswith("FireEdit")}
    kept = (*ours, *shown, mask, *flow.ids("LoadImage"))
    flow.nodes = {key: node for key, node in flow.nodes.items() if key in kept and node["class_type"] != "FireEditConfine"}
    images = server.run(flow.nodes).images
    seen = [Image.fromarray(images[key][0]).convert("RGB") for key in shown]
    return seen[:2], seen[2:]


def thumbnail(graph: Image.Image, sources: list[Image.Image], edits: list[Image.Image]) -> Image.Image:
    """The graph in the background; source and edits large in front of it, where it was run."""
    back = Image.new("RGB", THUMBNAIL, (30, 30, 32))
    small = graph.copy()
    small.thumbnail(THUMBNAIL, Image.Resampling.LANCZOS)
    back.paste(small, ((THUMBNAIL[0] - small.width) // 2, (THUMBNAIL[1] - small.height) // 2))
    if not edits:
        return back
    before, after = (sources[:1], edits[:3]) if len(sources) < 2 else (sources[:2], edits[:2])
    pictures = before + after
    back = Image.blend(back, Image.new("RGB", THUMBNAIL, (20, 20, 22)), 0.6)
    side = min(200, (THUMBNAIL[0] - 20) // len(pictures) - 12)
    x, y = (THUMBNAIL[0] - len(pictures) * (side + 12) + 12) // 2, (THUMBNAIL[1] - side) // 2
    pen = ImageDraw.Draw(back)
    for index, picture in enumerate(pictures):
        pen.rectangle((x - 2, y - 2, x + side + 1, y + side + 1), fill="white")
        back.paste(ImageOps.fit(picture, (side, side), Image.Resampling.LANCZOS), (x, y))
        if index == len(before):  # from here on edits
            middle = y + side // 2
            pen.polygon([(x - 16, middle - 12), (x + 6, middle), (x - 16, middle + 12)], fill=(255, 160, 60), outline="white")
        x += side + 12
    return back


def save_jpeg(picture: Image.Image, path: Path) -> None:
    """Small and sharp enough to read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.convert("RGB").save(path, quality=82, optimize=True, progressive=True)
    sys.stdout.write(f"wrote {path.relative_to(REPO)}\n")


def main(names: list[str]) -> int:
    """Open, run and photograph the workflows; all of them where none is named."""
    known = sorted((p.stem for p in WORKFLOWS.glob("*.json")), key=lambda n: (n in NEEDS, n != SHOWN_FIRST, n))
    if unknown := sorted(set(names) - set(known)):
        sys.exit(f"no workflow is called {', '.join(unknown)}; there are {', '.join(known)}")
    seen: set[str] = set()
    with ComfyServer() as server, started_chromium() as browser:
        canvas = Canvas(browser, server, size=(SCREEN[0] + 2 * CORNER[0], SCREEN[1] + 2 * CORNER[1])).open()
        for name in known:
            flow = json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8"))
            new = {node["type"] for node in flow["nodes"] if node["type"].startswith("FireEdit")} - seen
            seen |= new
            if names and name not in names:
                continue
            canvas.load(flow, name)
            canvas.page.wait_for_timeout(1500)  # the bundled pictures are uploaded
            edits, sources = [], []
            if name not in NEEDS:
                canvas.queue()
                canvas.page.wait_for_timeout(2500)  # pictures are fetched after the run
                sources, edits = results_of(canvas)
            elif name in FOLDED_IN:
                sources, edits = without_the_model(server, name)
            boxes = boxes_of(canvas)
            screen = Image.open(io.BytesIO(canvas.page.screenshot())).convert("RGB")
            graph = screen.crop(around([box for _, box in boxes], 24))
            if name == SHOWN_FIRST:
                graph.save(FIGURE, optimize=True)
                sys.stdout.write(f"wrote {FIGURE.relative_to(REPO)}\n")
            if name in FIGURES:
                save_jpeg(graph.resize((graph.width * 4 // 5, graph.height * 4 // 5), Image.Resampling.LANCZOS), FIGURES[name])
            save_jpeg(thumbnail(graph, sources, edits), WORKFLOWS / f"{name}.jpg")
            for kind, box in boxes:
                if kind in new:
                    new.discard(kind)
                    save_jpeg(screen.crop(around([box], 8)), HELP / f"{kind}.jpg")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

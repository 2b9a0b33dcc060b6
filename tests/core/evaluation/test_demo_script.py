# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo and the benchmark without a server: pictures in, requests that cannot work, what is measured and drawn."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image, ImageCms

from benchmarks.__main__ import page, verdict
from benchmarks.edit import Timing
from fireedit_cli import demo
from fireedit_cli.demo_sheet import PANEL, draw_sheet
from fireedit_cli.workflow import EDIT_WORKFLOW, Workflow, WorkflowError, slot_of
from fireedit_core.diffusion.compositing import edit_mask


def test_pictures_of_every_kind_become_rgb(tmp_path):
    ramp = np.linspace(0, 255, 20 * 30 * 3).reshape(20, 30, 3).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.fromarray(ramp).save(tmp_path / "turned.jpg", exif=exif)
    assert demo.read_picture(tmp_path / "turned.jpg").shape == (30, 20, 3)
    Image.fromarray(np.dstack([ramp, np.full((20, 30), 9, np.uint8)])).save(tmp_path / "alpha.png")
    assert (demo.read_picture(tmp_path / "alpha.png") == ramp).all()
    Image.fromarray(np.full((4, 5), 30_000, np.uint16)).save(tmp_path / "deep.png")
    assert (demo.read_picture(tmp_path / "deep.png") == 117).all()  # 116.7, rounded
    Image.new("P", (5, 4)).save(tmp_path / "palette.png")
    assert demo.read_picture(tmp_path / "palette.png").shape == (4, 5, 3)


def test_requests_that_cannot_work_say_what_is_missing(tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    Image.new("RGB", (4, 4)).save(tmp_path / "good.png")
    for image, instruction, message in (
        (str(tmp_path / "none.png"), "remove the cat", "no picture at"),
        (str(tmp_path), "remove the cat", "it is a folder"),
        (str(tmp_path / "text.png"), "remove the cat", "give a PNG or JPEG"),
        (str(tmp_path / "good.png"), None, "Add INSTRUCTION"),
        (str(tmp_path / "good.png"), "  ", "Add INSTRUCTION"),
        (None, "remove the cat", "needs a picture"),
    ):
        with pytest.raises((demo.DemoError, demo.PictureError), match=message):
            demo.jobs_of(image, instruction)
    with pytest.raises(demo.DemoError, match="bundled pictures are missing"):
        demo.jobs_of(None, None, tmp_path / "examples.json", tmp_path / "photos.json")
    assert demo.main(["--image", str(tmp_path / "none.png"), "--instruction", "x"]) == 1


def test_jobs(tmp_path):
    Image.new("RGB", (6, 4)).save(tmp_path / "my cat.png")
    (job,) = demo.jobs_of(str(tmp_path / "my cat.png"), " remove the cat ")
    assert (job.name, job.instruction, job.picture.shape) == ("my_cat", "remove the cat", (4, 6, 3))
    examples = tmp_path / "examples.json"
    examples.write_text(json.dumps([{"image": "my cat.png", "instruction": "do", "edit_type": "add", "seed_index": 1}]))
    photos = tmp_path / "photos.json"
    records = [
        {"name": "mine", "image": "my cat.png", "instruction": "blur"},
        {"name": "gone", "image": "x.png", "instruction": "blur"},
        {"name": "packed", "package": "ultralytics", "image": "assets/bus.jpg", "instruction": "blur"},
        {"name": "not installed", "package": "no_such_package", "image": "x.jpg", "instruction": "blur"},
    ]
    photos.write_text(json.dumps(records))
    found = demo.jobs_of(None, None, examples, photos)
    assert [(j.name, j.way) for j in found] == [("mine", "photo"), ("packed", "photo"), ("my cat", "bundle")]


def test_the_colours_of_a_picture_of_ones_own_mean_what_they_meant(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.new("RGB", (6, 4)).save(tmp_path / "cat.jpg", icc_profile=profile)
    (job,) = demo.jobs_of(str(tmp_path / "cat.jpg"), "remove the cat")
    demo.save(demo.Edit(job, job.picture, job.picture, job.picture[..., 0], "", 1.0), tmp_path)
    assert [Image.open(tmp_path / f"cat_{what}.png").info["icc_profile"] for what in ("source", "edit")] == [profile] * 2


def test_what_is_transparent_lies_on_chequers():
    picture = np.full((16, 16, 4), 10, np.uint8)
    picture[:8, :, 3] = 0
    picture[8:, :, 3] = 255
    shown = demo.on_chequers(picture)
    assert (shown[8:] == 10).all() and set(np.unique(shown[:8])) == {204, 255} and demo.on_chequers(shown) is shown


def test_change_is_measured_where_the_host_composites():
    import torch

    mask = np.zeros((64, 64), np.float32)
    mask[30:36, 30:36] = 0.9
    touched = edit_mask(torch.from_numpy(mask)[None])[0].numpy() > 0
    source = np.zeros((64, 64, 3), np.uint8)
    edited = source.copy()
    edited[touched] = 255
    assert demo.change(source, edited, mask) == (1.0, 0.0)
    assert demo.change(source, edited, np.zeros_like(mask))[0] == 0


def test_description_and_stages():
    flow = Workflow({"1": {"class_type": "FireEditSample", "inputs": {}}, "2": {"class_type": "SaveImage", "inputs": {}}})
    stages = demo.stage_seconds(flow, {"1": 1.5, "2": 0.25, "gone": 0.25})
    assert stages["sample"] == 1.5 and stages["rest"] == 0.5 and stages["load"] == 0
    picture = np.zeros((20, 40, 3), np.uint8)
    mask = np.zeros((20, 40))
    mask[3:5, 7:9] = 1
    edit = demo.Edit(demo.Job("a", picture, "do it"), picture, picture, mask, "most likely region (1, 2, 3, 4)", 2.0, stages)
    text = demo.describe(edit)
    assert "40 x 20 px" in text and "x 7..8, y 3..4, 0.5% of the picture" in text and "sample 1.50, rest 0.50" in text
    edit.mask = mask * 0
    assert "empty" in demo.describe(edit)


def test_sheet_takes_pictures_of_different_shapes():
    small, tall = np.zeros((128, 128, 3), np.uint8), np.zeros((600, 300, 3), np.uint8)
    sheet = draw_sheet([(small, np.zeros((512, 512, 3), np.uint8), small, "remove the cat"), (tall, tall, tall, "x " * 300)])
    assert sheet.width == 3 * PANEL + 40 and sheet.height > 2 * PANEL


def test_workflow_is_changed_by_what_nodes_are(tmp_path):
    flow = Workflow.load(EDIT_WORKFLOW)
    other = flow.copy()
    other.set("FireEditVLMConditioning", "instruction", "melt the snow")
    assert other.get("FireEditVLMConditioning", "instruction") == "melt the snow" != flow.get("FireEditVLMConditioning", "instruction")
    assert flow.fed_by("SaveImage", "FireEditSample") == flow.ids("SaveImage")
    assert other.nodes[other.add("PreviewImage", images=["1", 0])]["class_type"] == "PreviewImage"
    for call in (lambda: flow.set("LoadImage", "nothing", 1), lambda: flow.only("Nobody"), lambda: flow.get("LoadImage", "no")):
        with pytest.raises(WorkflowError):
            call()
    with pytest.raises(WorkflowError, match="no workflow"):
        Workflow.load(tmp_path / "none.json")
    (tmp_path / "ui.json").write_text('{"nodes": [], "links": []}')
    with pytest.raises(WorkflowError, match="API format"):
        Workflow.load(tmp_path / "ui.json")
    with pytest.raises(WorkflowError, match="no output of type"):
        slot_of({"name": "A", "output": ["IMAGE"]}, "MASK")


def test_the_workflow_samples_as_the_bundle_was_measured(repo):
    """Steps and guidance were fixed before measuring; what a user runs must be what the card tells of."""
    path = repo / "models" / "fireedit-tiny" / "model_index.json"
    if not path.is_file():
        pytest.skip("no trained bundle yet")
    index, flow = json.loads(path.read_text()), Workflow.load()
    names = ("steps", "text_guidance", "image_guidance")
    assert {n: flow.get("FireEditSample", n) for n in names} == {n: index[n] for n in names}


def test_the_bundled_pictures_are_complete(repo):
    folder = repo / "web" / "examples"
    if not (folder / "examples.json").is_file():
        pytest.skip("no bundled pictures yet")
    records = json.loads((folder / "examples.json").read_text())
    assert records and all((folder / r["image"]).is_file() and r["instruction"] for r in records)


def test_benchmark_figures():
    stages = dict.fromkeys([*demo.STAGES.values(), "rest"], 0.1)
    timing = Timing(graph=[2.2, 2.0, 2.4], stages=[stages] * 3, pipeline=[2.0, 2.0, 2.0], settings={"steps": 20})
    assert timing.ratio == pytest.approx(1.1)
    assert "1.100" in verdict(timing) and "| FireEditPipeline, file to file | 2.000 |" in page(timing, "python -m benchmarks")

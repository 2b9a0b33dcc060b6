# SPDX-License-Identifier: GPL-3.0-or-later
"""`./fireedit edit --way model` through a template as it comes, with a small random model of the true class behind its file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fireedit_cli.__main__ import main
from fireedit_cli.comfy_host import ComfyServer
from fireedit_cli.journal import JOURNAL
from tests.host.small import REPO, load_workflow, with_small_models

WORKFLOW = "fireedit_photo_ip2p"


@pytest.fixture(scope="module")
def model_server() -> Iterator[ComfyServer]:
    with with_small_models(ComfyServer(cpu=True), WORKFLOW) as host:
        yield host


@pytest.mark.slow
def test_a_folder_and_a_list_of_photographs(model_server: ComfyServer, tmp_path: Path, capsys: pytest.CaptureFixture):
    """Each comes back at its own size, edited in its own mask alone; one without the thing fails by name, and the rest is done."""
    flow = load_workflow(WORKFLOW, FireEditPhotoCrop={"megapixels": 0.03}, BasicScheduler={"steps": 1})
    mine, photos = tmp_path / "mine.json", tmp_path / "photos"
    mine.write_text(json.dumps(flow))
    photos.mkdir()
    with Image.open(REPO / "web" / "examples" / "fireedit_photo_astronaut.jpg") as file:
        person = file.convert("RGB")
    person.resize((320, 320)).save(photos / "a.png")
    person.transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize((360, 300)).save(photos / "b.png")
    Image.new("RGB", (256, 200), (90, 120, 160)).save(photos / "sky.png")

    def edit(source: Path, out: Path, *words: str) -> int:
        capsys.readouterr()
        asked = ["--way", "model", "--workflow", str(mine), "--server", model_server.url, "--quiet"]
        return main(["edit", str(source), *words, "-o", str(out), *asked])

    def changed(name: str, out: Path) -> np.ndarray:
        before, after = (np.asarray(Image.open(place).convert("RGB")).astype(int) for place in (photos / name, out / name))
        assert before.shape == after.shape
        return (before != after).any(-1)

    out = tmp_path / "out"
    assert edit(photos, out, "turn the person into a statue") == 1
    said = capsys.readouterr().err
    assert "sky.png: " in said and "person was found" in said and "Traceback" not in said and not (out / "sky.png").exists()
    masks = {name: changed(name, out) for name in ("a.png", "b.png")}
    assert all(0.15 < mask.mean() < 0.8 for mask in masks.values())
    # the person of b stands on the other side, and so does its edit
    mirrored = np.asarray(Image.fromarray(masks["b.png"]).transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize((320, 320)))
    assert (mirrored & masks["a.png"]).sum() > 0.7 * (mirrored | masks["a.png"]).sum()

    rows = tmp_path / "jobs.csv"
    lines = ["image,instruction,output,seed"]
    lines += ["photos/a.png,turn the person into a statue,a.png,7", "photos/b.png,give the person a red coat,b.png,8"]
    rows.write_text("\n".join(lines))
    listed = tmp_path / "listed"
    assert edit(rows, listed) == 0 and all(0.1 < changed(name, listed).mean() < 0.8 for name in ("a.png", "b.png"))
    assert (np.asarray(Image.open(listed / "a.png")) != np.asarray(Image.open(out / "a.png"))).any()  # another seed
    journal = [json.loads(line) for line in (listed / JOURNAL).read_text().splitlines()]
    assert sorted(line["seed"] for line in journal) == [7, 8] and all("correlation" in str(line["said"]) for line in journal)
    assert edit(rows, listed) == 0 and len((listed / JOURNAL).read_text().splitlines()) == 2  # nothing is done twice

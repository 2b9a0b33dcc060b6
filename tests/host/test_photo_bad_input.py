# SPDX-License-Identifier: GPL-3.0-or-later
"""A slice of the photo way's bad input over HTTP and the command line; all of it is in tests/host/inside/test_photo_bad_input.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fireedit_cli.__main__ import main
from fireedit_cli.comfy_host import ComfyServer, ExecutionFailed, PromptRejected
from tests.core.regions.test_own_detectors import owlv2
from tests.host.small import REPO, load_workflow


def photograph(side: int = 256) -> Image.Image:
    with Image.open(REPO / "web" / "examples" / "fireedit_photo_astronaut.jpg") as file:
        return file.convert("RGB").resize((side, side))


def graph(server: ComfyServer, **changes: dict) -> dict:
    image = server.upload_image(np.array(photograph()), "bad-photo.png")
    settings = {"LoadImage": {"image": image}, "FireEditGround": {"instruction": "make the person grey"}}
    return load_workflow("fireedit_photo_remove", **(settings | changes))


def test_what_is_refused_names_the_node_and_the_server_lives(server: ComfyServer):
    bad = {
        "no horse was found": {"FireEditGround": {"instruction": "remove the horse"}},
        "10000 characters": {"FireEditGround": {"instruction": "x" * 10_000}},
        "no words": {"FireEditGround": {"instruction": "\U0001f431\U0001f525"}},
        "Hebrew": {"FireEditGround": {"instruction": "\u05d4\u05e1\u05e8 \u05d0\u05ea \u05d4\u05d0\u05d9\u05e9"}},
        "no valid JSON": {"FireEditGround": {"answer": '{"kind": "remove", "targets": [{"box": [0, 0,'}},
        "height 9 and width 9": {"FireEditGround": {"answer": '{"kind": "remove", "targets": [], "image_size": [9, 9]}'}},
    }
    for said, changes in bad.items():
        made = graph(server, **changes)
        del made["8"]  # the preview of the regions would run
        with pytest.raises(ExecutionFailed) as caught:
            server.run(made, timeout=120)
        message = caught.value.exception_message
        assert caught.value.node_type == "FireEditGround" and message.startswith("FireEdit Ground: ") and said in message
        assert "Traceback" not in message and server.alive
    for kind, field, name in (("FireEditDetectorLoader", "detector", "../x"), ("FireEditQuickEdit", "answer", "")):
        with pytest.raises((PromptRejected, ExecutionFailed), match="FireEdit"):
            server.run(graph(server, **{kind: {field: name}}), timeout=120)
    good = server.run(graph(server), timeout=120)
    assert good.images["7"][0].shape[:2] == (256, 256) and "recoloured person" in str(good.outputs["6"])


def test_files_of_every_kind_the_photo_way_on_the_command_line(server: ComfyServer, tmp_path: Path, capsys: pytest.CaptureFixture):
    """Right, or refused by name; what is right keeps its size and its turn."""
    photo, folder = photograph(), tmp_path / "in"
    folder.mkdir()
    turned = Image.Exif()
    turned[0x0112] = 6
    photo.crop((0, 0, 256, 200)).rotate(90, expand=True).save(folder / "turned.jpg", exif=turned)
    photo.convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(np.array(photo.convert("L")).astype(np.uint16) * 257).save(folder / "deep.png")
    Image.merge("LA", (photo.convert("L"), Image.new("L", photo.size, 200))).save(folder / "alpha.png")
    photo.save(folder / "moving.webp", save_all=True, append_images=[photo.rotate(2)])
    photo.crop((0, 0, 1, 1)).save(folder / "one.png")
    (folder / "broken.png").write_bytes(b"no picture")
    names = ("turned.jpg", "cmyk.jpg", "deep.png", "alpha.png", "moving.webp", "one.png", "broken.png")
    (folder / "rows.csv").write_text("image,instruction\n" + "".join(f"{name},make the person grey\n" for name in names))
    assert main(["edit", str(folder / "rows.csv"), "-o", str(tmp_path / "out"), "--server", server.url, "--way", "photo"]) == 1
    said = capsys.readouterr().err
    assert "Traceback" not in said and "FireEditNodeError" not in said
    assert "moving.webp is moving: it has 2 frames" in said and "broken.png is damaged or no picture" in said
    assert "one.png: node 5 (FireEditGround): FireEdit Ground: no person was found" in said
    sizes = {path.stem: Image.open(path).size for path in (tmp_path / "out").glob("*.png")}
    assert sizes == {"turned": (256, 200), "cmyk": (256, 256), "deep": (256, 256), "alpha": (256, 256)}


def test_a_detector_that_reads_a_prompt_on_the_command_line(server: ComfyServer, tmp_path: Path, capsys: pytest.CaptureFixture):
    """Random weights of the true class, by a seed with which they find several kites and a dog."""
    torch.manual_seed(1)
    if not (folder := server.models_dir / "detectors" / "small-owl").exists():
        owlv2(folder)
    photograph().save(tmp_path / "photo.png")
    ask = ["edit", str(tmp_path / "photo.png"), "make all kites next to the dog grey", "--server", server.url]
    assert main([*ask, "--detector", "detectors/small-owl"]) == 0
    assert "looked for: kite, dog" in capsys.readouterr().err
    assert main([*ask, "--detector", "detectors/gone"]) == 1
    assert "there is no detector 'detectors/gone'" in capsys.readouterr().err

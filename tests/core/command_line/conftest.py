# SPDX-License-Identifier: GPL-3.0-or-later
"""A server that remembers what it was sent, and three pictures."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fireedit_cli import __main__ as command
from fireedit_cli.batch import Fleet
from fireedit_cli.comfy_client import ComfyClient, RunResult
from fireedit_cli.journal import JOURNAL
from fireedit_cli.workflow import Workflow

COLOURS = {"one": (200, 20, 60), "two": (10, 180, 90), "three": (40, 70, 220)}


class Recorder(ComfyClient):
    """Remembers graphs; the edit is a picture of the seed's colour, and a second one that nobody asked for."""

    sent: list[dict] = []
    probed: list[dict] = []  # graphs that only read picture and instruction
    foreign = False  # what the bundle then says of the picture
    uploads: dict[str, bytes] = {}

    def upload_image(self, picture, name=None):
        self.uploads[name] = Path(picture).read_bytes()
        return name

    def run(self, workflow, timeout=600.0):
        flow = Workflow(workflow)
        if not flow.ids("FireEditSample") and not flow.ids("FireEditQuickEdit"):
            self.probed.append(copy.deepcopy(workflow))
            return RunResult("id", {flow.only("FireEditVLMConditioning"): {"fireedit_foreign": [self.foreign]}}, {}, [], 1.0)
        self.sent.append(copy.deepcopy(workflow))
        if flow.ids("FireEditQuickEdit"):
            (shown,) = flow.fed_by("PreviewImage", "FireEditQuickEdit")
            made = np.full((6, 8, 4), 130, np.uint8)  # half transparent
            return RunResult("id", {flow.only("FireEditGround"): {"text": ["found it"]}}, {shown: [made]}, [], 1.0)
        (shown,) = flow.fed_by("PreviewImage", "FireEditSample")
        made = np.full((6, 8, 4), flow.get("FireEditSample", "seed") % 251, np.uint8)
        made[..., 0], made[..., 3] = 77, 255
        said = {flow.only("FireEditVLMConditioning"): {"text": ["understood:\n" + flow.get("FireEditVLMConditioning", "instruction")]}}
        return RunResult("id", said, {shown: [made, made // 2]}, [], 1.0)


@pytest.fixture(autouse=True)
def recorder(monkeypatch):
    monkeypatch.setattr(Recorder, "sent", [])
    monkeypatch.setattr(Recorder, "uploads", {})
    monkeypatch.setattr(Recorder, "probed", [])
    monkeypatch.setattr(command, "Fleet", lambda urls, ways, journal, **more: Fleet(urls, ways, journal, Recorder, **more))
    return Recorder


@pytest.fixture
def pictures(tmp_path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for name, colour in COLOURS.items():
        Image.new("RGB", (8, 6), colour).save(folder / f"{name}.png")
    return folder


def edit(*arguments: object) -> int:
    return command.main(["edit", *map(str, arguments), "--server", "http://one", "--quiet"])


def journal(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / JOURNAL).read_text().splitlines()]

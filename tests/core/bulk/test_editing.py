# SPDX-License-Identifier: GPL-3.0-or-later
"""What a batch of rows hands to the pipeline."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from PIL import Image

from fireedit_core.bulk import EditOptions, EditRow
from fireedit_core.bulk.editing import RowEditor, edit_pictures


class Pipe:
    """Remembers what it is called with."""

    config = SimpleNamespace(native_size=32)
    unet = SimpleNamespace(config=SimpleNamespace(out_channels=4))

    def __call__(self, pictures, instructions, **options):
        self.given = {"pictures": pictures, "instructions": instructions, **options}
        return SimpleNamespace(images=pictures)


def test_each_row_has_its_own_noise_to_the_end():
    """At the start, and in every step of a scheduler that draws some."""
    pipe, pictures = Pipe(), [Image.new("RGB", (40, 24), colour) for colour in ("red", "blue", "green")]
    options = EditOptions(steps=5, text_guidance=2.0, image_guidance=1.5, working_size=16, keep_outside="exact")
    assert edit_pictures(pipe, pictures, ["a", "b", "c"], [7, 1, 7], options) == pictures
    given = pipe.given
    assert given["pictures"] == pictures and given["instructions"] == ["a", "b", "c"]
    wanted = {
        "num_inference_steps": 5, "text_guidance": 2.0, "image_guidance": 1.5, "working_size": 16, "keep_outside": "exact",
    }  # fmt: skip
    assert {name: given[name] for name in wanted} == wanted
    assert given["latents"].shape == (3, 4, 1, 2)  # 24 x 40 at a long side of 16, in cells of 8
    for row, seed in enumerate((7, 1, 7)):
        own = torch.Generator().manual_seed(seed)
        assert torch.equal(given["latents"][row], torch.randn(4, 1, 2, generator=own))
        assert torch.equal(torch.randn(6, generator=given["generator"][row]), torch.randn(6, generator=own))


def test_that_transparency_is_lost_is_said(tmp_path, caplog):
    """What lay under a hole, mostly black, came to light without a word."""
    rows = []
    for name, alpha in (("hole", 0), ("whole", 255)):
        made = Image.new("RGBA", (40, 24), (9, 9, 9, 255))
        made.putpixel((3, 3), (9, 9, 9, alpha))
        made.save(tmp_path / f"{name}.png")
        rows.append(EditRow(name, tmp_path / f"{name}.png", "remove it"))
    editor = RowEditor(Pipe(), tmp_path / "out", "bundle", EditOptions(), 2)
    for _ in range(2):  # the second time there is nothing to do, and nothing to say
        assert [reason for _, reason in editor.edit(rows)] == [None, None]
    assert [record.getMessage().split(" of ")[0] for record in caplog.records] == ["hole: the transparency"]


def test_without_a_working_size_the_bundle_s_own_counts():
    pipe = Pipe()
    edit_pictures(pipe, [Image.new("RGB", (64, 48))], ["a"], [0], EditOptions())
    assert pipe.given["latents"].shape == (1, 4, 3, 4) and pipe.given["working_size"] is None

# SPDX-License-Identifier: GPL-3.0-or-later
"""FireEditCompare: before and after with a slider (web/compare.js), and the change in numbers and as a picture."""

from __future__ import annotations

import torch

from fireedit_core.diffusion.compositing import measure_change

from .errors import FireEditNodeError
from .host import progress
from .host.compat import CATEGORY, io, schema, ui
from .pictures import batch_text, check_mask, size_of, to_core, to_host

NAME = "FireEdit Compare"


class FireEditCompare(io.ComfyNode):
    """IMAGE + IMAGE (+ MASK) -> change as IMAGE and STRING, shown under a slider."""

    @classmethod
    def define_schema(cls):
        return schema(
            node_id="FireEditCompare",
            display_name=NAME,
            category=CATEGORY,
            description="Before and after under a slider, and how much changed: inside and outside a mask, and as a picture.",
            search_aliases=["before after", "slider", "difference", "diff"],
            is_output_node=True,
            inputs=[
                io.Image.Input("before", tooltip="The source picture."),
                io.Image.Input("after", tooltip="The edited picture, of the same size."),
                io.Float.Input(
                    "amplify", default=4.0, min=1.0, max=100.0, step=0.5,
                    tooltip="How many times stronger than it is the change is drawn; small shifts of tone become visible.",
                ),
                io.Mask.Input("mask", optional=True, tooltip="Where the edit was meant to be: grounding of FireEdit VLM Conditioning."),
            ],
            outputs=[
                io.Image.Output(display_name="change", tooltip="Absolute difference, amplified. Black is unchanged."),
                io.String.Output(display_name="report", tooltip="Mean change of 0..1, inside and outside the mask where there is one."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, before, after, amplify, mask=None) -> io.NodeOutput:
        """A single picture on one side is compared with every picture of the other."""
        one, two = to_core(before, NAME), to_core(after, NAME)
        if size_of(one) != size_of(two):
            raise FireEditNodeError(
                NAME, f"before is {size_of(one)[1]} x {size_of(one)[0]} and after {size_of(two)[1]} x {size_of(two)[0]} pixels. Compare "
                "pictures of one size; FireEdit Sample gives the size of its source.",
            )  # fmt: skip
        count = max(one.shape[0], two.shape[0])
        if one.shape[0] not in (1, count) or two.shape[0] not in (1, count):
            raise FireEditNodeError(NAME, f"before has {batch_text(one.shape[0])} and after {batch_text(two.shape[0])}. Connect as many.")
        one, two = one.expand(count, -1, -1, -1), two.expand(count, -1, -1, -1).to(one)
        region = None if mask is None else (check_mask(mask, one, NAME) > 0.5).float()
        lines = [report(one[i : i + 1], two[i : i + 1], None if region is None else region[i : i + 1]) for i in range(count)]
        text = lines[0] if count == 1 else "\n".join(f"picture {i + 1}: {line}" for i, line in enumerate(lines))
        change = ((two - one).abs() * amplify).clamp(0, 1)
        # under a name of our own: "images" would be drawn by the front end as well
        pair = [ui.PreviewImage(to_host(x[:1]), cls=cls).as_dict()["images"][0] for x in (one, two)]
        return io.NodeOutput(to_host(change), text, ui=progress.report(text) | {"fireedit_compare": pair})


def report(before: torch.Tensor, after: torch.Tensor, mask: torch.Tensor | None) -> str:
    """Change of one pair (1, 3, H, W) in words; mask (1, H, W), 0 or 1."""
    changed = float(((after - before).abs().amax(1) > 1 / 510).float().mean())  # what 8 bits can tell apart
    if mask is None:
        whole = measure_change(before, after, torch.ones_like(before[:, 0]))
        return f"mean change {whole.inside:.4f}; {changed:.1%} of the pixels differ"
    change = measure_change(before, after, mask)
    inside = f"mean change {change.inside:.4f} inside the mask ({change.area:.1%}), {change.outside:.4f} outside"
    return f"{inside}; {changed:.1%} of the pixels differ"

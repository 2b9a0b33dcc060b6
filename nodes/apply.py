# SPDX-License-Identifier: GPL-3.0-or-later
"""FireEditApply: TATI and HVCA on a MODEL."""

from __future__ import annotations

import comfy.model_base
from comfy.model_patcher import ModelPatcher

from .errors import FireEditNodeError
from .host import patching
from .host.compat import CATEGORY, RARE, io, schema
from .host.unet import EditModel
from .types import FIREEDIT_TOOLTIP, FireEditType

NAME = "FireEdit Apply"


class FireEditApply(io.ComfyNode):
    """MODEL + FIREEDIT -> MODEL."""

    @classmethod
    def define_schema(cls):
        return schema(
            node_id="FireEditApply",
            display_name=NAME,
            category=f"{CATEGORY}/model",
            description="Adds FireEdit's two injections to the UNet: the time-aware instruction (TATI) and the visual cross "
            "attention (HVCA). Composes with LoRA, IP-Adapter and other patches; applying it again replaces it.",
            search_aliases=["tati", "hvca", "patch model", "instruction strength"],
            inputs=[
                io.Model.Input("model", tooltip="The MODEL of FireEdit Loader, or the same with LoRAs or other patches."),
                io.Float.Input(
                    "tati_strength", default=1.0, min=0.0, max=2.0, step=0.05,
                    tooltip="How much the instruction is adapted to the step of sampling. 1 is as trained, 0 turns it off.",
                ),
                io.Float.Input(
                    "hvca_strength", default=1.0, min=0.0, max=2.0, step=0.05,
                    tooltip="How much visual detail of the source, and of the place to edit, reaches the UNet. 1 is as trained, 0 is off.",
                ),
                io.Float.Input(
                    "start_percent", default=0.0, min=0.0, max=1.0, step=0.01, **RARE,
                    tooltip="Where in the noise schedule both begin to act. 0 is the first step.",
                ),
                io.Float.Input(
                    "end_percent", default=1.0, min=0.0, max=1.0, step=0.01, **RARE,
                    tooltip="Where in the noise schedule both stop acting. 1 is the last step.",
                ),
                FireEditType.Input("fireedit", optional=True, tooltip=FIREEDIT_TOOLTIP),
            ],
            outputs=[
                io.Model.Output(
                    display_name="model",
                    tooltip="For FireEdit Sample, FireEdit Guider, DualCFGGuider or KSampler. Without FireEdit's conditionings it "
                    "behaves like the plain model.",
                )
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model, fireedit=None, tati_strength=1.0, hvca_strength=1.0, start_percent=0.0, end_percent=1.0
    ) -> io.NodeOutput:  # fmt: skip
        """Patch a clone; the given MODEL stays as it is."""
        if fireedit is None:
            raise FireEditNodeError(
                NAME, "fireedit is not connected: Q-Former, TATI and HVCA are missing. Connect fireedit of the FireEdit Loader that gave "
                f"the MODEL. {_about(model)}".strip(),
            )  # fmt: skip
        if start_percent > end_percent:
            raise FireEditNodeError(
                NAME, f"start_percent {start_percent:g} lies after end_percent {end_percent:g}. Swap them."
            )
        try:
            patched = patching.apply(model, fireedit, tati_strength, hvca_strength, start_percent, end_percent)
        except patching.ModelMismatch as error:
            raise FireEditNodeError(
                NAME, f"{error} Connect the MODEL of the FireEdit Loader that gave fireedit. {_about(model)}".strip()
            ) from error
        return io.NodeOutput(patched)


def _about(model: ModelPatcher) -> str:
    """What can be done with a MODEL that has no bundle around it; "" for one of a bundle."""
    if isinstance(model.model, EditModel):
        return ""
    if isinstance(model.model, comfy.model_base.IP2P):
        return (
            "This MODEL is a plain InstructPix2Pix: `./fireedit convert --for-editing --instructpix2pix FILE` makes a bundle of it that "
            "edits at once (docs/convert.md); or leave this node out, and FireEdit Confine holds the model's own edits to a region."
        )
    return "To hold the edits of any model to a region without a bundle, use FireEdit Confine in place of this node."

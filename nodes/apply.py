# SPDX-License-Identifier: GPL-3.0-or-later
"""FireEditApply: TATI and HVCA on a MODEL."""

from __future__ import annotations

from .errors import FireEditNodeError
from .host import patching
from .host.compat import CATEGORY, RARE, io, schema
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
                FireEditType.Input("fireedit", tooltip=FIREEDIT_TOOLTIP),
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
    def execute(cls, model, fireedit, tati_strength, hvca_strength, start_percent, end_percent) -> io.NodeOutput:
        """Patch a clone; the given MODEL stays as it is."""
        if start_percent > end_percent:
            raise FireEditNodeError(
                NAME, f"start_percent {start_percent:g} lies after end_percent {end_percent:g}. Swap them."
            )
        try:
            patched = patching.apply(model, fireedit, tati_strength, hvca_strength, start_percent, end_percent)
        except patching.ModelMismatch as error:
            raise FireEditNodeError(NAME, f"{error} Connect the MODEL of the FireEdit Loader that gave fireedit.") from error
        return io.NodeOutput(patched)

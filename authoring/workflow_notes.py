# SPDX-License-Identifier: GPL-3.0-or-later
"""What the note on the canvas of each workflow says (Markdown), and which file of the user's it waits for."""

from __future__ import annotations

_OWN = "The picture comes with the pack. For yours, choose or drop a file on **Load Image** and say what to change."

# workflow -> what a user must put in first; all others run as they are
NEEDS = {
    "fireedit_controlnet": "a ControlNet that fits the UNet of your bundle, in `models/controlnet`: choose it in **Load ControlNet Model**",
    "fireedit_lora": "a LoRA that was trained on the UNet of your bundle, in `models/loras`: choose it in **LoraLoaderModelOnly**",
    "fireedit_upscale": "an upscaler (ESRGAN, SwinIR ...) in `models/upscale_models`: choose it in **Load Upscale Model**",
    "fireedit_other_packs": "a detector, in `models/ultralytics/bbox` or `models/detectors`: choose it in **FireEdit Detector Loader**",
    "fireedit_photo_any_language": "the text encoder of Qwen-Image-Edit, `qwen_2.5_vl_7b.safetensors` (16.6 GB), in "
    "`models/text_encoders`; or a folder of a language model that sees in `models/LLM`: choose it in **FireEdit Grounder Loader**, without "
    "**Load CLIP**",
}

_TEXTS = {
    "fireedit_edit": (
        "Edit by instruction",
        f"{_OWN}\n\n**VLM Conditioning** finds what is meant: its number stands on **Regions Preview**. With `keep_outside` on *exact* "
        "every pixel outside the mask stays as it was.\n\nPress **Run**.",
    ),
    "fireedit_stock_sampler": (
        "With ComfyUI's own sampler",
        f"{_OWN}\n\n**FireEdit Guider** goes into **SamplerCustomAdvanced**, so any sampler, scheduler and sigmas can be used.",
    ),
    "fireedit_pick_regions": (
        "Pick the region yourself",
        "1. **Run** once: the regions appear in **Region Select**.\n2. Click one, or drag a new box.\n3. *restrict*: the model chooses "
        "among yours. *force*: the edit happens exactly there.\n4. **Run** again.",
    ),
    "fireedit_batch": (
        "Several pictures at once",
        "All pictures of a batch have one size. One instruction goes to all of them; as many lines as pictures, and each gets its own.",
    ),
    "fireedit_many_instructions": (
        "One picture, several instructions",
        f"{_OWN}\n\n**RepeatImageBatch** makes as many copies as there are lines in the instruction. Each copy gets its own edit.",
    ),
    "fireedit_multi_turn": (
        "One edit after the other",
        f"{_OWN}\n\nOne instruction per line. What no turn has touched is taken from the original before each turn, so the picture does "
        "not wear out.",
    ),
    "fireedit_own_regions": (
        "Regions of your own beside the detected ones",
        f"{_OWN}\n\nPaint a mask on **Load Image** (right click, *Open in MaskEditor*): what you painted joins the regions that the model "
        "chooses from.",
    ),
    "fireedit_inpaint": (
        "The grounding as an inpainting mask",
        f"{_OWN}\n\nThe mask of **VLM Conditioning** goes through ComfyUI's own mask nodes into **KSampler**, and back over the source at "
        "the end.",
    ),
    "fireedit_confine": (
        "Confined while it is sampled",
        f"{_OWN}\n\n**FireEdit Confine** holds everything outside of a region to the source in every step; without a `mask` it finds the "
        "region by itself, and **Confined Mask** shows which. It does the same to Flux Kontext, Qwen-Image-Edit and others.",
    ),
    "fireedit_hires": (
        "Second pass at twice the size",
        f"{_OWN}\n\nThe edit is enlarged in latent space and sampled a second time at low denoise, read anew at the new size.",
    ),
    "fireedit_controlnet": ("With a ControlNet", "The ControlNet acts on `positive` and `image_only`; `negative` stays as it is."),
    "fireedit_lora": ("With a LoRA", "**FireEdit Apply** comes after LoRAs and other patches, though the order does not matter."),
    "fireedit_upscale": ("With an upscaler", "The edited picture goes to any upscaler; the edit itself is made at the bundle's size."),
    "fireedit_photo_remove": (
        "Remove a thing from a photograph",
        f"{_OWN}\n\n**Ground** finds what the words mean among 80 kinds of things, **Quick Edit** takes it out. No generative model runs: "
        "over a large hole the fill is a guess, and the report says so.",
    ),
    "fireedit_photo_recolour": (
        "Recolour a thing in a photograph",
        f"{_OWN}\n\nSay *make the bus red*, *make the man on the right black and white*, *brighten the dog*. Outside of the mask every "
        "byte stays the photo's own.",
    ),
    "fireedit_photo_background": (
        "What is behind the thing in a photograph",
        f"{_OWN}\n\n*blur the background*, *make the background white*, *remove the background*. A picture on **backdrop** of **Quick "
        "Edit** goes behind instead. A better outline: **Segmenter Loader** into **Region Masks**.",
    ),
    "fireedit_photo_any_language": (
        "Say it in any language",
        "**Grounder Loader** has a language model look at the picture with its regions numbered. It reads any language and names what no "
        "detector knows. The text encoder that an edit model has loaded is used as it lies in memory.",
    ),
    "fireedit_other_packs": (
        "Joins to other packs",
        "SEGS go to and from Impact Pack, BBOX to and from KJNodes and Florence2, MASK everywhere. A detector of yours replaces the "
        "bundle's. **Compare** shows before and after.",
    ),
}  # fmt: skip


def note(name: str) -> str:
    """The note of a workflow. Raises KeyError for a workflow that has none."""
    title, text = _TEXTS[name]
    first = f"\n\n**First:** put in {NEEDS[name]}." if name in NEEDS else ""
    return f"## {title}\n{text}{first}"

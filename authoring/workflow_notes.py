# SPDX-License-Identifier: GPL-3.0-or-later
"""What the note on the canvas of each workflow says (Markdown), and which file of the user's it waits for."""

from __future__ import annotations

from fireedit_cli.model_files import described

_OWN = "The picture comes with the pack. For yours, choose or drop a file on **Load Image** and say what to change."



def _files(*names: str) -> str:
    """The files of an edit model, each with its folder and size."""
    return "\n".join(f"- `{path}` {size}".rstrip() for path, _, size in (described(name).partition(" ") for name in names))


# workflow -> what a user must put in first; all others run as they are
NEEDS = {
    "fireedit_controlnet": "a ControlNet that fits the UNet of your bundle, in `models/controlnet`: choose it in **Load ControlNet Model**",
    "fireedit_lora": "a LoRA that was trained on the UNet of your bundle, in `models/loras`: choose it in **LoraLoaderModelOnly**",
    "fireedit_upscale": "an upscaler (ESRGAN, SwinIR ...) in `models/upscale_models`: choose it in **Load Upscale Model**",
    "fireedit_other_packs": "a detector, in `models/ultralytics/bbox` or `models/detectors`: choose it in **FireEdit Detector Loader**",
    "fireedit_photo_any_language": "the text encoder of Qwen-Image-Edit, `qwen_2.5_vl_7b.safetensors` (16.6 GB), in "
    "`models/text_encoders`; or a folder of a language model that sees in `models/LLM`: choose it in **FireEdit Grounder Loader**, without "
    "**Load CLIP**",
    "fireedit_photo_ip2p": "the model:\n"
    + _files("instruct-pix2pix-00-22000.safetensors")
    + "\n\nof timbrooks/instruct-pix2pix on Hugging Face. A MagicBrush checkpoint of that shape goes the same way",
    "fireedit_photo_kontext": "the model, of Comfy-Org/flux1-kontext-dev_ComfyUI and comfyanonymous/flux_text_encoders:\n"
    + _files("flux1-dev-kontext_fp8_scaled.safetensors", "clip_l.safetensors", "t5xxl_fp8_e4m3fn_scaled.safetensors", "ae.safetensors"),
    "fireedit_photo_qwen": "2509 or 2511, of Comfy-Org/Qwen-Image-Edit_ComfyUI and Qwen-Image_ComfyUI:\n"
    + _files(
        "qwen_image_edit_2509_fp8_e4m3fn.safetensors", "qwen_image_edit_2511_fp8mixed.safetensors",
        "qwen_2.5_vl_7b_fp8_scaled.safetensors", "qwen_image_vae.safetensors",
    )
    + "\n\n2511 needs ComfyUI 0.5.1 or newer and 40 steps. With a Lightning LoRA: 4 or 8 steps, cfg 1",
    "fireedit_photo_klein": "the model and ComfyUI 0.8.2 or newer:\n"
    + _files("flux-2-klein-4b-fp8.safetensors", "qwen_3_4b.safetensors", "flux2-vae.safetensors")
    + "\n\nof black-forest-labs/FLUX.2-klein-4b-fp8, Comfy-Org/z_image_turbo and Comfy-Org/flux2-dev",
}  # fmt: skip

_WAY = (
    "**Ground** finds what the words mean, **Photo Crop** cuts it out on the model's grid, **Confine** keeps the edit in it, **Photo "
    "Finish** brings it back. Outside of its mask every value stays the photo's own. (The template's picture shows an edit of **Quick "
    "Edit** in this model's place.)"
)

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
    "fireedit_photo_ip2p": ("A photograph with InstructPix2Pix", f"{_WAY} Text guidance 7.5, picture guidance 1.5, at 512 x 512."),
    "fireedit_photo_kontext": ("A photograph with Flux Kontext", _WAY),
    "fireedit_photo_qwen": (
        "A photograph with Qwen-Image-Edit",
        f"{_WAY} The text encoder gets no VAE: it would scale the picture once more. **ReferenceLatent** holds the crop itself.",
    ),
    "fireedit_photo_klein": ("A photograph with Flux.2 klein", f"{_WAY} The distilled model: 4 steps, no negative."),
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

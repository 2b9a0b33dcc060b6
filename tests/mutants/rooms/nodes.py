# SPDX-License-Identifier: GPL-3.0-or-later
"""The nodes and what stands between them and the host."""

from __future__ import annotations

from ..mutant import of

GOLDEN = "tests/host/inside/test_golden.py"
SAMPLING = f"{GOLDEN} tests/host/inside/test_sampling.py tests/host/inside/test_guider.py"
CONDITIONING = f"{GOLDEN} tests/host/inside/test_conditioning.py"

MUTANTS = [
    *of(
        "nodes/sampling.py", SAMPLING,
        ("denoise <= 0.9999 else torch.zeros_like(source)", "denoise <= -1 else torch.zeros_like(source)", "start"),
        ("plan.hold_mask(region).to(source) if keep_outside == \"soft\"", "plan.hold_mask(region).to(source) if keep_outside == \"exact\"", "option"),
        ("whole if region is None else region.to(decoded))\n        if", "whole)\n        if", "dropped option"),
        ("guider, start, seed, steps, sampler_name, scheduler, denoise, held)", "guider, start, seed, steps, sampler_name, scheduler, 1.0, held)",
         "dropped option"),
        ("int(options.get(WORKING_SIZE, 0))", "0", "dropped option"),
        ("return io.NodeOutput({\"samples\": latent}, to_host(edited)", "return io.NodeOutput({\"samples\": latent}, to_host(decoded)", "wrong picture"),
        ("if keep_outside == \"exact\":\n            edited = composite", "if keep_outside == \"never\":\n            edited = composite", "option"),
        ("f\"mean change {change.inside:.4f} inside the mask ({change.area:.1%} of the picture), {change.outside:.4f} outside; {sizes}\"",
         "f\"mean change {change.outside:.4f} inside the mask ({change.area:.1%} of the picture), {change.inside:.4f} outside; {sizes}\"", "swapped"),
        ("ours = any(VISUAL in entry", "ours = all(VISUAL not in entry", "check"),
        ("said = report(pictures, edited,", "said = report(edited, edited,", "wrong picture"),
    ),
    *of(
        "nodes/multi_turn.py", SAMPLING,
        ("(seed + number) % 2**64", "seed % 2**64", "seeds"),
        ("current = to_core(edited, NAME)\n", "current = original\n", "stale state"),
        ("touched = torch.maximum(touched, edit_mask(grounding).to(touched))", "touched = edit_mask(grounding).to(touched)", "stale state"),
        ("text_guidance, image_guidance, 1.0, keep_outside, grounding", "image_guidance, text_guidance, 1.0, keep_outside, grounding", "swapped"),
        ("source, score_threshold, 0.6, 100)", "source, 0.15, 0.6, 100)", "dropped option"),
        ("torch.cat(turns)", "torch.cat(turns[::-1])", "order"),
    ),
    *of(
        "nodes/conditioning.py", CONDITIONING,
        ("GATE: comfy.conds.CONDRegular(gate * on)", "GATE: comfy.conds.CONDRegular(gate)", "gate"),
        ("make(null, models.intermediate(conditions.visual_image_only), 0.0, source)", "make(null, visual, 0.0, source)", "wrong branch"),
        ("side = working_size or int(", "side = 0 * working_size or int(", "dropped option"),
        ("torch.where(own.amax((1, 2), keepdim=True) > 0, own, conditions.mask)", "own", "empty row"),
        ("make(null, torch.zeros_like(visual), 0.0),", "make(null, torch.zeros_like(visual), 0.0, source),", "wrong branch"),
        ("float((mask > 0.5).float().mean()):.0%", "float((mask > 0.05).float().mean()):.0%", "constant"),
        ("if 0 < float(one.max()) <= 0.5]", "if 0 < float(one.max()) <= 0.05]", "constant",
         f"{CONDITIONING} tests/host/inside/test_bad_values.py"),
        ("WHERE: SpatialCond(where * on)", "WHERE: SpatialCond(where)", "wrong branch"),
    ),
    *of(
        "nodes/pictures.py", f"{CONDITIONING} tests/host/inside/test_bad_values.py",
        ("image[..., :3].movedim(-1, 1).to(", "image[..., :3].flip(-1).movedim(-1, 1).to(", "channels"),
        ("_OVERSHOOT = 0.5", "_OVERSHOOT = 500", "constant"),
        ("mask.shape[0] not in (1, count):", "mask.shape[0] > count:", "check"),
    ),
    *of(
        "nodes/host/guider.py", f"{GOLDEN} tests/host/inside/test_guider.py",
        ("BRANCHES = (\"positive\", \"image_only\", \"negative\")", "BRANCHES = (\"positive\", \"negative\", \"image_only\")", "order"),
        ("self.text_guidance, self.image_guidance = text_guidance, image_guidance", "self.text_guidance, self.image_guidance = image_guidance, text_guidance",
         "swapped"),
        ("\"denoised\": denoised, \"cond\": conds[0], \"uncond\": conds[1]", "\"denoised\": denoised, \"cond\": conds[1], \"uncond\": conds[0]", "swapped"),
        ("\"uncond_denoised\": out[\"image_only\"]", "\"uncond_denoised\": out[\"negative\"]", "wrong branch"),
        ("guider.sample(\n        noise, latent,", "guider.sample(\n        noise, latent * 0,", "start"),
    ),
    *of(
        "nodes/host/vae.py", f"tests/host/inside/test_vae.py {GOLDEN}",
        ("self.process_input = lambda image: image * 2.0 - 1.0", "self.process_input = lambda image: image", "range"),
        (".add_(1.0).div_(2.0).clamp_(0.0, 1.0)", ".add_(1.0).div_(2.0)", "clamp"),
        ("self.scale_factor = scale", "self.scale_factor = 1.0", "scale"),
    ),
    *of(
        "nodes/host/patching.py", f"{GOLDEN} tests/host/inside/test_patching.py",
        ("tati_strength).to(context.dtype)", "1.0).to(context.dtype)", "dropped option"),
        ("if known.shape == visual.shape and known.dtype == visual.dtype and torch.equal(known, visual):",
         "if known.shape == visual.shape and known.dtype == visual.dtype:", "stale key"),
        ("torch.equal(when, timesteps) and torch.equal(known, embedding)", "torch.equal(known, embedding)", "stale key"),
        ("sum(n + 1 for n in backwards[:level]) + attention", "sum(n + 1 for n in layers[:level]) + attention", "order",
         "tests/host/inside/test_patching.py::test_places_in_a_unet_whose_levels_differ"),
        ("del self.injected[2:]", "pass", "memory", GOLDEN, "only memory"),
        ("data = data.narrow(i + 2, area[i + dims], area[i])", "data = data.narrow(i + 2, area[i], area[i + dims])", "axis",
         "tests/host/inside/test_conditioning.py"),
        ("earliest <= float(timesteps[0]) <= latest", "float(timesteps[0]) <= latest", "window"),
    ),
    *of(
        "nodes/host/unet.py", f"{GOLDEN} tests/host/inside/test_unet.py",
        ("if source_latent_scaled:", "if not source_latent_scaled:", "scale"),
        ("for d, n in zip(depths, layers, strict=True) for _ in range(n)]", "for d, n in zip(depths[::-1], layers, strict=True) for _ in range(n)]", "order"),
    ),
    *of(
        "nodes/host/schedule.py", "tests/host/inside/test_schedule.py",
        ("for sigma in run.sigmas[:-1]", "for sigma in run.sigmas[1:]", "off by one"),
        ("\"active\": earliest <= t <= latest", "\"active\": earliest < t", "window"),
    ),
    *of(
        "nodes/compare.py", "tests/host/inside/test_compare.py",
        ("(two - one).abs() * amplify).clamp(0, 1)", "(two - one).abs()).clamp(0, 1)", "dropped option"),
        ("> 1 / 510)", "> 0.1)", "constant"),
        ("None if region is None else region[i : i + 1])", "None if region is None else region[:1])", "first row"),
    ),
    *of(
        "nodes/region_selection.py", "tests/host/inside/test_regions.py",
        ("least, math.inf, min_area, max_area, parse", "least, math.inf, min_area, 1.0, parse", "dropped option"),
        ("[chosen.split(one) for one in regions]", "[chosen.split(regions[0]) for one in regions]", "first row"),
    ),
    *of(
        "nodes/photo_crop.py", "tests/host/inside/test_photo_crop.py",
        ("CropSettings(megapixels, multiple, context, whole_above)", "CropSettings(megapixels, multiple, whole_above, context)", "wrong option"),
        ("seen.append(frame.crop(photo))", "seen.append(frames[0].crop(photo))", "first row"),
        ("marked.append(frame.crop_mask(one))", "marked.append(frame.crop_mask(masks[0]))", "first row"),
        ("samples.append(vae.encode(crop[None]))", "samples.append(vae.encode(crops[:1]))", "first row"),
        ("(1,) * (samples.ndim - 3)", "(1,) * (4 - 3)", "shape"),
        ("mask_meant(one) if len(one)", "to_mask(one.top(1)) if len(one)", "wrong rows"),
        ("made.append(1 - mask if behind else mask)", "made.append(mask)", "dropped"),
        (" and bool((mask < 1).any())\n", "\n", "condition dropped"),
        ("zip(masks, answers, pictures, strict=True)", "zip(masks, answers[:1] * len(masks), pictures, strict=True)", "first row"),
        ("any(side % cell for side in frame.grid)", "all(side % cell for side in frame.grid)", "check"),
    ),
]  # fmt: skip

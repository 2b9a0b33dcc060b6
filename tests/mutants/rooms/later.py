# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults that were thought of after the tests had been written: how well the tests see what nobody had in mind."""

from __future__ import annotations

from ..mutant import of

GOLDEN = "tests/core/diffusion/test_golden.py::test_an_edit"
INSIDE = "tests/host/inside/test_golden.py"
CLI = "tests/core/command_line"
LOSSES = "tests/core/training/test_formulas.py"

MUTANTS = [
    *of(
        "fireedit_core/blur.py", "tests/core/diffusion/test_blur.py",
        ("radius = max(1, round(3 * sigma))", "radius = max(1, round(sigma))", "constant"),
        ("/ (2 * sigma**2))", "/ sigma**2)", "constant"),
    ),
    *of(
        "fireedit_core/diffusion/latents.py", "tests/core/diffusion/test_pipeline.py",
        ("return out.latent_dist.mode()", "return out.latent_dist.sample()", "noise"),
    ),
    *of(
        "fireedit_core/diffusion/pipeline.py", f"{GOLDEN} tests/core/diffusion/test_pipeline.py",
        ("x = noise * noise_scale(scheduler)", "x = noise", "scale"),
        ("edited = plan.restore(decode_latents(self.vae, result), source, edit_mask(conditions.mask))",
         "edited = plan.restore(decode_latents(self.vae, result), source, conditions.mask)", "wrong mask"),
        ("self.tati.inject(context, times, gate, tati_strength) if active", "self.tati.inject(context, times, gate) if active", "dropped option"),
        ("np.asarray(picture, dtype=np.float32) / 65535", "np.asarray(picture, dtype=np.float32) / 255", "range"),
    ),
    *of(
        "fireedit_core/diffusion/compositing.py", f"tests/core/diffusion/test_compositing.py {GOLDEN}",
        ("mixed = source + mask * (edited - source)", "mixed = edited", "dropped part"),
        ("inside = (mask > 0).to(difference)", "inside = (mask > 0.5).to(difference)", "bound"),
    ),
    *of(
        "fireedit_core/vlm/region_encoder.py", f"{GOLDEN} tests/core/vlm/test_region_encoder.py",
        ("[max(index - 1, 0)][:, half : half + quarter]", "[index][:, half : half + quarter]", "wrong level"),
        ('bilinear", align_corners=True)', 'bilinear", align_corners=False)', "grid"),
    ),
    *of(
        "fireedit_core/vlm/grounding.py", f"tests/core/vlm/test_modules.py {GOLDEN}",
        ("return self.region_logits.float().softmax(-1)[:, :-1]", "return self.region_logits.float()[:, :-1].softmax(-1)", "formula"),
        ("meant[:, None].to(img_states)], dim=1)", "0 * meant[:, None].to(img_states)], dim=1)", "dropped part"),
    ),
    *of(
        "fireedit_core/editor.py", f"{GOLDEN} tests/core/vlm/test_editor.py",
        ("features.dino[-1], grid)\n        half", "features.dino[-2], grid)\n        half", "off by one"),
        ('return " and ".join(request.edits)', "return request.edits[0]", "first row", "tests/core/vlm/test_editor.py tests/core/test_instructions.py"),
    ),
    *of(
        "fireedit_core/regions/detector.py", "tests/core/regions/test_detectors.py",
        ("for image in images.split(1):\n        found += detector.detect(image,", "for image in images.split(1):\n        found += detector.detect(images[:1],",
         "first row", "tests/core/regions/test_detectors.py tests/core/vlm/test_editor.py"),
        ("max(round(length * scale), 1)", "max(int(length * scale), 1)", "rounding"),
    ),
    *of(
        "fireedit_core/regions/layouts.py", "tests/core/regions/test_dialects.py",
        ("return [x1, y1, x1 + a, y1 + b]", "return [x1, y1, x1 + b, y1 + a]", "axis"),
        ("_SLACK = 0.02", "_SLACK = 0.5", "constant"),
    ),
    *of(
        "fireedit_core/regions/selection.py", "tests/core/regions/test_selection.py",
        ("(scores >= self.least_score)", "(scores > self.least_score)", "bound"),
    ),
    *of(
        "fireedit_core/training/diffusion.py", LOSSES,
        ("noise, target = torch.randn_like(batch.target), batch.target", "noise, target = torch.rand_like(batch.target), batch.target", "noise"),
        ("torch.where(text[:, None, None], e, self.parts", "torch.where(image[:, None, None], e, self.parts", "wrong rows"),
    ),
    *of(
        "fireedit_core/training/alignment.py", LOSSES,
        ("20 * F.smooth_l1_loss(box, labels.edit_box, beta=0.1)", "20 * F.smooth_l1_loss(box, labels.edit_box)", "default"),
    ),
    *of(
        "fireedit_core/training/edit_cache.py", "tests/core/training/test_edit_cache.py",
        ('"source": latents[: len(source)], "target": latents[len(source) :]', '"source": latents[len(source) :], "target": latents[: len(source)]', "swapped"),
    ),
    *of(
        "fireedit_core/evaluation/metrics.py", "tests/core/evaluation/test_metrics.py",
        ("psnr=psnr_of(edit, target, sample.mask)", "psnr=psnr_of(edit, source, sample.mask)", "wrong picture"),
    ),
    *of(
        "fireedit_cli/batch.py", CLI,
        ("self._waiting.append(job)\n                    self._change.notify_all()\n                    return", "return", "lost job"),
    ),
    *of(
        "fireedit_cli/jobs.py", CLI,
        ("for p in source.iterdir() if p.suffix.lower() in PICTURES", "for p in source.iterdir() if p.suffix in PICTURES", "capitals"),
    ),
    *of(
        "nodes/sampling.py", INSIDE,
        ("region = None if mask is None else edit_mask(check_mask(mask, pictures, SAMPLE))", "region = None if mask is None else check_mask(mask, pictures, SAMPLE)",
         "dropped part"),
    ),
    *of(
        "nodes/conditioning.py", INSIDE,
        ("models.intermediate(conditions.mask),\n            conditions.regions", "models.intermediate((conditions.mask > 0.5).float()),\n            conditions.regions",
         "rounding"),
    ),
    *of(
        "fireedit_cli/journal.py", CLI,
        ('begin = "" if _ends_whole(path) else "\\n"', 'begin = ""', "lost line"),
        ('errors="replace").split("\\n")', 'errors="replace").splitlines()', "line ends"),
    ),
    *of(
        "fireedit_core/data/formats/reader.py", "tests/core/data/test_reading_pictures.py",
        ("return _of_eight_bits(turned, what)", "return turned", "dropped part"),
        ('1 if picture.format == "MPO" else getattr', "getattr", "special case"),
    ),
    *of(
        "fireedit_core/bulk/results.py", "tests/core/bulk/test_results.py",
        ("os.path.join(folder(os.path.dirname(path)), os.path.basename(path))", "os.path.abspath(path)", "links"),
    ),
    *of(
        "fireedit_core/regions/selection.py", "tests/core/regions/test_selection.py",
        ('join(sets, next(iter(pictures), ""))', "join(sets)", "dropped part"),
    ),
    *of(
        "nodes/region_dialects.py", "tests/host/inside/test_regions.py",
        ("replace(one, picture=fingerprint(picture)) for one", "replace(one, picture=fingerprint(pictures[0])) for one", "first row"),
    ),
    *of(
        "nodes/sampling.py", "tests/host/inside/test_sampling.py",
        ("if not bool(torch.isfinite(decoded).all()):", "if not bool(torch.isfinite(decoded[0]).all()):", "first row"),
    ),
]  # fmt: skip

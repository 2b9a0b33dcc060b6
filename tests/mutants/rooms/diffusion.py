# SPDX-License-Identifier: GPL-3.0-or-later
"""The sampling, and what is done to pictures before and after it."""

from __future__ import annotations

from ..mutant import of

GOLDEN = "tests/core/diffusion/test_golden.py::test_an_edit"
PIPELINE = f"tests/core/diffusion/test_pipeline.py {GOLDEN}"
COMPOSITING = f"tests/core/diffusion/test_compositing.py {GOLDEN}"

MUTANTS = [
    *of(
        "fireedit_core/diffusion/pipeline.py", PIPELINE,
        ("(images * 2 - 1).to(vae.dtype))", "images.to(vae.dtype))", "range"),
        (".sample.float() + 1) / 2).clamp(0, 1)", ".sample.float() + 1) / 2)", "clamp"),
        ("return x / latent_scale(self.vae)", "return x * latent_scale(self.vae)", "scale"),
        ("return latent * latent_scale(self.vae) if self", "return latent / latent_scale(self.vae) if self", "scale"),
        ("float(scheduler.sigmas.max()) ** 2 + 1) ** 0.5", "float(scheduler.sigmas.max()) ** 2) ** 0.5", "constant"),
        ("total - 1 - int(i * total / steps)", "total - int(i * total / steps)", "off by one"),
        ('"image_only": (null, c.visual_image_only,', '"image_only": (null, c.visual,', "wrong branch"),
        ("source_latent, zero(where), 0.0),", "source_latent, where, 0.0),", "wrong branch"),
        ("tati_strength, hvca_strength, (start_percent, end_percent)", "tati_strength, hvca_strength, (0.0, end_percent)", "dropped option"),
        ('"where": where, "visual_strength": hvca_strength}', '"where": where, "visual_strength": 1.0}', "dropped option"),
        ("source = source.expand(len(instructions), -1, -1, -1)", "source = source.repeat(len(instructions), 1, 1, 1)[:1]", "wrong row"),
        ("(images.clamp(0, 1) * 255).round().byte()", "(images.clamp(0, 1) * 255).byte()", "rounding"),
        ('picture.convert("RGB"), dtype=np.float32) / 255', 'picture.convert("RGB"), dtype=np.float32)[..., ::-1] / 255', "channels"),
        ("where = plan.mask_on_latents(conditions.mask)", "where = plan.mask_on_latents(conditions.mask.flip(-1))", "axis"),
        ("repeat_interleave(count)", "repeat(count)", "wrong row"),
    ),
    *of(
        "fireedit_core/diffusion/compositing.py", COMPOSITING,
        ("round(side * scale / multiple) * multiple", "int(side * scale / multiple) * multiple", "rounding"),
        ("grow: int = 3, feather: int = 4", "grow: int = 2, feather: int = 4", "constant"),
        ("threshold: float = 0.5, grow", "threshold: float = 0.4, grow", "constant"),
        ("return F.max_pool2d(self.shrink(mask[:, None]), 8)", "return F.avg_pool2d(self.shrink(mask[:, None]), 8)", "formula",
         "tests/core/diffusion/test_compositing.py tests/host/inside/test_golden.py"),
        ("(mask * enlarge(edited) + (1 - mask) * (source + enlarge(edited - small)))", "enlarge(edited)", "dropped part"),
        ("self.padded[1] - self.inner[1], 0, self.padded[0] - self.inner[0])",
         "self.padded[0] - self.inner[0], 0, self.padded[1] - self.inner[1])", "axis"),
        ("< 0.15)\n", "< 0.5)\n", "constant"),
        ("for sigma in (3 * reach, reach):", "for sigma in (reach,):", "dropped part"),
        ("touched = torch.maximum(touched, mask)\n", "touched = mask\n", "stale state"),
        ("return composite(original, edited, touched), touched", "return composite(original, edited, mask), touched", "wrong mask"),
        ("edited = edited[..., : self.inner[0], : self.inner[1]]", "edited = edited[..., -self.inner[0] :, -self.inner[1] :]", "off by rows"),
    ),
    *of(
        "fireedit_core/diffusion/guidance.py", f"tests/core/diffusion/test_guidance.py {GOLDEN}",
        ("factors = {\"positive\": text_scale, \"image_only\": image_scale - text_scale, \"negative\": 1 - image_scale}\n    return sum",
         "factors = {\"positive\": text_scale, \"image_only\": 1 - text_scale, \"negative\": 1 - image_scale}\n    return sum", "formula"),
    ),
    *of(
        "fireedit_core/diffusion/timesteps.py", f"{PIPELINE} tests/host/inside/test_timesteps.py",
        ("(1 - start) * 999", "start * 999", "direction"),
        ("(1 - end) * 999", "(1 - end) * 900", "constant"),
    ),
    *of(
        "fireedit_core/diffusion/tati.py", f"tests/core/diffusion/test_tati.py {GOLDEN}",
        ("* (1 + scale) + shift", "* scale + shift", "formula"),
        ("keys = torch.cat([query, self.ln_2(context, time)], dim=1)", "keys = self.ln_2(context, time)", "dropped part"),
        ("chosen + strength * (changed - chosen)", "strength * changed", "formula"),
        ("flip_sin_to_cos=True", "flip_sin_to_cos=False", "setting"),
        ("rows = gate.reshape(-1) > 0.5", "rows = gate.reshape(-1) > -1", "gate"),
    ),
    *of(
        "fireedit_core/diffusion/hvca.py", f"tests/core/diffusion/test_hvca.py {GOLDEN}",
        ("features.dino[i] for i in self.config.dino_levels", "features.dino[i - 1] for i in self.config.dino_levels", "off by one"),
        ("x - x.mean(dim=1, keepdim=True) if self.config.centred", "x - x.mean(dim=2, keepdim=True) if self.config.centred", "axis"),
        ("projection(x.to(dtype)) + embedding", "projection(x.to(dtype))", "dropped part"),
    ),
    *of(
        "fireedit_core/diffusion/visual_attention.py", f"tests/core/diffusion/test_visual_attention.py {GOLDEN}",
        ("query.shape[-1] ** -0.5", "query.shape[1] ** -0.5", "axis"),
        ("mark = self.to_mark(condition.mean(1, keepdim=True)", "mark = self.to_mark(condition[:, :1]", "wrong row"),
        ("height, width = -(-height // 2), -(-width // 2)", "height, width = height // 2, width // 2", "rounding"),
        ("return out + visual_strength * term.to(out.dtype)", "return out + term.to(out.dtype)", "dropped option"),
        ("visual[self.index], where", "visual[0], where", "wrong row"),
    ),
    *of(
        "fireedit_core/diffusion/rows.py", "tests/core/diffusion/test_rows.py",
        ('FLOORS = {"tati": 0.05, "hvca": 0.2}', 'FLOORS = {"tati": 0.005, "hvca": 0.2}', "constant"),
        ("return _power_beside_mean(rows, 0)", "return _power_beside_mean(rows, 1)", "axis"),
    ),
]  # fmt: skip

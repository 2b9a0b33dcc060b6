# SPDX-License-Identifier: GPL-3.0-or-later
"""Confinement: the maths, the wrappers on a MODEL, the masks that come out again."""

from __future__ import annotations

from ..mutant import of

CORE = "tests/core/diffusion/test_confinement.py"
HOST = "tests/host/inside/test_confine.py"

MUTANTS = [
    *of(
        "fireedit_core/diffusion/confinement.py", CORE,
        ("self.strength * (1 - joined(", "self.strength * (joined(", "sign"),
        ("torch.lerp(x0, self.source.expand_as(x0), over", "torch.lerp(self.source.expand_as(x0), x0, over", "swapped"),
        ("if self.mask is None and step >= look_step(self.steps)", "if step >= look_step(self.steps)", "stale state"),
        ("== 0, latents)", "< 1, latents)", "off by one"),
        ("sum(sigma <= s * (1 + 1e-4) for s in sigmas[1:-1])", "sum(sigma < s for s in sigmas[1:-1])", "rounding"),
        ("late_edges * (1 - mask) - 1e-6", "late_edges * mask - 1e-6", "sign"),
        ("(height // cell, width // cell) != tuple(cells)", "(height // cell, height // cell) == tuple(cells)", "check"),
        ("top, left = height % cell // 2, width % cell // 2", "top, left = 0, 0", "place"),
        ("F.max_pool2d(mask[:, None, top", "F.avg_pool2d(mask[:, None, top", "share"),
        ("torch.ones_like(one) if mask is None else mask", "torch.zeros_like(one) if mask is None else mask", "held in the wrong place"),
        ("< LEAST_CONTRAST * change[~inside].mean()", "< 0", "check"),
        ("if float(grown.mean()) > LARGEST_AREA", "if float(grown.mean()) > 2", "check"),
    ),
    *of(
        "nodes/host/confine.py", f"{HOST}::test_every_sampler_keeps_the_outside {HOST}::test_a_run_in_two_parts",
        ("levels = [float(s) for s in sigmas]  # before", "levels = sigmas  # before", "read too late"),
        ("torch.where(self.confinement.outside(latents), self.source.to(latents), latents)", "latents", "no exact end"),
        ("if self.exact and self.sigmas[-1] == 0", "if self.exact", "noise taken for a result"),
        ("first = math.inf if start <= 0 else float", "first = float", "rounding", f"{HOST}::test_the_first_step_is_held_whatever_the_shift"),
        ("if first > 0 and not bool(torch.count_nonzero(noise))", "if False", "check"),
        ("self.source.to(latents), latents)", "self.confinement.source.to(latents), latents)", "scale"),
    ),
    *of(
        "nodes/host/confine.py", f"{HOST}::test_neighbours_in_both_orders {HOST}::test_applying_it_again_replaces_it",
        ("{KEY: ours[KEY]} | ours}", "ours}", "order"),
        ("patched.remove_wrappers_with_key(kind, KEY)", "pass", "doubled"),
    ),
    *of(
        "nodes/host/confine.py", f"{HOST}::test_the_most_explicit_source_counts {HOST}::test_a_source_with_a_hole_is_none "
        f"{HOST}::test_latents_without_frames_fit_those_with_one {HOST}::test_wrong_sizes_and_numbers_are_refused_with_both",
        ("fitting or references)[0]", "references)[0]", "wrong picture"),
        ("and e.get(\"concat_mask\") is None", "", "wrong picture"),
        ("source = source.unsqueeze(2)", "source = source.unsqueeze(1)", "shape"),
        ("if source.shape[0] not in (1, noise.shape[0])", "if False", "check"),
        ("if mask.shape[0] not in (1, noise.shape[0])", "if False", "check"),
    ),
    *of(
        "nodes/confine.py", f"{HOST}::test_a_picture_is_encoded_by_the_vae {HOST}::test_what_no_mask_or_source_can_be_is_refused",
        ("torch.cat([vae.encode(to_host(one[None])) for one in pictures])", "vae.encode(to_host(pictures))", "frames for pictures"),
        ("if not bool(most.any())", "if False", "check"),
        ("if not bool(torch.count_nonzero(samples))", "if False", "check"),
    ),
    *of(
        "nodes/host/confined_masks.py", f"{HOST}::test_the_automatic_mask_finds_the_place_and_comes_out "
        f"{HOST}::test_of_another_latent_no_mask_is_known",
        ("small[row % len(small)]", "small[0]", "row"),
        ("torch.float16).contiguous()", "torch.float32).contiguous()", "type"),
        (" + row.numpy().tobytes()", "", "content"),
    ),
]  # fmt: skip

# SPDX-License-Identifier: GPL-3.0-or-later
"""The conditionings and what else the conditioning node makes of its input."""

from __future__ import annotations

import pytest
import torch

from tests.host.inside.pack import nodes, run  # first: it makes the pack importable
from tests.host.small import CONFIG, INSTRUCTION

from fireedit_pack.nodes import conditioning  # isort: skip
from fireedit_pack.nodes.host import patching  # isort: skip
from fireedit_pack.nodes.pictures import to_core  # isort: skip


def test_conditioning_contract(conds, loaded):
    """Design D3: same keys and shapes on all three."""
    positive, image_only, negative = (c[0] for c in conds.args[:3])
    shapes = [(c[0].shape, {k: v.cond.shape for k, v in c[1]["model_conds"].items()}) for c in (positive, image_only, negative)]
    assert shapes[0] == shapes[1] == shapes[2]
    assert shapes[0][0] == (2, 77, CONFIG.context_size) and set(shapes[0][1]) == {"fireedit_visual", "fireedit_where", "fireedit_gate"}
    gates = [c[1]["model_conds"]["fireedit_gate"].cond.flatten().tolist() for c in (positive, image_only, negative)]
    assert gates == [[1, 1], [0, 0], [0, 0]]
    assert not negative[1]["model_conds"]["fireedit_visual"].cond.any()
    where = [c[1]["model_conds"]["fireedit_where"].cond for c in (positive, image_only, negative)]
    assert torch.allclose(where[0], torch.nn.functional.avg_pool2d(conds.args[4][:, None], 8), atol=1e-5)
    assert where[0].any() and not where[1].any() and not where[2].any()
    assert torch.equal(image_only[0], negative[0]) and torch.equal(image_only[0][:1], image_only[0][1:])
    null = loaded[0].editor.tati.null_embedding
    assert torch.allclose(negative[0][:1], null.float())
    assert "concat_latent_image" in positive[1] and "concat_latent_image" in image_only[1]
    assert "concat_latent_image" not in negative[1] and not conds.args[3]["samples"].any()
    mask, regions = conds.args[4], conds.args[5]
    assert mask.shape == (2, 64, 64) and 0 <= mask.min() and mask.max() <= 1 and len(regions) == 2
    for one in regions:
        assert one.scores.tolist() == sorted(one.scores.tolist(), reverse=True)


def test_a_mask_of_ones_own_moves_the_edit(loaded, tokens, conds):
    handle, model, vae = loaded
    images, region_tokens = tokens
    mask = torch.zeros(1, 64, 64)
    mask[:, 8:24, 40:] = 1
    moved = nodes.FireEditVLMConditioning.execute(handle, region_tokens, images, vae, INSTRUCTION, 0, mask)
    assert torch.equal(moved.args[4].cpu(), mask.expand(2, -1, -1))
    where = moved.args[0][0][1]["model_conds"]["fireedit_where"].cond
    assert where[:, 0, 1:3, 5:].eq(1).all() and where.sum() == 2 * 6
    patched = patching.apply(model, handle, 1, 1, 0, 1)
    assert (run(patched, moved) - run(patched, conds)).abs().max() > 1e-4


def test_a_picture_whose_mask_is_black_is_edited_where_its_instruction_points(loaded, tokens, conds):
    """In a batch of masks, black counts as none for its own row, as it does for a single picture."""
    handle, _, vae = loaded
    images, region_tokens = tokens
    mask = torch.zeros(2, 64, 64)
    mask[0, 8:24, 40:] = 1
    made = nodes.FireEditVLMConditioning.execute(handle, region_tokens, images, vae, INSTRUCTION, 0, mask)
    assert torch.equal(made.args[4][0].cpu(), mask[0])
    assert made.args[4][1].any() and torch.equal(made.args[4][1], conds.args[4][1])


def test_the_share_that_is_edited_is_what_counts_as_edited(loaded, tokens):
    """A sixteenth is marked, a quarter more only faintly, which does not count (`edit_mask`)."""
    handle, _, vae = loaded
    images, region_tokens = tokens
    mask = torch.zeros(1, 64, 64)
    mask[:, :16, :16], mask[:, 32:, 32:] = 1, 0.4
    text = nodes.FireEditVLMConditioning.execute(handle, region_tokens, images, vae, INSTRUCTION, 0, mask).ui["text"][0]
    assert text.count("the edit covers about 6% of the picture") == 2


def test_conditioning_survives_the_hosts_nodes(loaded, conds):
    """Timed and combined conditionings, as the stock nodes make them."""
    import node_helpers

    handle, model, _ = loaded
    patched = patching.apply(model, handle, 1, 1, 0, 1)
    early = node_helpers.conditioning_set_values(conds.args[0], {"start_percent": 0.0, "end_percent": 0.5})
    late = node_helpers.conditioning_set_values(conds.args[0], {"start_percent": 0.5, "end_percent": 1.0})
    timed = type("Timed", (), {"args": (early + late, *conds.args[1:])})()
    assert (run(patched, timed) - run(patched, conds)).abs().max() <= 1e-4


def test_instruction_lines():
    split = conditioning.split_instruction
    assert split(" remove  the cat\n", 1) == ["remove the cat"] and split("a\nb", 2) == ["a", "b"]
    assert split("\na\nb\n\n", 2) == ["a", "b"] and split("a\nb", 1) == ["a b"] and split("a\n\nb", 1) == ["a b"]
    assert split("", 1) == [""] and split("a", 3) == ["a"]
    # rows are matched or refused: joined or shifted, a picture would get another one's instruction
    with pytest.raises(ValueError, match="2 lines came for 3 pictures"):
        split("a\nb", 3)
    with pytest.raises(ValueError, match="3 lines came for 2 pictures"):
        split("a\n\nb", 2)
    with pytest.raises(ValueError, match="line 2 is empty"):
        split("a\n \nb", 3)


def test_pictures():
    assert to_core(torch.rand(2, 5, 6, 4), "x").shape == (2, 3, 5, 6)
    assert to_core(torch.rand(5, 6, 1), "x").shape == (1, 3, 5, 6)
    with pytest.raises(ValueError, match="^A Node: expected an IMAGE"):
        to_core(torch.rand(2, 5, 6, 2), "A Node")


def seen_masks(monkeypatch) -> list[torch.Tensor]:
    """The grounding masks (B, 1, h, w) that the layers of the visual attention get, in order."""
    from fireedit_core.diffusion.visual_attention import VisualAttentionLayer

    seen, forward = [], VisualAttentionLayer.forward

    def watch(self, hidden, projected, where=None, condition=None, grid=None):
        seen.append(where)
        return forward(self, hidden, projected, where, condition, grid)

    monkeypatch.setattr(VisualAttentionLayer, "forward", watch)
    return seen


def test_an_area_cuts_the_mark_and_does_not_squash_it(loaded, conds, monkeypatch):
    """Set Area, and Set Mask with mask bounds, let the UNet see a part of the picture: the mark is that part of the mask."""
    import node_helpers

    handle, model, _ = loaded
    patched = patching.apply(model, handle, 1, 1, 0, 1)
    whole = conds.args[0][0][1]["model_conds"]["fireedit_where"].cond
    area = node_helpers.conditioning_set_values(conds.args[0], {"area": (8, 4, 0, 4), "strength": 1.0, "set_area_to_bounds": False})
    part = type("Part", (), {"args": (area, *conds.args[1:])})()
    seen = seen_masks(monkeypatch)
    run(patched, part, text=1.0, image=1.0, steps=1)
    cut = [where for where in seen if where.shape[-1] == 4]
    assert cut and all(torch.equal(where[:2].cpu(), whole[..., 4:]) for where in cut)
    # a map of another grid than the latent stays whole
    foreign = patching.SpatialCond(whole)
    assert torch.equal(foreign.process_cond(batch_size=2, area=(20, 10, 0, 10)).cond, whole)
    assert foreign.process_cond(batch_size=4, area=None).cond.shape[0] == 4


@pytest.mark.parametrize("working_size", [64, 72, 88, 104, 120])
@pytest.mark.parametrize("block", [1, 2, 3])
def test_deep_shrink_gives_levels_that_no_halving_gives(loaded, tokens, working_size, block):
    """Kohya's Deep Shrink at its defaults: the grid of a level is read, not guessed from its number of tokens."""
    from comfy_extras.nodes_model_downscale import PatchModelAddDownscale

    handle, model, vae = loaded
    images, region_tokens = tokens
    conds = nodes.FireEditVLMConditioning.execute(handle, region_tokens, images, vae, INSTRUCTION, working_size)
    patched = patching.apply(model, handle, 1, 1, 0, 1)
    shrunk = PatchModelAddDownscale.execute(patched, block, 2.0, 0.0, 1.0, True, "bicubic", "bicubic")[0]
    out = run(shrunk, conds)
    assert torch.isfinite(out).all() and (out - run(patched, conds)).abs().max() > 1e-4
    without = PatchModelAddDownscale.execute(model, block, 2.0, 0.0, 1.0, True, "bicubic", "bicubic")[0]
    assert (out - run(without, conds)).abs().max() > 1e-4  # and FireEdit has its effect still


def test_a_picture_of_another_kind_is_said_and_its_probability_is_not_bare(loaded, tokens, monkeypatch):
    """The small bundle states no limit; with one that lies between its two pictures, only the worse is spoken of."""
    from fireedit_core.diffusion.compositing import WorkingSize
    from fireedit_core.diffusion.reconstruction import coarse_error

    handle, _, vae = loaded
    images, region_tokens = tokens
    ui = lambda: nodes.FireEditVLMConditioning.execute(handle, region_tokens, images, vae, INSTRUCTION, 0).ui  # noqa: E731
    text = lambda: ui()["text"][0]  # noqa: E731
    assert "not of the kind" not in text() and "probability" in text()
    plan = WorkingSize.plan(tuple(images.shape[1:3]), handle.options["native_size"])
    shrunk = plan.shrink(images.movedim(-1, 1))
    errors = coarse_error(vae.decode(vae.encode(shrunk.movedim(1, -1))).movedim(-1, 1), shrunk)
    worse = int(errors.argmax())
    monkeypatch.setitem(handle.options, "reconstruction_limit", float(errors.mean()))
    lines = [line for line in text().splitlines() if line.startswith(f"picture {worse + 1}")]
    assert "guess" in lines[0] and "probability" not in lines[0] and "FireEdit Quick Edit" in lines[1]
    assert text().count("not of the kind") == 1
    assert ui()["fireedit_foreign"] == [i == worse for i in range(2)]
    monkeypatch.setitem(handle.options, "reconstruction_limit", float(errors.min()) / 2)  # both, each with its own error
    assert errors[0] != errors[1]
    for i, error in enumerate(errors.tolist()):
        assert any(line.startswith(f"picture {i + 1}: ") and f"misses it by {error:.4f}" in line for line in text().splitlines())

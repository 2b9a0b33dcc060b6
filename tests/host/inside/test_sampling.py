# SPDX-License-Identifier: GPL-3.0-or-later
"""FireEdit Sample's soft hold and FireEdit Multi Turn, on the small bundle with random weights."""

from __future__ import annotations

import re

import pytest
import torch

from tests.host.inside.pack import nodes  # first: it makes the pack importable
from tests.host.small import INSTRUCTION, SIZE

from fireedit_core.diffusion.compositing import edit_mask  # isort: skip
from fireedit_pack.nodes.errors import FireEditNodeError  # isort: skip
from fireedit_pack.nodes.host import guider, patching  # isort: skip


@pytest.fixture(scope="module")
def model(loaded):
    return patching.apply(loaded[1], loaded[0], 1, 1, 0, 1)


def left_half(count: int = 1) -> torch.Tensor:
    mask = torch.zeros(count, SIZE, SIZE)
    mask[:, :, : SIZE // 2] = 1
    return mask


def sample(loaded, model, conds, images, keep="off", mask=None, steps=3, denoise=1.0, sampler="euler"):
    return nodes.FireEditSample.execute(
        model, *conds.args[:3], loaded[2], images, 7, steps, sampler, "simple", 1.0, 1.0, denoise, keep, mask
    ).args


@pytest.mark.parametrize("sampler, steps", [("euler", 1), ("euler", 4), ("euler_ancestral", 4), ("dpmpp_2m", 4)])
def test_soft_holds_the_source_latent_outside(loaded, model, conds, tokens, sampler, steps):
    images = tokens[0]
    source = conds.args[0][0][1]["concat_latent_image"]
    latent, picture, report = sample(loaded, model, conds, images, "soft", left_half(), steps, sampler=sampler)
    free = sample(loaded, model, conds, images, "off", left_half(), steps, sampler=sampler)[0]["samples"]
    held = latent["samples"]
    first_held = (SIZE // 2 + 8) // 8  # the mask is grown and feathered by seven pixels
    assert (held - source)[..., first_held:].abs().max() <= 1e-4 < (free - source)[..., first_held:].abs().max()
    assert (held - source)[..., : SIZE // 16].abs().max() > 0.01
    assert picture.shape == images.shape and "outside" in report


def test_soft_holds_each_picture_outside_of_its_own_mask(loaded, model, conds, tokens):
    images = tokens[0]
    source = conds.args[0][0][1]["concat_latent_image"]
    masks = torch.cat([left_half(), left_half().flip(-1)])
    held = sample(loaded, model, conds, images, "soft", masks)[0]["samples"]
    cells = SIZE // 8
    kept = (slice(cells // 2 + 1, None), slice(0, cells // 2 - 1))
    for off, there, other in zip(held - source, kept, reversed(kept), strict=True):
        assert off[..., there].abs().max() <= 1e-4 and off[..., other].abs().max() > 0.01


def test_soft_lets_other_masks_have_their_say(loaded, model, conds, tokens):
    """Differential Diffusion and its kin sit in the one slot for mask functions; we do not take it."""
    seen = []
    theirs = model.clone()
    theirs.set_model_denoise_mask_function(lambda sigma, mask, extra_options: seen.append(mask) or torch.ones_like(mask))
    with_it = sample(loaded, theirs, conds, tokens[0], "soft", left_half())[0]["samples"]
    assert len(seen) == 3 and 0 < float(seen[0].mean()) < 1
    assert not torch.equal(with_it, sample(loaded, model, conds, tokens[0], "soft", left_half())[0]["samples"])


def test_soft_and_exact_need_a_mask(loaded, model, conds, tokens):
    for keep in ("soft", "exact"):
        with pytest.raises(FireEditNodeError, match=f"keep_outside '{keep}' needs a mask"):
            sample(loaded, model, conds, tokens[0], keep)


@pytest.mark.parametrize("name, value", (("sampler_name", "eular"), ("scheduler", "none"), ("keep_outside", "hard")))
def test_choices_that_come_over_a_wire_are_checked_when_they_run(loaded, model, conds, tokens, name, value):
    """The host asks validate_inputs with None then; an unknown keep_outside acted as off."""
    choices = {"sampler_name": "euler", "scheduler": "simple", "keep_outside": "off"} | {name: value}
    rest = {"seed": 0, "steps": 1, "text_guidance": 1.0, "image_guidance": 1.0}
    with pytest.raises(FireEditNodeError, match=f"^FireEdit Sample: {name} '{value}' is unknown. Choose one of"):
        nodes.FireEditSample.execute(model, *conds.args[:3], loaded[2], tokens[0], denoise=1.0, **rest, **choices)
    with pytest.raises(FireEditNodeError, match=f"^FireEdit Multi Turn: {name} '{value}' is unknown"):
        nodes.FireEditMultiTurn.execute(loaded[0], model, loaded[2], tokens[0], "remove the cat", score_threshold=0.15, **rest, **choices)
    assert nodes.FireEditSample.validate_inputs() is True


@pytest.mark.parametrize("denoise", [0.4, 1.0])
def test_what_the_first_step_sees(loaded, model, conds, tokens, denoise, monkeypatch):
    """Less than 1: the source's latent and noise of the step's sigma on it. All: noise alone, with the variance that there is in all."""
    import comfy.sample

    seen, predict = [], guider.FireEditDualGuider.predict_noise
    watch = lambda self, x, sigma, *more, **named: seen.append((x.cpu(), sigma)) or predict(self, x, sigma, *more, **named)  # noqa: E731
    monkeypatch.setattr(guider.FireEditDualGuider, "predict_noise", watch)
    sample(loaded, model, conds, tokens[0], steps=3, denoise=denoise)
    source = conds.args[0][0][1]["concat_latent_image"]
    noise = comfy.sample.prepare_noise(source, 7)
    x, sigma = seen[0][0], float(seen[0][1][0])
    table = loaded[1].get_model_object("model_sampling").sigmas
    assert len(seen) == 3 and (sigma < 0.3 * float(table[-1]) if denoise < 1 else sigma == float(table[-1]))
    wanted = source + sigma * noise if denoise < 1 else (1 + sigma**2) ** 0.5 * noise
    assert torch.allclose(x, wanted, atol=1e-4)


def test_an_edit_that_is_no_picture_is_refused(loaded, model, conds, tokens, monkeypatch):
    """A VAE in half precision gives NaN at times, which would be saved as black."""
    vae, decode = loaded[2], loaded[2].decode

    def broken(latent):
        made = decode(latent)
        made[1, 3, 5, 0] = float("nan")
        return made

    monkeypatch.setattr(vae, "decode", broken)
    with pytest.raises(FireEditNodeError, match="^FireEdit Sample: the edited picture has values that are not numbers .*--fp32-vae"):
        sample(loaded, model, conds, tokens[0], steps=1)


def test_the_report_is_of_what_changed_where(loaded, model, conds, tokens):
    """By hand, from the pictures that go in and come out."""
    images, mask = tokens[0], left_half()
    _, made, said = sample(loaded, model, conds, images, "off", mask)
    change, region = (made - images).abs().mean(-1), edit_mask(mask)[0] > 0
    inside, outside = float(change[:, region].mean()), float(change[:, ~region].mean())
    assert abs(inside - outside) > 1e-3
    assert f"mean change {inside:.4f} inside the mask ({float(region.float().mean()):.1%} of the picture), {outside:.4f} outside" in said
    whole = sample(loaded, model, conds, images)[2]
    assert re.match(rf"mean change {float((sample(loaded, model, conds, images)[1] - images).abs().mean()):.4f} over the whole", whole)


def turns(loaded, model, images, text, keep="exact", seed=5, steps=2):
    return nodes.FireEditMultiTurn.execute(
        loaded[0], model, loaded[2], images, text, seed, steps, "euler", "simple", 1.0, 1.0, keep, 0.15
    ).args


def test_a_single_turn_is_the_same_as_the_nodes(loaded, model, conds, tokens):
    images = tokens[0]
    last, every, touched, report = turns(loaded, model, images, INSTRUCTION, "off", seed=7, steps=3)
    assert torch.equal(last, sample(loaded, model, conds, images, "off", conds.args[4])[1]) and torch.equal(last, every)
    assert torch.equal(touched, edit_mask(conds.args[4]))
    # what the turn understood, and then what it changed
    assert re.match(rf"1\. {INSTRUCTION}: picture 1: .*probability \d\.\d\d.*; mean change \d\.\d+ inside", report)


@pytest.mark.parametrize("keep", ["off", "soft", "exact"])
def test_every_turn_comes_out_and_nothing_untouched_wears_out(loaded, model, tokens, keep, monkeypatch):
    """The grounding of random weights means everything; here turn 1 means the top left, turn 2 the top right."""
    images, wanted = tokens[0], []
    condition = loaded[0].editor.condition

    def pointed(region_tokens, instructions):
        made = condition(region_tokens, instructions)
        made.mask = torch.zeros_like(made.mask)
        made.mask[:, : SIZE // 4, (SIZE // 2) * len(wanted) : (SIZE // 2) * len(wanted) + SIZE // 4] = 1
        wanted.append(edit_mask(made.mask).cpu())
        return made

    monkeypatch.setattr(loaded[0].editor, "condition", pointed)
    sources = []
    tokenize = nodes.FireEditRegionTokenize.execute
    monkeypatch.setattr(nodes.FireEditRegionTokenize, "execute", lambda h, x, r: sources.append(x.clone()) or tokenize(h, x, r))
    last, every, touched, report = turns(loaded, model, images, "remove the cat\n\n  remove the   dog ", keep)
    assert every.shape == (4, *images.shape[1:]) and torch.equal(every[2:], last) and len(report.splitlines()) == 2
    assert torch.equal(touched, torch.maximum(*wanted))
    assert torch.equal(sources[0], images)
    untouched = (wanted[0] == 0)[..., None].expand_as(images)
    assert torch.equal(sources[1][untouched], images[untouched]) and not torch.equal(sources[1], images)
    if keep == "exact":
        untouched = (touched == 0)[..., None].expand_as(images)
        assert torch.equal(last[untouched], images[untouched])


def test_a_line_with_two_edits_is_two_turns(loaded, model, tokens):
    one = turns(loaded, model, tokens[0], "remove the cat and make the apple red")
    two = turns(loaded, model, tokens[0], "remove the cat\nmake the apple red")
    assert one[3] == two[3] and len(one[3].splitlines()) == 2
    assert all(torch.equal(a, b) for a, b in zip(one[:3], two[:3], strict=True))
    count = len(tokens[0])
    first, second = one[1][:count], one[1][count:]
    assert (first - tokens[0]).abs().max() > 1e-3 < (second - first).abs().max()  # each turn has edited
    only = turns(loaded, model, tokens[0], "remove the cat")
    assert torch.equal(first, only[0]) and not torch.equal(second, turns(loaded, model, tokens[0], "remove the cat\nremove the dog")[0])


def test_turns_say_which_line_is_wrong(loaded, model, tokens):
    with pytest.raises(FireEditNodeError, match="FireEdit Multi Turn: there is no instruction"):
        turns(loaded, model, tokens[0], " \n ")
    other = patching.apply(loaded[1], loaded[0], 1, 1, 0, 1)
    stranger = torch.nn.Identity()
    stranger.encode = lambda x: torch.zeros(2, 8, 3, 3)
    with pytest.raises(FireEditNodeError, match=r"FireEdit Multi Turn: turn 1 \('remove the cat'\): .*this VAE made a latent"):
        nodes.FireEditMultiTurn.execute(
            loaded[0], other, stranger, tokens[0], "remove the cat", 0, 1, "euler", "simple", 1.0, 1.0, "off", 0.15
        )
    assert "FireEdit Multi Turn: sampler_name" in nodes.FireEditMultiTurn.validate_inputs(sampler_name="eular")


def test_every_turn_detects_with_the_threshold_that_is_set(loaded, model, tokens, monkeypatch):
    asked, execute = [], nodes.FireEditRegionDetect.execute.__func__
    monkeypatch.setattr(
        nodes.FireEditRegionDetect, "execute", classmethod(lambda cls, *given: asked.append(given[2:]) or execute(cls, *given))
    )
    nodes.FireEditMultiTurn.execute(
        loaded[0], model, loaded[2], tokens[0], "remove the cat\nremove the dog", 7, 1, "euler", "simple", 1.0, 1.0, "off", 0.37
    )
    assert asked == [(0.37, 0.6, 100)] * 2


def test_a_turn_is_what_is_wanted_and_not_what_is_forbidden(loaded, model, tokens, monkeypatch):
    """The instructions that reach the conditioning, turn by turn."""
    images, asked = tokens[0], []
    execute = nodes.FireEditVLMConditioning.execute.__func__

    def watch(cls, fireedit, region_tokens, image, vae, instruction, working_size, mask=None):
        asked.append(instruction)
        return execute(cls, fireedit, region_tokens, image, vae, instruction, working_size, mask)

    monkeypatch.setattr(nodes.FireEditVLMConditioning, "execute", classmethod(watch))
    text = "don't remove the red cat, remove the blue cat\n1. remove the dog & the apple 2. make it red"
    report = nodes.FireEditMultiTurn.execute(
        loaded[0], model, loaded[2], images, text, 7, 1, "euler", "simple", 1.0, 1.0, "off", 0.15
    )[3]
    assert asked == ["remove the blue cat", "remove the dog", "remove the apple", "make it red"]
    assert "left alone: don't remove the red cat" in report
    for nothing in ("!!!", "don't touch the cat", " \n"):
        with pytest.raises(FireEditNodeError, match="there is (nothing to be done|no instruction)"):
            nodes.FireEditMultiTurn.execute(
                loaded[0], model, loaded[2], images, nothing, 7, 1, "euler", "simple", 1.0, 1.0, "off", 0.15
            )

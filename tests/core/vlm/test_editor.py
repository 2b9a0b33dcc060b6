# SPDX-License-Identifier: GPL-3.0-or-later
from types import SimpleNamespace

import pytest
import torch

from fireedit_core.diffusion.pipeline import make_editor
from fireedit_core.editor import check_instructions, pad_boxes, repeat_tokens
from fireedit_core.regions.record import Regions

SIZE = (48, 80)


@pytest.fixture(scope="module")
def editor(tiny_parts):
    return make_editor(tiny_parts)


def pictures(batch: int = 2) -> torch.Tensor:
    return torch.rand(batch, 3, *SIZE, generator=torch.Generator().manual_seed(0))


def regions(*boxes) -> Regions:
    return Regions(torch.tensor(boxes).float().reshape(-1, 4), torch.ones(len(boxes)), ("object",) * len(boxes), SIZE)


TWO = [regions([0, 0, 20, 20], [40, 10, 80, 48], [10, 10, 30, 40]), regions([5, 5, 15, 25])]


def test_pad_boxes_are_cxcywh_and_nothing_is_the_whole_image():
    boxes, mask = pad_boxes([TWO[0], Regions.empty(SIZE)])
    assert boxes.shape == (2, 3, 4) and mask.tolist() == [[True, True, True], [True, False, False]]
    assert torch.allclose(boxes[0, 1], torch.tensor([60 / 80, 29 / 48, 40 / 80, 38 / 48]))
    assert boxes[1].tolist() == [[0.5, 0.5, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]]


@torch.no_grad()
def test_tokens_of_a_batch(editor):
    tokens = editor.tokenize(pictures(), TWO)
    assert len(tokens) == 2 and tokens.image_size == SIZE and tokens.token_grid == (4, 4)
    assert tokens.region_tokens.shape == (2, 3, 64) and tokens.image_tokens.shape == (2, 16, 64)
    assert tokens.mask.tolist() == [[True, True, True], [True, False, False]]
    alone = editor.tokenize(pictures()[1:], TWO[1:])
    assert torch.allclose(tokens.region_tokens[1:, :1], alone.region_tokens, atol=1e-5)
    assert torch.allclose(tokens.image_tokens[1:], alone.image_tokens, atol=1e-5)


@torch.no_grad()
def test_conditions_of_a_batch_equal_single_runs(editor):
    texts = ["remove the apple on the left now", "make it red"]
    both = editor.condition(editor.tokenize(pictures(), TWO), texts)
    assert both.edit_embedding.shape == (2, 77, 32) and both.null_embedding.shape == (1, 77, 32)
    assert both.visual.shape == both.visual_image_only.shape == (2, 16, 32) and both.mask.shape == (2, *SIZE)
    for row in range(2):
        one = editor.condition(editor.tokenize(pictures()[row : row + 1], TWO[row : row + 1]), texts[row : row + 1])
        for name in ("edit_embedding", "visual", "visual_image_only", "mask"):
            assert torch.allclose(getattr(both, name)[row], getattr(one, name)[0], atol=1e-5), name
        assert torch.allclose(both.regions[row].scores, one.regions[0].scores, atol=1e-6)


@torch.no_grad()
def test_scores_travel_with_their_boxes(editor):
    """The regions come back sorted by the chance of being meant, each box with its own score."""
    tokens = editor.tokenize(pictures()[:1], TWO[:1])
    out = editor.condition(tokens, ["make it red"]).regions[0]
    ids, mask = editor.vlm.encode_text(["make it red"])
    states = editor.vlm(ids, mask, tokens.image_tokens, tokens.region_tokens, tokens.mask)
    head = editor.language["grounding"]
    boxes, _ = pad_boxes(TWO[:1])
    scores = head(states.img, states.regions, tokens.mask, boxes, states.image, (4, 4)).region_scores()[0]
    order = scores.argsort(descending=True)
    assert torch.equal(out.boxes, TWO[0].boxes[order]) and torch.allclose(out.scores, scores[order])


@torch.no_grad()
def test_a_picture_without_regions_among_others(editor):
    out = editor.condition(editor.tokenize(pictures(), [TWO[0], Regions.empty(SIZE)]), ["make it red"])
    assert [len(r) for r in out.regions] == [3, 0] and torch.isfinite(out.edit_embedding).all()
    whole = editor.condition(editor.tokenize(pictures()[1:], [Regions.whole_image(SIZE)]), ["make it red"])
    assert torch.allclose(out.edit_embedding[1:], whole.edit_embedding, atol=1e-5)


@torch.no_grad()
def test_repeated_tokens_are_the_picture_many_times(editor):
    one = editor.tokenize(pictures()[:1], TWO[:1])
    texts = ["make it red", "remove the cat"]
    both = editor.condition(repeat_tokens(one, 2), texts)
    for row, text in enumerate(texts):
        assert torch.allclose(both.edit_embedding[row], editor.condition(one, [text]).edit_embedding[0], atol=1e-5)
        assert torch.allclose(both.visual[row], editor.condition(one, [text]).visual[0], atol=1e-5)
    # what is asked for moves v, but not the v of the branch without text
    assert (both.visual[0] - both.visual[1]).abs().max() > 1e-4
    assert torch.allclose(both.visual_image_only[0], both.visual_image_only[1], atol=1e-6)
    with pytest.raises(ValueError, match="only a single picture"):
        repeat_tokens(editor.tokenize(pictures(), TWO), 2)


def test_instructions_are_checked():
    assert check_instructions(["a"], 3) == ["a"] * 3 and check_instructions(["a", "b"], 2) == ["a", "b"]
    # what is forbidden is left out, and everything that is asked for stays
    text = "don't touch the dog, remove the cat and make the apple red"
    assert check_instructions([text], 1) == ["remove the cat and make the apple red"]
    with pytest.raises(ValueError, match="empty"):
        check_instructions(["a", " \n"], 2)
    with pytest.raises(ValueError, match="3 pictures need one instruction or 3, got 2"):
        check_instructions(["a", "b"], 3)


def test_regions_are_checked(editor):
    with pytest.raises(ValueError, match="2 pictures need as many sets of regions, got 1"):
        editor.tokenize(pictures(), TWO[:1])
    with pytest.raises(ValueError, match="belong to a picture"):
        editor.tokenize(pictures()[:1], [Regions.empty((80, 48))])


@torch.no_grad()
def test_a_detector_is_asked_with_the_documented_thresholds(editor, monkeypatch):
    """Scores from 0.15, overlaps up to 0.6, a hundred regions: what the node's inputs say too."""
    asked = []

    def detect(images, *numbers, **named):
        asked.append((numbers, named))
        return [Regions.empty(SIZE)] * len(images)

    monkeypatch.setattr(editor.detector, "detect", detect)
    editor.detect(pictures(1))
    assert [list(numbers) + list(named.values()) for numbers, named in asked] == [[0.15, 0.6, 100, ""]]


@torch.no_grad()
def test_detect_reports_each_picture(editor):
    done = []
    found = editor.detect(pictures(), max_regions=2, progress=done.append)
    assert done == [1, 2] and len(found) == 2 and all(r.image_size == SIZE and len(r) <= 2 for r in found)


@torch.no_grad()
def test_what_is_untrained_is_left_out(editor, monkeypatch):
    """Without grounding the edit lands in the given regions of a score of at least a half, and everywhere where there is none."""
    monkeypatch.setattr(editor, "untrained", frozenset({"grounding", "hvca"}))
    read = []
    hook = editor.language["qformer"].register_forward_pre_hook(lambda _, given: read.append(given[0]))
    scored = TWO[0].with_scores(torch.tensor([0.9, 0.3, 0.5]))
    out = editor.condition(editor.tokenize(pictures(), [scored, Regions.empty(SIZE)]), ["make it red"])
    hook.remove()
    assert out.visual.shape == (2, 16, 32) and not out.visual.any() and not out.visual_image_only.any()
    assert (read[0][:, -1] == 0).all() and read[0][:, :-1].abs().amax(-1).min() > 0  # the meant region's row, and no other
    wanted = torch.zeros(SIZE)
    wanted[:20, :20] = wanted[10:40, 10:30] = 1
    assert torch.equal(out.mask[0], wanted) and (out.mask[1] == 1).all()
    assert out.regions[0].scores.tolist() == pytest.approx([0.9, 0.5, 0.3])


def test_what_is_not_read_of_a_text(editor, monkeypatch):
    """Six tokens are read, and the prompt's own words are some of them."""

    def told(template):
        monkeypatch.setattr(editor.vlm.img_tokens, "_internal_dict", SimpleNamespace(max_text_tokens=6, prompt_template=template))

    told("{instruction}")
    assert editor.text_limit == 6 and editor.unread_text("remove the red apple left right") == ""
    assert editor.unread_text(" remove the red apple left right make it ") == "make it"
    told("make it {instruction}")
    assert editor.unread_text("remove the red apple left right") == "left right"


def test_unknown_words_are_named_without_punctuation(editor):
    assert editor.unknown_words("Remove the purple Apple, please!") == ["purple", "please"]
    assert editor.unknown_words("make it red.") == [] and editor.unknown_words("... !") == []


def test_the_groups_name_every_module_once_for_a_host(editor):
    """detector, vision, language and injection: together they hold every weight, so nothing is left on the wrong device."""
    everything = {id(p) for p in editor.parameters()}
    groups = [{id(p) for p in g.parameters()} for g in (editor.detector, editor.vision, editor.language, editor.tati)]
    assert set().union(*groups) == everything and sum(map(len, groups)) == len(everything)
    assert not editor.training

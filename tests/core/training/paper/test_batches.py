# SPDX-License-Identifier: GPL-3.0-or-later
from functools import partial

import pytest
import torch

from fireedit_core.checkpoints.bundle import load_components
from fireedit_core.data.formats.registry import FORMATS, load_sources
from fireedit_core.data.mixture import Mixture
from fireedit_core.training.paper.batches import Rows, conversation_ids, edit_rows, loader, mixtures_of
from fireedit_core.vlm import RegionAwareVLM


@pytest.fixture
def rows(config):
    def make(rank: int = 0, world: int = 1, **changes) -> Rows:
        settings = config(**changes)
        edits, talk = mixtures_of(load_sources(settings.sources), partial(Mixture, seed=settings.seed))
        return Rows(edits, talk, settings, rank, world, multiple=16)

    return make


def test_every_dataset_that_can_be_trained_on_takes_part(rows):
    made = rows(batch=16, steps=12)
    wanted = {name for name, f in FORMATS.items() if f.kind not in (None, "conversation") and not f.stream}
    assert {s.name for s in made.edits.sources} == wanted
    seen = {made.edits.where(i).source.name for i in range(16 * 12)}
    assert seen == wanted and [s.name for s in made.talk.sources] == ["llava-instruct"]


def test_processes_share_what_one_process_would_have(rows):
    whole = rows(batch=4, buckets=True, flip=0.5, conversation_rows=2)
    parts = [rows(rank, 2, batch=2, buckets=True, flip=0.5, conversation_rows=1) for rank in range(2)]
    for number in (0, 5):
        (edit, talk), halves = whole[number], [part[number] for part in parts]
        for name in ("source", "target", "mask", "has_mask", "unchanged", "seeds"):
            assert torch.equal(getattr(edit, name), torch.cat([getattr(e, name) for e, _ in halves]))
        assert edit.instructions == [text for e, _ in halves for text in e.instructions]
        assert torch.equal(talk.pictures, torch.cat([t.pictures for _, t in halves]))


def test_reading_ahead_changes_nothing(rows):
    made = rows(batch=2, steps=4)
    for workers in (0, 1):
        for number, (edit, _) in zip(range(1, 4), loader(made, 1, workers), strict=True):
            assert torch.equal(edit.source, made[number][0].source) and torch.equal(edit.seeds, made[number][0].seeds)


def test_a_mirrored_row_is_mirrored_throughout(rows):
    plain, mirrored = rows(batch=12, flip=0.0), rows(batch=12, flip=1.0)
    one, other = plain[0][0], mirrored[0][0]
    flipped = 0
    for i in range(12):
        if torch.equal(one.source[i].flip(-1), other.source[i]):
            assert torch.equal(one.target[i].flip(-1), other.target[i]) and torch.equal(one.mask[i].flip(-1), other.mask[i])
            flipped += 1
        else:
            assert torch.equal(one.source[i], other.source[i]) and torch.equal(one.target[i], other.target[i])
            assert {"left", "right"} & set(one.instructions[i].lower().split())
    assert flipped >= 6


def test_a_test_set_is_not_trained_on(sources):
    from fireedit_core.data.formats.registry import open_entry

    sample = open_entry({"name": "emu", "format": "emu-edit", "files": str(sources.parent / "emu-edit")})[0]
    with pytest.raises(ValueError, match="has no target"):
        edit_rows([sample], [0], 0)


def test_only_answers_are_learnt(bundle):
    c = load_components(bundle)
    vlm = RegionAwareVLM(c["language_model"], c["tokenizer"], c["adapter"], c["region_encoder"], c["img_tokens"])
    turns = [
        (("human", "<image>\nremove the apple"), ("gpt", "the red apple"), ("human", "the left"), ("gpt", "cat")),
        (("human", "add"), ("gpt", "apple")),
    ]
    ids, mask, labels = conversation_ids(vlm, turns, 64)
    words = lambda row: [vlm.tokenizer.convert_ids_to_tokens(int(i)) for i in row]  # noqa: E731
    assert words(ids[0]) == "user remove the apple assistant the red apple user the left assistant cat".split()
    assert words(ids[0][labels[0] >= 0]) == "the red apple cat".split()
    assert mask.sum(1).tolist() == [13, 4] and (labels[1][4:] == -100).all()
    assert conversation_ids(vlm, turns, 5)[0].shape == (2, 5)


def test_the_conversation_s_loss_is_that_of_its_answers(bundle):
    c = load_components(bundle)
    vlm = RegionAwareVLM(c["language_model"], c["tokenizer"], c["adapter"], c["region_encoder"], c["img_tokens"]).eval()
    width = c["img_tokens"].config.hidden_size
    image, regions = torch.randn(1, 4, width), torch.randn(1, 2, width)
    ids, mask, labels = conversation_ids(vlm, [(("human", "remove the apple"), ("gpt", "the red cat"))], 64)
    here = torch.tensor([[True, False]])
    with torch.no_grad():
        loss = vlm.conversation_loss(ids, mask, labels, image, regions, here)
        # by hand: the absent region left out, the model's own head, one answer token after the other
        text = vlm.language_model.get_input_embeddings()(ids)
        logits = vlm.language_model(inputs_embeds=torch.cat([image, regions[:, :1], text], 1)).logits[0, 5:].log_softmax(-1)
        by_hand = -torch.stack([logits[i - 1, ids[0, i]] for i in range(ids.shape[1]) if labels[0, i] >= 0]).mean()
        padded = (torch.nn.functional.pad(x, (0, 3), value=v) for x, v in ((ids, 0), (mask, False), (labels, -100)))
        longer = vlm.conversation_loss(*padded, image, regions, here)
    assert torch.allclose(loss, by_hand, atol=1e-5) and torch.allclose(loss, longer, atol=1e-5)


def test_every_conversation_counts_alike_however_long(bundle):
    c = load_components(bundle)
    vlm = RegionAwareVLM(c["language_model"], c["tokenizer"], c["adapter"], c["region_encoder"], c["img_tokens"]).eval()
    width = c["img_tokens"].config.hidden_size
    image, regions, here = torch.randn(2, 4, width), torch.randn(2, 1, width), torch.ones(2, 1, dtype=torch.bool)
    turns = [(("human", "add"), ("gpt", "apple")), (("human", "add"), ("gpt", "the red cat the left apple the star"))]
    with torch.no_grad():
        both = vlm.conversation_loss(*conversation_ids(vlm, turns, 64), image, regions, here)
        alone = [
            vlm.conversation_loss(*conversation_ids(vlm, turns[i : i + 1], 64), image[i : i + 1], regions[i : i + 1], here[i : i + 1])
            for i in range(2)
        ]
    assert abs(float(alone[0] - alone[1])) > 1e-3 and torch.allclose(both, (alone[0] + alone[1]) / 2, atol=1e-5)

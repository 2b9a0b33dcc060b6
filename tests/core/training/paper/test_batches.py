# SPDX-License-Identifier: GPL-3.0-or-later
import pickle
from collections import Counter
from functools import partial
from types import SimpleNamespace

import pytest
import torch
import yaml

from fireedit_core.checkpoints.bundle import load_components
from fireedit_core.data.formats.reader import DatasetError
from fireedit_core.data.formats.registry import FORMATS, load_sources
from fireedit_core.data.mixture import Mixture, marks
from fireedit_core.data.size_table import SizeTable
from fireedit_core.training.paper.batches import Rows, conversation_ids, edit_rows, loader, mixtures_of
from fireedit_core.training.paper.shapes import WINDOW
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


@pytest.mark.slow
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
            places = {"left", "right"} & set(one.instructions[i].lower().split())
            assert places or plain.edits.where(i).source.kind in ("segmentation", "reasoning")
    assert flipped >= 3


@pytest.fixture
def listed(sources, tmp_path):
    """A YAML file of two sources of edits and one of segmentation, with settings of each row."""

    def make(**settings) -> str:
        found = {row["name"]: row for row in yaml.safe_load(sources.read_text())["sources"]}
        base = sources.parent
        rows = []
        for name in ("magicbrush-hub", "instructpix2pix-folder", "refcoco"):
            paths = [key for key in found[name] if key not in ("name", "format") and (base / str(found[name][key])).exists()]
            row = found[name] | {key: str(base / found[name][key]) for key in paths}
            rows.append(row | settings.get(name.split("-")[0], {}))
        file = tmp_path / f"listed-{len(list(tmp_path.glob('listed-*')))}.yaml"
        file.write_text(yaml.safe_dump(rows))
        return str(file)

    return make


def test_a_source_says_whether_it_is_mirrored_and_how_often_it_is_drawn(rows, listed):
    shares = {"magicbrush": {"share": 1, "flip": False}, "instructpix2pix": {"share": 0}, "refcoco": {"share": 3, "flip": True}}
    file = listed(**shares)
    plain, mirrored = rows(batch=16, flip=0.0, sources=file), rows(batch=16, flip=1.0, sources=file)
    assert plain.edits.shares == {"magicbrush-hub": 0.25, "instructpix2pix-folder": 0.0, "refcoco": 0.75}
    one, other = plain[0][0], mirrored[0][0]
    flipped = {name: set() for name in ("magicbrush-hub", "refcoco")}
    for i in range(16):
        same = torch.equal(one.source[i], other.source[i])
        assert same or torch.equal(one.source[i].flip(-1), other.source[i])
        flipped[plain.edits.where(i).source.name].add(not same)
    assert flipped["magicbrush-hub"] == {False} and True in flipped["refcoco"]
    with pytest.raises(DatasetError, match="magicbrush-hub name their share, instructpix2pix-folder, refcoco do not"):
        rows(sources=listed(magicbrush={"share": 1}))
    with pytest.raises(DatasetError, match="magicbrush-hub: share must be a number of 0 or more, not -1"):
        rows(sources=listed(magicbrush={"share": -1}))
    with pytest.raises(DatasetError, match="refcoco: flip must be true or false, not 'no'"):
        rows(sources=listed(refcoco={"flip": "no"}))


@pytest.mark.parametrize("kind, mirrors", [("edit", True), ("segmentation", False), ("reasoning", False), ("conversation", True)])
def test_sets_that_point_at_places_with_words_are_mirrored_only_if_asked_for(kind, mirrors):
    """Whatever words their sentences have: "guy on r", "2nd from l", "the one closest to us at 3 o clock"."""
    said = [marks(SimpleNamespace(name="a", kind=kind, flip=flip))["mirrors"] for flip in (None, True, False)]
    assert said == [mirrors, True, False]


def test_a_picture_s_size_is_looked_up_once_by_all_processes_and_runs(config, tmp_path, monkeypatch):
    """Two processes with a loader worker each, and a second run, plan the same windows; each opens what nobody has opened yet."""
    settings = config(batch=2, buckets=True)
    opened = Counter()

    def watched(source):
        size = source.reader.size
        monkeypatch.setattr(source.reader, "size", lambda row: opened.update([(source.name, row)]) or size(row))
        return source

    def process(rank):
        sources = [watched(source) for source in load_sources(settings.sources)]
        edits, talk = mixtures_of(sources, partial(Mixture, seed=settings.seed, tables=tmp_path / "sizes"))
        rows = Rows(edits, talk, settings, rank, 2, multiple=16)
        return [rows.windows[number] for number in range(2 * WINDOW)]

    plans = [process(rank) for rank in (0, 1, 0, 1)]
    assert plans[0] == plans[1] == plans[2] == plans[3]
    varying = {source.name for source in load_sources(settings.sources) if source.reader.varies}
    assert varying == {"instructpix2pix-folder"}  # its epochs are other pictures: asked every time
    kept = [count for (name, _), count in opened.items() if name not in varying]
    assert len(kept) >= 20 and set(kept) == {1}
    without, _ = mixtures_of(load_sources(settings.sources), partial(Mixture, seed=settings.seed))
    assert Rows(without, None, settings, 0, 2, multiple=16).windows[3] == plans[0][3]


def test_a_table_of_sizes_lies_on_disk_and_knows_what_it_does_not_know(tmp_path):
    one = SizeTable(tmp_path, "set", 5)
    assert one[4] is None
    one[4], one[0], one[1] = (480, 65535), (1, 1), (70000, 10)
    other = pickle.loads(pickle.dumps(one))
    assert (other[4], other[0], other[1], other[2]) == ((480, 65535), (1, 1), None, None)
    other[2] = (3, 4)
    assert one[2] == (3, 4) and SizeTable(tmp_path, "set", 6)[4] is None and SizeTable(tmp_path, "other", 5)[4] is None


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

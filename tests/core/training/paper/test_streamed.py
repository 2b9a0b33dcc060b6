# SPDX-License-Identifier: GPL-3.0-or-later
"""Batches out of streams: the same on any number of processes and workers, and after a stop."""

from dataclasses import replace

import pytest
import torch
import yaml

from fireedit_core.data.formats.reader import DatasetError
from fireedit_core.data.streaming import Lanes, load_streams
from fireedit_core.data.writers.registry import write
from fireedit_core.training.paper.batches import mixtures_of
from fireedit_core.training.paper.streamed import StreamedRows


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    """Two sources of edits and one of conversations, of 12 rows each, none with fewer than four shards."""
    folder = tmp_path_factory.mktemp("streams")
    file = write(folder, ["pairs", "magicbrush-folder", "llava-instruct"], count=12)
    assert len(yaml.safe_load(file.read_text())["sources"]) == 3
    return file


@pytest.fixture
def rows(config, listed):
    def make(rank: int = 0, world: int = 1, batch: int = 4, talk: int = 2, sources=listed, **changes) -> StreamedRows:
        settings = config(streamed=True, sources=str(sources), batch=batch // world, conversation_rows=talk // world, flip=0.5, **changes)
        edits, said = mixtures_of(load_streams(sources, settings.seed), lambda some, weights: Lanes(some, settings.seed, weights))
        return StreamedRows(edits, said, settings, rank, world)

    return make


def content(batches) -> list[tuple]:
    """What several processes have of one batch, put together."""
    edits, talks = zip(*batches, strict=True)
    one = tuple(torch.cat([getattr(e, name) for e in edits]) for name in ("source", "target", "mask", "seeds"))
    texts = [text for e in edits for text in e.instructions] + [turns for t in talks for turns in t.turns]
    return [*one, torch.cat([t.pictures for t in talks]), texts]


def same(a, b) -> bool:
    return all(torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y for x, y in zip(a, b, strict=True))


@pytest.mark.slow
def test_processes_and_workers_share_what_one_process_would_have(rows):
    whole, halves, workers = rows(), [rows(rank, 2) for rank in range(2)], rows(workers=2)
    assert whole.plans["edits"].count == 4 and halves[1].plans["edits"].own == range(2, 4) and workers.workers == 2
    for _ in range(4):
        wanted = content([whole[0]])
        assert len(set(wanted[3].tolist())) == 4 and same(wanted, content([half[0] for half in halves]))
        assert same(wanted, content([workers[0]]))


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (2, 4)])
def test_another_number_of_processes_goes_on_with_the_next_row(rows, before, after):
    """Over the end of an epoch too: 10 batches of 4 are more than the 24 rows."""
    whole = rows(talk=4)
    wanted = [content([whole[0]]) for _ in range(10)]
    first = [rows(rank, before, talk=4, workers=1) for rank in range(before)]
    found = [content([part[0] for part in first]) for _ in range(4)]
    states = [part.state_dict() for part in first]  # its worker has read on by then
    then = [rows(rank, after, talk=4) for rank in range(after)]
    for part in then:
        part.load_state_dict(yaml.safe_load(yaml.safe_dump(states)))
    found += [content([part[0] for part in then]) for _ in range(6)]
    assert [same(a, b) for a, b in zip(wanted, found, strict=True)] == [True] * 10


def test_no_row_of_an_epoch_is_left_out_or_comes_twice(config, listed, tmp_path):
    """However the rows of a batch are dealt out to lanes."""
    own = tmp_path / "one.yaml"
    entry = next(e for e in yaml.safe_load(listed.read_text())["sources"] if e["format"] == "pairs")
    own.write_text(yaml.safe_dump([entry | {"root": str(listed.parent / entry["root"])}]))
    edits, _ = mixtures_of(load_streams(own, 0), lambda some, weights: Lanes(some, 0, weights))
    made = StreamedRows(edits, None, config(streamed=True, sources=str(own), batch=6))
    seen = [text for _ in range(4) for text in made[0][0].instructions]
    assert made.plans["edits"].count == 6 and sorted(seen[:12]) == sorted(seen[12:])


def test_what_cannot_be_shared_out_is_refused(rows, listed, tmp_path):
    state = [rows(rank, 2, talk=4).state_dict() for rank in range(2)]
    with pytest.raises(DatasetError, match="saved in 4 lanes, which 3 processes cannot share; go on with one of 1, 2, 4"):
        rows(0, 3, batch=12, talk=3).load_state_dict(state)
    with pytest.raises(DatasetError, match="lacks lane"):
        made = rows(talk=4)
        made[0], state[0].clear()
        part = [rows(rank, 2, talk=4) for rank in range(2)]
        part[0][0]
        rows(talk=4).load_state_dict([part[0].state_dict(), part[1].state_dict()])
    with pytest.raises(DatasetError, match="another mixture|of another stream"):
        other = rows(talk=4)
        other[0]
        rows(talk=4, seed=5).load_state_dict([other.state_dict()])
    with pytest.raises(DatasetError, match="no lanes of edits"):
        rows().load_state_dict([{"edits": {"seed": 0}}])
    few = write(tmp_path / "few", ["ultraedit"], count=3)
    with pytest.raises(DatasetError, match="ultraedit: 1 shards cannot be dealt out to 2 processes"):
        edits, _ = mixtures_of(load_streams(few, 0), lambda some, weights: Lanes(some, 0, weights))
        StreamedRows(edits, None, replace(rows().config, conversation_rows=0), 0, 2)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a stage of `make train-tiny` takes the parts that it does not train, and how a vocabulary grows."""

from __future__ import annotations

import pytest
import torch

from fireedit_core.data import RICH_WORLD, WORLD, vocabulary
from fireedit_core.training import __main__ as program
from fireedit_core.training.build import load_parts, save_parts, words_of
from fireedit_core.training.tiny import tiny_components, word_tokenizer
from fireedit_core.vlm.adapter import VisionAdapter

from .small import SIZES

pytestmark = pytest.mark.slow


def adapters():
    return {"adapter": VisionAdapter(4, 8)}


def test_parts_of_this_run_come_before_the_bundles(tmp_path):
    out, bundle = tmp_path / "out", tmp_path / "bundle"
    ours, released, fresh = adapters(), adapters(), adapters()
    with pytest.raises(FileNotFoundError, match="no trained adapter"):
        load_parts(fresh, ["adapter"], out, bundle)
    released["adapter"].half().save_pretrained(bundle / "adapter")
    load_parts(fresh, ["adapter"], out, bundle)
    for wanted, got in zip(released["adapter"].parameters(), fresh["adapter"].parameters(), strict=True):
        assert got.dtype == torch.float32 and torch.equal(got, wanted.float())
    save_parts(ours, out, ["adapter"])
    load_parts(fresh, ["adapter"], out, bundle)
    for wanted, got in zip(ours["adapter"].parameters(), fresh["adapter"].parameters(), strict=True):
        assert torch.equal(got, wanted)


def test_the_command_takes_no_budget_of_nothing_and_says_what_is_missing(monkeypatch, tmp_path, caplog, capsys):
    """`--budget 0` put weights that had learnt nothing into the place of the released ones."""
    with pytest.raises(SystemExit):
        program.main(["--budget", "0h", "--bundle", str(tmp_path / "bundle")])
    assert "a budget looks like 3h or 90m, got '0h'" in capsys.readouterr().err

    def nothing(*given):
        raise FileNotFoundError("no trained vae in here")

    monkeypatch.setattr(program, "build_tiny", nothing)
    assert program.main(["--bundle", str(tmp_path / "bundle")]) == 2 and "no trained vae in here" in caplog.text


def test_a_language_model_keeps_its_words_and_gets_new_ones(tmp_path):
    old = tiny_components(vocabulary(WORLD), SIZES)
    save_parts(old, tmp_path, ["tokenizer", "language_model"])
    known = words_of(tmp_path / "parts" / "tokenizer")
    assert known[:2] == ["[PAD]", "[UNK]"] and set(known[2:]) == set(vocabulary(WORLD))
    new = tiny_components(vocabulary(RICH_WORLD), SIZES, seed=1, known=known)
    load_parts(new, ["language_model"], tmp_path, tmp_path)
    ids = lambda made, text: made["tokenizer"](text)["input_ids"]  # noqa: E731
    rows = lambda made, text: made["language_model"].get_input_embeddings().weight[ids(made, text)]  # noqa: E731
    assert ids(old, "Remove the left apple!") == ids(new, "Remove the left apple!")
    assert torch.equal(rows(old, "remove the left apple"), rows(new, "remove the left apple"))
    unknown = new["tokenizer"].unk_token_id
    assert unknown in ids(old, "the second apple") and unknown not in ids(new, "the second apple")
    assert len(rows(new, "the second apple")) == 3


def test_a_fresh_vocabulary_is_sorted():
    assert words_of_tokenizer(word_tokenizer(["b", "a", "b"])) == ["[PAD]", "[UNK]", "a", "b"]
    assert words_of_tokenizer(word_tokenizer(["b", "a"], ["[PAD]", "[UNK]", "b"])) == ["[PAD]", "[UNK]", "b", "a"]


def words_of_tokenizer(tokenizer):
    ids = tokenizer.get_vocab()
    return sorted(ids, key=ids.get)

# SPDX-License-Identifier: GPL-3.0-or-later
"""CLIP's reading of an instruction, as InstructPix2Pix learned with it."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from transformers import CLIPTextConfig, CLIPTextModel

from fireedit_core.vlm.clip_reader import ClipReader


def test_the_padding_is_seen():
    """diffusers' InstructPix2Pix gives CLIP no attention mask: rows behind the words differ from those that see words alone."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 8}
    tower = CLIPTextModel(CLIPTextConfig(vocab_size=20, bos_token_id=0, eos_token_id=19, **sizes)).eval()
    ids = torch.tensor([[1, 5, 7, 2, 3, 3, 3, 3]])
    mask = (ids != 3).long()
    said = []

    def tokenizer(instructions, **how):
        said.append((instructions, how))
        return {"input_ids": ids, "attention_mask": mask}

    reader = ClipReader(tower, tokenizer)
    with torch.no_grad():
        seen, unseen = (tower(input_ids=ids, **more).last_hidden_state for more in ({}, {"attention_mask": mask}))
        found = reader(["make it red"])
    assert reader.rows == 8 and found.shape == (1, 8, 32) and torch.equal(found, seen)
    assert not torch.allclose(seen, unseen, atol=1e-4)
    told = SimpleNamespace(**said[0][1])
    assert said[0][0] == ["make it red"] and (told.padding, told.truncation, told.max_length) == ("max_length", True, 8)

# SPDX-License-Identifier: GPL-3.0-or-later
"""The autoencoder's stage goes on from weights, and can leave the encoder alone."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("tensorboard")
from fireedit_core.training.autoencoder import make_autoencoder, train_autoencoder
from fireedit_core.training.edit_cache import fingerprint
from fireedit_core.training.loop import StageConfig

pytestmark = pytest.mark.slow


def test_the_decoder_alone_learns_and_latents_stay(tmp_path):
    torch.manual_seed(0)
    start = make_autoencoder()
    before = {name: value.clone() for name, value in start.state_dict().items()}
    config = StageConfig(1000, batch=2, lr=1e-3, warmup=1, cooldown=0.0, ema_decay=0.5, max_steps=2)
    made = train_autoencoder(tmp_path, config, start=start, frozen=("encoder",)).state_dict()
    changed = {name.split(".")[0] for name, value in before.items() if not torch.equal(value, made[name])}
    assert changed == {"decoder"}
    stamp = lambda state: fingerprint({"vae": holder(state)}, ("vae",))  # noqa: E731
    assert stamp(before) == stamp(made)
    assert stamp(before) != stamp(before | {"encoder.conv_out.weight": before["encoder.conv_out.weight"] + 1})


def holder(state):
    return type("Holder", (), {"state_dict": lambda self: state})()

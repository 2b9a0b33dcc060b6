# SPDX-License-Identifier: GPL-3.0-or-later
"""A bundle says of a picture that it is not of its world; and does not say it of its own."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fireedit_core.diffusion.reconstruction import coarse_error, foreign

REPO = Path(__file__).resolve().parents[3]


def test_the_error_is_the_mean_difference_of_averages_over_four_pixels():
    given_back = torch.zeros(2, 3, 8, 8)
    pictures = given_back.clone()
    pictures[0, :, :4] = 0.5  # half the picture off by one half
    pictures[1, :, ::2] = 1.0  # stripes are one half on average: fine detail that is lost counts as a shift of tone only
    assert coarse_error(given_back, pictures).tolist() == pytest.approx([0.25, 0.5])
    stripes = pictures[1:]
    assert coarse_error(torch.full_like(stripes, 0.5), stripes).item() == 0


def test_what_is_foreign():
    errors = torch.tensor([0.01, 0.02, float("nan")])
    assert foreign(errors, 0.015) == [1, 2]
    assert foreign(errors, 0.0) == []  # a bundle that states no limit judges nothing


@pytest.fixture(scope="module")
def pipe():
    from fireedit_core.diffusion.pipeline import FireEditPipeline

    made = FireEditPipeline.from_pretrained(REPO / "models" / "fireedit-tiny")
    made.set_progress_bar_config(disable=True)
    return made


def said(pipe, caplog, picture) -> list[str]:
    caplog.clear()
    with caplog.at_level(logging.WARNING, "fireedit"):
        pipe(picture, "remove the cat", num_inference_steps=1)
    return [r.getMessage() for r in caplog.records if "not of the kind" in r.getMessage()]


def test_the_embedded_bundle_knows_its_examples_and_no_photograph(pipe, caplog):
    skimage = pytest.importorskip("skimage", reason="its wheel brings photographs")
    for example in sorted((REPO / "web" / "examples").glob("*.png")):
        assert said(pipe, caplog, Image.open(example)) == [], example.name
    folder = Path(skimage.__file__).parent / "data"
    for name in ("astronaut.png", "chelsea.png", "coffee.png"):
        (message,) = said(pipe, caplog, Image.open(folder / name))
        assert "FireEdit Quick Edit" in message


def test_a_bundle_without_a_limit_says_nothing(pipe, caplog):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (96, 96, 3), dtype=np.uint8))
    assert len(said(pipe, caplog, noise)) == 1
    limit = pipe.config.reconstruction_limit
    pipe.register_to_config(reconstruction_limit=0.0)
    try:
        assert said(pipe, caplog, noise) == []
    finally:
        pipe.register_to_config(reconstruction_limit=limit)

# SPDX-License-Identifier: GPL-3.0-or-later
"""MagicBrush's own way to make its edits, on an InstructPix2Pix of the true classes, small and random."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from fireedit_core.bulk import EditOptions
from fireedit_core.bulk.editing import edit_pictures
from fireedit_core.checkpoints.convert import Sources, convert
from fireedit_core.diffusion.pipeline import FireEditPipeline
from fireedit_core.evaluation.benchmarks import sampling
from fireedit_core.evaluation.benchmarks.generate import MANIFEST, Settings, generate, noise_seed
from fireedit_core.evaluation.benchmarks.magicbrush import MULTI, MagicBrush
from tests.core.checkpoints import small_ip2p


@pytest.mark.parametrize(
    ("size", "wanted"),
    # (512, 512) of (500, 500); 341.6 rounded up; the long side goes over 512; a side is never lost to rounding
    [((500, 500), (512, 512)), ((640, 427), (512, 384)), ((333, 500), (384, 576)), ((1024, 683), (512, 384)), ((512, 384), (512, 384))],
)  # fmt: skip
def test_sides_are_multiples_of_64_by_instructpix2pix_rule(size, wanted):
    assert sampling.fitted_size(*size) == wanted
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8))
    assert np.array_equal(sampling.fitted(picture), ImageOps.fit(picture, wanted, method=Image.Resampling.LANCZOS))


def test_the_published_numbers_are_filled_in_and_can_be_replaced(bundle):
    way = Settings(sampling="magicbrush").resolved(bundle)
    assert (way.steps, way.text_guidance, way.image_guidance, way.working_size) == (100, 7.5, 1.5, 0)
    assert Settings(sampling="magicbrush", steps=3).resolved(bundle).steps == 3
    assert Settings().resolved(bundle).working_size == 128
    with pytest.raises(ValueError, match="leave --working-size out"):
        Settings(sampling="magicbrush", working_size=256).resolved(bundle)


def test_a_bundle_that_it_cannot_sample_is_refused(data, bundle, tmp_path):
    with pytest.raises(ValueError, match="predicts 'sample': leave --sampling out"):
        generate(MagicBrush(data), bundle, tmp_path, Settings(sampling="magicbrush", steps=1), limit=1)


@pytest.mark.slow
def test_edits_are_made_of_fitted_sources_with_ancestral_euler(tmp_path, data, monkeypatch):
    monkeypatch.setattr(sampling, "fitted_size", lambda width, height: (64, 128))  # small and another shape than the source
    small_ip2p.pipeline(tmp_path / "words").save_pretrained(tmp_path / "ip2p")
    bundle = tmp_path / "bundle"
    convert(bundle, Sources(instructpix2pix=tmp_path / "ip2p"), config=small_ip2p.CONFIG, dtype=torch.float32)
    bench, out = MagicBrush(data), tmp_path / "out"
    made = generate(bench, bundle, out, Settings(seed=1, steps=2, sampling="magicbrush"), (MULTI,), limit=1)
    assert len(made.done) == 3 and not made.failed and json.loads((out / MANIFEST).read_text())["sampling"] == "magicbrush"
    edit = bench.edits((MULTI,))[0]
    first = out / "pictures" / f"{edit.key}.png"
    assert Image.open(first).size == (64, 128)
    pipe = FireEditPipeline.from_pretrained(bundle)
    pipe.set_progress_bar_config(disable=True)
    sampling.ancestral_euler(pipe)
    source = sampling.fitted(Image.open(bench.source_file(edit.row)).convert("RGB"))
    options = EditOptions(2, 7.5, 1.5, 0, "off")
    wanted = edit_pictures(pipe, [source], [edit.instruction], [noise_seed(1, edit.key)], options)[0]
    assert np.array_equal(np.asarray(wanted), np.asarray(Image.open(first)))
    # a run that has nothing to do writes nothing
    fitted = {file: file.stat().st_mtime_ns for file in (out / "sources").rglob("*.png")}
    again = generate(bench, bundle, out, Settings(seed=1, steps=2, sampling="magicbrush"), (MULTI,), limit=1)
    assert len(again.skipped) == 3 and fitted and all(file.stat().st_mtime_ns == then for file, then in fitted.items())
    first.unlink()
    generate(bench, bundle, out, Settings(seed=1, steps=2, sampling="magicbrush"), (MULTI,), limit=1)
    assert first.is_file() and sum(file.stat().st_mtime_ns != then for file, then in fitted.items()) == 1
    with pytest.raises(ValueError, match="other settings"):
        generate(bench, bundle, out, Settings(seed=1, steps=2), (MULTI,), limit=1)

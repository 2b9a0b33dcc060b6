# SPDX-License-Identifier: GPL-3.0-or-later
"""Reason-Edit's numbers held against a restatement of what SmartEdit's script does."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from fireedit_core.data.writers import reasonedit as writer
from fireedit_core.evaluation.benchmarks import commands
from fireedit_core.evaluation.benchmarks.profiles import REASONEDIT_BENCH
from fireedit_core.evaluation.benchmarks.reasonedit import ReasonEditTest
from fireedit_core.evaluation.benchmarks.score import score
from fireedit_core.evaluation.similarity import MetricWeights, cosine

from .conftest import noisy


@pytest.fixture(scope="module")
def data(tmp_path_factory, scenes):
    root = tmp_path_factory.mktemp("reasonedit")
    writer.write_bench(root, scenes)
    return root


def by_hand(source, edit, mask, caption, weights):
    """The five numbers of one edit from its files, as the script gets them."""
    from torchmetrics.image import PeakSignalNoiseRatio, StructuralSimilarityIndexMeasure
    from torchmetrics.regression import MeanSquaredError

    source, edit = (Image.open(x).convert("RGB").resize((256, 256), resample=Image.Resampling.BICUBIC) for x in (source, edit))
    grey = Image.open(mask).convert("L").resize((256, 256), resample=Image.Resampling.NEAREST)
    y, x = np.where(np.array(grey))
    part = edit.crop((int(x.min()), int(y.min()), int(x.max()), int(y.max())))
    outside = (1 - np.asarray(grey, np.int64) / 255)[..., None].repeat(3, 2).astype(np.float32)
    a, b = (torch.tensor(np.array(p).astype(np.float32) / 255 * outside).permute(2, 0, 1) for p in (source, edit))
    clip, lpips = weights.clip("clip-vit-large-patch14"), weights.lpips("lpips/squeezenet1_1")
    with torch.no_grad():
        distance = float(lpips.model(a[None] * 2 - 1, b[None] * 2 - 1))
    return {
        "psnr_background": float(PeakSignalNoiseRatio(data_range=1.0)(a[None], b[None])), "lpips_background": distance,
        "mse_background": float(MeanSquaredError()(a.contiguous(), b.contiguous())),
        "ssim_background": float(StructuralSimilarityIndexMeasure(data_range=1.0)(a[None], b[None])),
        "clip_score": max(0.0, 100 * cosine(clip.picture(part), clip.text(caption))),
    }  # fmt: skip


@pytest.mark.slow
def test_the_numbers_of_the_authors_script(data, weights, tmp_path):
    bench = ReasonEditTest(data)
    assert bench.views == ("understanding", "reasoning") and [len(bench.trials(view)) for view in bench.views] == [5, 1]
    wanted: dict[str, list] = {view: [] for view in bench.views}
    for view in bench.views:
        for number, trial in enumerate(bench.trials(view)):
            _, source, mask, line = bench.reader.rows[trial.row]
            file = tmp_path / f"{trial.key}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            noisy(Image.open(source), number, size=(200, 160)).save(file)
            wanted[view].append(by_hand(source, file, mask, line.split("CLIP: ")[1], weights))
    found = score(bench, REASONEDIT_BENCH, tmp_path, weights)
    for view, rows in wanted.items():
        table = found["views"][view]["tables"]["edit"]["overall"]
        for name in rows[0]:
            assert table[name]["mean"] == pytest.approx(np.mean([row[name] for row in rows]), rel=1e-3, abs=1e-6), (view, name)
    grey = np.asarray(Image.open(bench.reader.rows[0][2]).convert("L"))
    assert ((grey > 0) & (grey < 255)).any()  # masks are JPEG: what is nearly black counts for the box, and multiplies
    assert set(found["views"]["understanding"]["tables"]["edit"]) == {"Left-Right", "Relative-Size", "Mirror", "Color", "Multiple-Objects",
                                                                        "overall"}  # fmt: skip


def test_without_reasoning_there_is_one_table_and_an_empty_mask_is_counted(data, scenes, tmp_path):
    root = tmp_path / "part"
    shutil.copytree(data / "4-Color", root / "4-Color")
    bench = ReasonEditTest(root)
    Image.new("L", scenes[3].source.shape[1::-1]).save(bench.reader.rows[0][2])
    shutil.copy(bench.reader.rows[0][1], tmp_path / "x.png")
    (tmp_path / "out" / "Color").mkdir(parents=True)
    shutil.copy(bench.reader.rows[0][1], tmp_path / "out" / f"{bench.trials('understanding')[0].key}.png")
    found = score(bench, REASONEDIT_BENCH, tmp_path / "out", MetricWeights(None))
    assert bench.views == ("understanding",) and found["views"]["understanding"]["used"] == 1
    assert found["views"]["understanding"]["tables"]["edit"]["overall"]["psnr_background"]["infinite"] == 1


def test_the_command_knows_it(data):
    import argparse

    parser = argparse.ArgumentParser()
    commands.add_commands(parser.add_subparsers(dest="command"), "bundle")
    options = parser.parse_args(["score", "reasonedit-bench", "--data", str(data), "--generated", "x", "--out", "y"])
    assert isinstance(commands.open_benchmark(options), ReasonEditTest)
    edits = commands.open_benchmark(options).edits(("reasoning",))
    assert len(edits) == 1 and "CLIP" not in edits[0].instruction and edits[0].key == "Reasoning/000"

# SPDX-License-Identifier: GPL-3.0-or-later
"""The masked metrics of PIE-Bench and RefEdit-Bench, held against plain computations and the libraries that the authors' scripts call."""

from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from fireedit_core.data.formats import DatasetError
from fireedit_core.data.formats.pie_bench import MAPPING
from fireedit_core.data.writers import pie_bench as pie_writer
from fireedit_core.data.writers import refedit_bench as refedit_writer
from fireedit_core.evaluation.benchmarks import score as scoring
from fireedit_core.evaluation.benchmarks.pie_bench import PieBenchTest
from fireedit_core.evaluation.benchmarks.profiles import PIE_BENCH, REFEDIT_BENCH
from fireedit_core.evaluation.benchmarks.refedit_bench import RefEditBenchTest, scorer_mask
from fireedit_core.evaluation.benchmarks.score import score
from fireedit_core.evaluation.similarity import MetricWeights, cosine, structure_distance

from .conftest import noisy

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pie(tmp_path_factory, scenes):
    root = tmp_path_factory.mktemp("pie")
    pie_writer.write(root, scenes[:3])
    return root


@pytest.fixture(scope="module")
def refedit(tmp_path_factory, scenes):
    root = tmp_path_factory.mktemp("refedit")
    refedit_writer.write(root, scenes[:3])
    return root


def by_hand(source, edit, mask, caption, weights, antialias=True):
    """The seven numbers of one edit (512 x 512 PIL pictures, mask (512, 512) bool), as PnPInversion's calculator gets them."""
    from torchmetrics.image import PeakSignalNoiseRatio, StructuralSimilarityIndexMeasure
    from torchmetrics.regression import MeanSquaredError

    outside = (1 - mask.astype(np.float32))[..., None].repeat(3, axis=2)
    a, b = (torch.tensor(np.asarray(x, np.float32) / 255 * outside).permute(2, 0, 1) for x in (source, edit))
    clip, lpips = weights.clip("clip-vit-large-patch14"), weights.lpips("lpips/squeezenet1_1")
    part = Image.fromarray(np.uint8(np.asarray(edit) * mask[..., None]))
    with torch.no_grad():
        distance = float(lpips.model(a[None] * 2 - 1, b[None] * 2 - 1))
    return {
        "structure_distance": structure_distance(weights.dino("dino-vitb8"), source, edit, antialias),
        "psnr_background": float(PeakSignalNoiseRatio(data_range=1.0)(a[None], b[None])),
        "lpips_background": distance,
        "mse_background": float(MeanSquaredError()(a.contiguous(), b.contiguous())),
        "ssim_background": float(StructuralSimilarityIndexMeasure(data_range=1.0)(a[None], b[None])),
        "clip_score": max(0, 100 * cosine(clip.picture(edit), clip.text(caption))),
        "clip_score_edited": max(0, 100 * cosine(clip.picture(part), clip.text(caption))),
    }  # fmt: skip


def agree(found, wanted):
    for name in wanted[0]:
        mean = np.mean([row[name] for row in wanted])
        assert found["views"]["all"]["tables"]["edit"]["overall"][name]["mean"] == pytest.approx(mean, rel=1e-3, abs=1e-6), name


def test_pie_bench(pie, weights, tmp_path):
    bench, wanted = PieBenchTest(pie), []
    for number, trial in enumerate(bench.trials("all")):
        case = bench.case(trial, PIE_BENCH)
        file = tmp_path / f"{trial.key}.jpg"  # others keep the sources' ending
        file.parent.mkdir(parents=True, exist_ok=True)
        noisy(case.source, number).save(file, quality=95)
        edit = Image.open(file).convert("RGB")
        if number == 1:  # a sheet as the authors save it: the result is its right end
            sheet = Image.new("RGB", (2048, 512))
            sheet.paste(edit, (1536, 0))
            file.unlink()
            sheet.save(file.with_suffix(".png"))
        wanted.append(by_hand(case.source, edit, case.mask, case.target_caption, weights, antialias=False))
    found = score(bench, PIE_BENCH, tmp_path, weights)
    agree(found, wanted)
    same = found["views"]["all"]["tables"]["identity"]["overall"]
    assert same["psnr_background"] == {"n": 0, "mean": None, "interval": None, "infinite": 3} and same["mse_background"]["mean"] == 0
    assert same["ssim_background"]["mean"] == pytest.approx(1, abs=1e-3) and same["structure_distance"]["mean"] == 0
    json.dumps(found, allow_nan=False)
    # a folder that begins below annotation_images is the same
    other = score(bench, PIE_BENCH, tmp_path / "annotation_images", MetricWeights(None))
    assert other["views"]["all"]["used"] == 3
    wrong = by_hand(case.source, edit, np.zeros((512, 512), bool), case.target_caption, weights)
    assert abs(wrong["mse_background"] - wanted[-1]["mse_background"]) > 1e-4  # the mask matters


def test_a_mask_over_everything_leaves_no_background(pie, tmp_path):
    shutil.copytree(pie, tmp_path / "pie")
    rows = json.loads((pie / MAPPING).read_text())
    first = next(iter(rows))
    rows[first]["mask"] = [0, 512 * 512]
    (tmp_path / "pie" / MAPPING).write_text(json.dumps(rows))
    bench = PieBenchTest(tmp_path / "pie")
    # the sources as they are for results: everything else is infinite or nothing
    found = score(bench, PIE_BENCH, tmp_path / "pie", MetricWeights(None))["views"]["all"]
    why = {"the mask leaves no background": 1}
    assert found["unmeasured"] == {"psnr_background": why, "mse_background": why, "ssim_background": why}
    assert found["used"] == 3 and found["tables"]["edit"]["overall"]["mse_background"]["n"] == 2
    assert found["tables"]["edit"]["overall"]["psnr_background"]["infinite"] == 2


def test_the_average_is_over_all_pixels(pie, tmp_path):
    """A change of 0.2 in the background counts by its share of the whole picture, as in the authors' calculator."""
    bench = PieBenchTest(pie)
    trial = bench.trials("all")[0]
    case = bench.case(trial, PIE_BENCH)
    changed = np.asarray(case.source).astype(int)
    changed = np.where(changed > 127, changed - 51, changed + 51).astype(np.uint8)
    (tmp_path / trial.key).parent.mkdir(parents=True)
    Image.fromarray(changed).save(tmp_path / f"{trial.key}.png")
    found = score(bench, PIE_BENCH, tmp_path, MetricWeights(None), limit=1)["views"]["all"]["tables"]["edit"]["overall"]
    share = (~case.mask).mean()
    assert found["mse_background"]["mean"] == pytest.approx(0.04 * share, rel=1e-4)
    assert found["psnr_background"]["mean"] == pytest.approx(-10 * math.log10(0.04 * share), rel=1e-4)


def test_a_number_that_is_none_is_not_infinite(pie, tmp_path, monkeypatch):
    """It stood in the tables as that of an edit without any error."""
    monkeypatch.setattr(scoring, "measure", lambda comparison, metric: math.nan)
    generated = shutil.copytree(pie, tmp_path / "generated")
    found = score(PieBenchTest(pie), PIE_BENCH, generated, MetricWeights(None))["views"]["all"]
    assert found["unmeasured"]["mse_background"] == {"not a number": found["used"]}
    assert {case["scores"]["edit"]["mse_background"] for case in found["cases"]} == {None}


def test_a_judge_s_score_is_no_metric(pie):
    """One that was called like a metric took its place in the table."""
    with pytest.raises(ValueError, match="a judge's scores cannot be called mse_background, as a metric of pie_bench is"):
        score(PieBenchTest(pie), PIE_BENCH, pie, MetricWeights(None), judge={"x": {"mse_background": 1.0, "sc": 2.0}})


def test_two_results_of_one_edit_are_none(pie, tmp_path):
    """A .png of an older run went before the .jpg of this one."""
    generated = shutil.copytree(pie, tmp_path / "generated")
    first = sorted(generated.rglob("*.jpg"))[0]
    Image.open(first).save(first.with_suffix(".png"))
    skipped = score(PieBenchTest(pie), PIE_BENCH, generated, MetricWeights(None))["views"]["all"]["skipped"]
    assert list(skipped) == ["several results"] and skipped["several results"][0].endswith(first.stem)


def test_a_result_of_sixteen_bits_is_not_cut_off(pie, tmp_path):
    generated = shutil.copytree(pie, tmp_path / "generated")
    first = sorted(generated.rglob("*.jpg"))[0]
    first.unlink()
    Image.fromarray(np.full((512, 512), 257 * 100, np.uint16)).save(first.with_suffix(".png"))
    skipped = score(PieBenchTest(pie), PIE_BENCH, generated, MetricWeights(None))["views"]["all"]["skipped"]
    assert list(skipped) == ["more than 8 bits"]


def test_with_a_limit_the_first_alone_are_scored(pie, tmp_path):
    bench = PieBenchTest(pie)
    for trial in bench.trials("all"):
        (tmp_path / trial.key).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(bench.case(trial, PIE_BENCH).source)).save(tmp_path / f"{trial.key}.png")
    found = [score(bench, PIE_BENCH, tmp_path, MetricWeights(None), limit=limit)["views"]["all"] for limit in (1, 0)]
    assert [view["used"] for view in found] == [1, len(bench.trials("all"))] and found[1]["used"] > 1


def test_refedit_bench(refedit, weights, tmp_path, scenes):
    bench, wanted = RefEditBenchTest(refedit, refedit / "cache"), []
    for number, scene in enumerate(scenes[:3]):
        edit = noisy(scene.target, number, (300, 200))
        edit.save(tmp_path / f"{number}.png")
        small, source = (x.resize((512, 512), Image.Resampling.BILINEAR) for x in (edit, Image.fromarray(scene.source)))
        ys, xs = np.nonzero(scene.mask)
        box = np.zeros(scene.mask.shape, bool)
        box[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1] = True
        wanted.append(by_hand(source, small, scorer_mask(box), scene.target_caption, weights))
    found = score(bench, REFEDIT_BENCH, tmp_path, weights)
    agree(found, wanted)
    assert [case["task"] for case in found["views"]["all"]["cases"]] == ["easy"] * 3


def test_the_scorers_mask():
    mask = np.zeros((256, 128), bool)
    mask[100:150, 40:60] = True
    found = scorer_mask(mask)
    wanted = np.zeros((512, 512), bool)  # twice as high, four times as wide, 7 pixels more on each side
    wanted[200 - 7 : 300 + 7, 160 - 7 : 240 + 7] = True
    wanted[[0, -1], :] = wanted[:, [0, -1]] = True
    assert found.shape == (512, 512) and (found != wanted).sum() <= 2 * (114 + 94)  # a line of pixels around it at most
    full = np.zeros((512, 512), bool)
    full[100, 100] = True
    exact = np.zeros((512, 512), bool)
    exact[93:108, 93:108] = True
    exact[[0, -1], :] = exact[:, [0, -1]] = True
    assert np.array_equal(scorer_mask(full), exact)


def test_rows_without_a_usable_name(pie, tmp_path):
    rows = json.loads((pie / MAPPING).read_text())
    for wrong in ("../x.jpg", "/etc/x.jpg", None, "a//b.jpg/../../..", 3):
        rows[next(iter(rows))]["image_path"] = wrong
        (tmp_path / MAPPING).write_text(json.dumps(rows))
        with pytest.raises(DatasetError, match="no usable image_path"):
            PieBenchTest(tmp_path)

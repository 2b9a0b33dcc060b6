# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers about edits."""

from __future__ import annotations

from ..mutant import of

BENCHMARKS = "tests/core/evaluation/benchmarks"
MEASURES = f"{BENCHMARKS}/test_measures.py {BENCHMARKS}/test_similarity.py {BENCHMARKS}/test_masked.py"

MUTANTS = [
    *of(
        "fireedit_core/evaluation/metrics.py", "tests/core/evaluation/test_metrics.py",
        ("OUTSIDE_MARGIN = 2 ", "OUTSIDE_MARGIN = 0 ", "constant"),
        ("INTACT_CHANGE = 0.05", "INTACT_CHANGE = 0.5", "constant"),
        ("wanted = float(((target - source)[mask] ** 2).sum())", "wanted = float(((target - source) ** 2).sum())", "mask"),
        ("np.abs(edit - (source if unedited is None else unit(unedited)))", "np.abs(edit - source)", "dropped option"),
        ("if sample.edit_type not in (\"background\", \"add\") else -1", "", "special case"),
        ("[~sample.mask[y0:y1, x0:x1]]", "[sample.mask[y0:y1, x0:x1] | True]", "mask"),
        ("l2=float(np.square(edit - target).mean())", "l2=float(np.square(edit - source).mean())", "wrong picture"),
    ),
    *of(
        "fireedit_core/evaluation/benchmarks/measures.py", MEASURES,
        ("return cosine(c.clip(metric.weights, c.edit) - c.clip(metric.weights, c.case.source), said)",
         "return cosine(c.clip(metric.weights, c.edit) - c.clip(metric.weights, c.case.reference), said)", "wrong picture"),
        ("return -10 * math.log10(error)", "return -20 * math.log10(error)", "constant"),
        ("outside = ~self._mask()\n", "outside = self._mask()\n", "mask"),
        ("key = (name, id(image))", "key = (name, 0)", "stale key"),
        ("data_range=1.0", "data_range=255.0", "constant"),
    ),
    *of(
        "fireedit_core/evaluation/similarity.py", MEASURES,
        ("DINO_SHORT_SIDE, DINO_CROP = 256, 224", "DINO_SHORT_SIDE, DINO_CROP = 224, 224", "constant"),
        ("self.side, self.side, CLIP_MEAN, CLIP_STD)", "self.side, self.side, IMAGENET_MEAN, IMAGENET_STD)", "constant"),
        ("np.asarray(image.convert(\"RGB\"), np.float32)).permute(2, 0, 1)\n        height",
         "np.asarray(image.convert(\"RGB\"), np.float32) / 255).permute(2, 0, 1)\n        height", "range"),
        (".to(self.device) * 2 - 1 for x in", ".to(self.device) for x in", "range"),
    ),
    *of(
        "fireedit_core/evaluation/scenes.py", "tests/core/evaluation/test_runs.py tests/core/bulk/test_golden.py",
        ("generator=generator) for generator in generators]", "generator=generators[0]) for generator in generators]", "first row"),
        ("seed * 1_000_003 + i)", "seed + i)", "seeds"),
        ("(pipe.unet.config.out_channels, plan.padded[0] // CELL, plan.padded[1] // CELL)",
         "(pipe.unet.config.out_channels, plan.padded[1] // CELL, plan.padded[0] // CELL)", "axis"),
        ("start_percent=settings.start_percent, end_percent=settings.end_percent, regions=regions",
         "start_percent=settings.start_percent, regions=regions", "dropped option"),
    ),
    *of(
        "fireedit_core/evaluation/summary.py", "tests/core/evaluation/test_summary.py",
        ("[(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]", "[1 - CONFIDENCE, CONFIDENCE]", "constant"),
        ("own = [s for s in scores if s.edit_type == kind]", "own = [s for s in scores if s.edit_type <= kind]", "wrong rows"),
    ),
    *of(
        "fireedit_core/evaluation/judge.py", "tests/core/evaluation/test_judge.py",
        ("LEAST_PSNR = 20.0", "LEAST_PSNR = 10.0", "constant"),
        ("np.array([0.299, 0.587, 0.114])", "np.array([0.114, 0.587, 0.299])", "channels"),
    ),
    *of(
        "fireedit_core/evaluation/turns.py", "tests/core/evaluation/test_runs.py",
        ("scenes.seed + k, indices)", "scenes.seed, indices)", "seeds"),
        ("np.abs(edit - start.source / 255.0)[free]", "np.abs(edit - sample.source / 255.0)[free]", "wrong picture"),
        ("current, touched = next_source(original, out.images, edit_mask(out.mask), touched)", "current = out.images", "dropped part"),
    ),
]  # fmt: skip

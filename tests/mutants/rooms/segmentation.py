# SPDX-License-Identifier: GPL-3.0-or-later
"""Masks of regions: what a segmenter sees, which of two keeps a place, how crisp an edge is and how good it looks."""

from __future__ import annotations

from ..mutant import of

MASKS = "tests/core/segmentation/test_region_masks.py"
OWN = "tests/core/segmentation/test_own_segmenters.py"

MUTANTS = [
    *of(
        "fireedit_core/segmentation/segmenter.py", f"{MASKS} {OWN}",
        ("max(margin * wide, margin * tall / 3, least)", "max(margin * wide, least)", "dropped part"),
        ("return torch.minimum(boxes.clamp(min=0), boxes.new_tensor([width, height, width, height]))",
         "return torch.minimum(boxes.clamp(min=0), boxes.new_tensor([height, width, height, width]))", "axis"),
        ("left + int(columns[-1]) + 1", "left + int(columns[-1])", "off by one"),
    ),
    *of("fireedit_core/opencv.py", MASKS, ("(small.clip(0, 1) * 255).round()", "(small.clip(0, 1) * 255)", "rounding")),
    *of(
        "fireedit_core/segmentation/overlaps.py", MASKS,
        ("_SAME = 0.7", "_SAME = 0.2", "constant"),
        ("_NESTED = 0.6", "_NESTED = 0.1", "constant"),
        ("x2, y2 = x2 + wide * (x2 >= size[1] - 1), y2 + tall * (y2 >= size[0] - 1)", "pass", "frame"),
        ('                    continue\n                np.minimum(pixels[far][window], 1 - pixels[near][window]', '                    continue\n                np.minimum(pixels[far][window], pixels[near][window]', "sign"),
        ("torch.minimum(masks[i][window], 1 - masks[j][window])", "masks[i][window]", "dropped part"),
    ),
    *of(
        "fireedit_core/segmentation/matting.py", MASKS,
        ("BAND = 3 ", "BAND = 9 ", "constant"),
        ("colours = small[a:b, c:d].astype(np.float64) / 255", "colours = small[a:b, c:d].astype(np.float64)", "range"),
        ("factor = max(ratio / _STEP, 1.0)", "factor = 1.0", "dropped part"),
        ("made = solve(colours, bits[a:b, c:d], unknown[a:b, c:d])\n        inside = (slice(top - a, bottom - a), slice(left - c, right - c))",
         "made = solve(colours, bits[a:b, c:d], unknown[a:b, c:d])\n        inside = (slice(0, bottom - top), slice(0, right - left))", "place"),
        ("((made - 0.5) * 1.5 + 0.5)", "((made - 0.5) * 0.5 + 0.5)", "constant"),
    ),
    *of(
        "fireedit_core/segmentation/quality.py", MASKS,
        ("_CONTRAST = 12.0", "_CONTRAST = 120.0", "constant"),
        ("edge_share(image, mask, found) * float(box_iou(found[None], box[None].float()))", "edge_share(image, mask, found)", "dropped part"),
        ("mean(1 - weight)\n", "mean(weight)\n", "mask"),
    ),
    *of(
        "fireedit_core/segmentation/region_masks.py", MASKS,
        ("_LEAST, _SPAN = 0.04, 0.5", "_LEAST, _SPAN = 0.04, 0.05", "constant"),
        ("_CLEARLY = 0.1", "_CLEARLY = -0.1", "constant"),
        ("return max(MOST_MASK_PIXELS // (size[0] * size[1]), 1)", "return max(MOST_MASK_PIXELS // (size[0] + size[1]), 1)", "formula"),
        ("float(mask[top:bottom, left:right].sum()) / mask.numel()", "float(mask[top:bottom, left:right].mean())", "formula"),
        ("_ENOUGH, _ENOUGH_BLIND = 0.5, 0.9", "_ENOUGH, _ENOUGH_BLIND = 0.5, 0.5", "constant"),
        ("DOUBTFUL = 0.35", "DOUBTFUL = 0.0", "constant"),
        ("and not kept.boxed[i] and", "and", "box kept"),
    ),
    *of(
        "fireedit_core/segmentation/grabcut.py", f"{MASKS} {OWN}",
        ("x1, y1 = x1 - wide / 2 * open_sides[0], y1 - tall / 2 * open_sides[1]", "pass", "frame"),
        ("keep: float = 0.1", "keep: float = 0.9", "default"),
        ("core: float = 0.5", "core: float = 1.0", "default"),
    ),
    *of(
        "fireedit_core/segmentation/isnet.py", OWN,
        ("else (picture - 128) / 256", "else picture / 256", "range"),
        ("self.logits = self.imagenet = True", "self.logits = True", "range"),
        ("MARGIN, WIDER = 0.15, 0.4", "MARGIN, WIDER = 0.15, 0.15", "constant"),
    ),
]  # fmt: skip

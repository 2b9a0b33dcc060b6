# SPDX-License-Identifier: GPL-3.0-or-later
"""Seeing, reading, pointing."""

from __future__ import annotations

from ..mutant import of

GOLDEN = "tests/core/diffusion/test_golden.py::test_an_edit"

MUTANTS = [
    *of(
        "fireedit_core/vlm/vision.py", f"tests/core/vlm/test_vision.py {GOLDEN}",
        ("IMAGENET_MEAN = (0.485, 0.456, 0.406)", "IMAGENET_MEAN = (0.406, 0.456, 0.485)", "channels"),
        ("CLIP_STD = (0.26862954, 0.26130258, 0.27577711)", "CLIP_STD = (0.229, 0.224, 0.225)", "constant"),
        ("pixels = squash(images, config.image_size, CLIP_MEAN, CLIP_STD)", "pixels = squash(images, config.image_size, IMAGENET_MEAN, CLIP_STD)",
         "constant"),
        ('mode="bicubic", antialias=True', 'mode="bicubic"', "resampling"),
        ("return tuple(x[:, 1:] for x in states)", "return tuple(x[:, :-1] for x in states)", "off by one"),
    ),
    *of(
        "fireedit_core/vlm/grounding.py", f"tests/core/vlm/test_modules.py {GOLDEN}",
        ("meant = occupancy(boxes, logits.softmax(-1)[:, :-1], (grid[0] * cells, grid[1] * cells))",
         "meant = occupancy(boxes, logits.softmax(-1)[:, 1:], (grid[0] * cells, grid[1] * cells))", "off by one"),
        ('bilinear", align_corners=False)[:, 0].sigmoid()', 'bilinear", align_corners=True)[:, 0].sigmoid()', "grid"),
        ('torch.einsum("bn,bnh,bnw->bhw", weights.float(), rows, columns)', 'torch.einsum("bn,bnh,bnw->bhw", weights.float(), columns, rows)',
         "axis"),
        ("self.config.inner_size**-0.5", "self.config.hidden_size**-0.5", "constant"),
        ("query = self.query(img_states.mean(1))", "query = self.query(img_states[:, -1])", "wrong row"),
        ("F.pad(~region_mask, (0, 1), value=False)", "F.pad(~region_mask, (0, 1), value=True)", "mask"),
    ),
    *of(
        "fireedit_core/vlm/adapter.py", f"tests/core/vlm/test_modules.py {GOLDEN}",
        ("((0, 0), (1, 0), (0, 1), (1, 1))", "((0, 0), (0, 1), (1, 0), (1, 1))", "axis"),
    ),
    *of(
        "fireedit_core/vlm/region_encoder.py", f"tests/core/vlm/test_region_encoder.py {GOLDEN}",
        ("rois = corners * corners.new_tensor([width, height, width, height])",
         "rois = corners * corners.new_tensor([height, width, height, width])", "axis"),
        ("sampling_ratio=2, aligned=True", "sampling_ratio=2, aligned=False", "setting"),
        ('(b, 1, h, w)\n        return torch.cat([x, xs, ys], dim=1)', '(b, 1, h, w)\n        return torch.cat([x, ys, xs], dim=1)', "axis"),
        ("[min(index + 1, len(levels) - 1)][:, half + quarter :]", "[min(index + 1, len(levels) - 1)][:, half : half + quarter]", "order"),
        ("* (2 * scale)", "* scale", "constant"),
    ),
    *of(
        "fireedit_core/vlm/region_vlm.py", f"tests/core/vlm/test_region_vlm.py {GOLDEN}",
        ("positions = (mask.cumsum(1) - 1).clamp(min=0)", "positions = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)",
         "positions"),
        ("parts = [text, image_tokens.to(text), region_tokens.to(text), self", "parts = [text, region_tokens.to(text), image_tokens.to(text), self",
         "order"),
        ("torch.cat([first, img[:, :-1]], dim=1)", "torch.cat([first, img[:, 1:]], dim=1)", "off by one"),
        ("(each.sum(1) / (wanted != -100).sum(1).clamp(min=1)).mean()", "each.sum() / (wanted != -100).sum().clamp(min=1)", "formula"),
        ("target = torch.arange(r, device=logits.device) + base.shape[-1]", "target = torch.arange(r, device=logits.device)", "off by"),
    ),
    *of(
        "fireedit_core/editor.py", f"tests/core/vlm/test_editor.py {GOLDEN}",
        ("self.detector.own_threshold if score_threshold is None", "0.05 if score_threshold is None", "default"),
        ("hvca(null.to(asked).expand_as(asked), memory)", "hvca(asked, memory)",
         "wrong branch"),
        ("found.append(regions.with_scores(row[: len(regions)].detach().float().cpu()).sorted_by_score())",
         "found.append(regions.with_scores(scores[0][: len(regions)].detach().float().cpu()).sorted_by_score())", "wrong row"),
        ("half = (grid[0] // 2, grid[1] // 2)", "half = (grid[1] // 2, grid[0] // 2)", "axis",
         "tests/core/vlm/test_editor.py", "the grid is square: DINOv2 sees squares"),
        ("if len(ids) <= config.max_text_tokens:", "if len(ids) < config.max_text_tokens:", "off by one", "tests/core/vlm/test_editor.py",
         "behind the last token stands nothing either way"),
    ),
    *of(
        "fireedit_core/thumbnail.py", "tests/core/vlm/test_editor.py tests/core/test_thumbnail.py tests/host/inside/test_bad_values.py",
        ("OTHER_PICTURE = 0.04", "OTHER_PICTURE = 0.4", "constant"),
        ("OTHER_PICTURE).all())", "OTHER_PICTURE).any())", "any row"),
    ),
    *of(
        "fireedit_core/editor.py", "tests/core/vlm/test_editor.py",
        ("row.float(), (0, 0, 0, width - len(row))", "row.float(), (0, 0, width - len(row), 0)", "place"),
        ("[[i < len(row) for i in range(width)] for row in rows])\n    return", "[[i < len(rows[0]) for i in range(width)] for row in rows])\n    return", "first row"),
        ("[mask_meant(one) for", "[torch.ones(one.image_size) for", "dropped part"),
        ("embedding.new_zeros(len(tokens), hvca", "embedding.new_ones(len(tokens), hvca", "constant"),
        ("torch.cat([states.img, torch.zeros_like(read[:, -1:])], dim=1)", "read", "dropped part"),
        ('config.prompt_template.format(instruction=instruction.strip())\n        ids', 'instruction.strip()\n        ids', "prompt"),
        ("iou_threshold: float = 0.6, max_regions: int = 100,\n        progress", "iou_threshold: float = 0.6, max_regions: int = 10,\n        progress", "default"),
        ("regions=tokens.regions * times, mask", "regions=tokens.regions, mask", "wrong rows"),
    ),
]  # fmt: skip

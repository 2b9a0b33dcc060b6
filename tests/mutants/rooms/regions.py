# SPDX-License-Identifier: GPL-3.0-or-later
"""Detectors, the record, and what other packs speak."""

from __future__ import annotations

from ..mutant import of

RECORD = "tests/core/regions/test_record.py"
DIALECTS = "tests/core/regions/test_dialects.py tests/core/regions/test_selection.py"
DETECTORS = "tests/core/regions/test_detectors.py tests/core/diffusion/test_golden.py"
DETR = "tests/core/regions/test_deformable_detr.py"
NANODET = "tests/core/regions/test_nanodet.py"

MUTANTS = [
    *of(
        "fireedit_core/regions/record.py", RECORD,
        ("[width / self.image_size[1], height / self.image_size[0]] * 2", "[height / self.image_size[0], width / self.image_size[1]] * 2", "axis"),
        ("corners = self.boxes / self.boxes.new_tensor([width, height, width, height])",
         "corners = self.boxes / self.boxes.new_tensor([height, width, height, width])", "axis"),
        ("torch.argsort(self.scores, descending=True, stable=True))", "torch.argsort(self.scores, stable=True))", "order"),
        ("edges = [0, *([0] if flat[0] else []), *changes", "edges = [0, *changes", "first run"),
        ("keep = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])", "keep = (boxes[:, 2] >= boxes[:, 0]) & (boxes[:, 3] >= boxes[:, 1])",
         "bound"),
    ),
    *of(
        "fireedit_core/regions/deformable_detr.py", DETR,
        ("torch.stack(tuple(states[-4:]))", "torch.stack(tuple(states[-5:-1]))", "off by one"),
        ("COCO_SHARE, SA1B_SHARE = 0.4, 0.6", "COCO_SHARE, SA1B_SHARE = 0.6, 0.4", "constant"),
        ("ANCHOR_SIDE = 0.05", "ANCHOR_SIDE = 0.5", "constant"),
        ("torch.cat([_sine(centres[:, 1], d_model // 2), _sine(centres[:, 0], d_model // 2)]",
         "torch.cat([_sine(centres[:, 0], d_model // 2), _sine(centres[:, 1], d_model // 2)]", "axis"),
        ("return corners * corners.new_tensor([width, height, width, height]), output",
         "return corners * corners.new_tensor([height, width, height, width]), output", "axis"),
        ("IMAGENET_STD = (0.229, 0.224, 0.225)", "IMAGENET_STD = (0.5, 0.5, 0.5)", "constant"),
        ("report = (deltas[-2] + torch.logit(references, eps=1e-5)).sigmoid()", "report = references", "formula"),
        ('"ij")[::-1], dim=-1)', '"ij"), dim=-1)', "axis"),
        ("query_position = embedded[..., : features.shape[1]]", "query_position = embedded[..., features.shape[1] :]", "half"),
    ),
    *of(
        "fireedit_core/regions/nanodet.py", NANODET,
        ("image.flip(1) * 255", "image * 255", "channel order"),
        ("nn.LeakyReLU(0.1)", "nn.LeakyReLU(0.2)", "constant"),
        ("torch.cat([self.second(x), x], dim=1)", "torch.cat([x, self.second(x)], dim=1)", "order"),
        ("[image.shape[-1], image.shape[-2]] * 2", "[image.shape[-2], image.shape[-1]] * 2", "axis"),
        ("device=bins.device) + 0.5) * stride", "device=bins.device)) * stride", "half a cell"),
        ("for i in (1, 0):", "for i in (0, 1):", "order"),
    ),
    *of(
        "fireedit_core/regions/deformable_attention.py", DETR,
        ("[(width, height) for height, width in shapes]", "[(height, width) for height, width in shapes]", "axis"),
        ("offsets / self.points * anchor[..., 2:] * 0.5", "offsets / self.points * anchor[..., 2:]", "constant"),
        ("(2 * locations[:, :, :, level] - 1)", "(2 * locations[:, :, :, 0] - 1)", "first row"),
        ('padding_mode="zeros", align_corners=False)', 'padding_mode="border", align_corners=False)', "setting"),
    ),
    *of(
        "fireedit_core/regions/detector.py", DETECTORS,
        ("side: int, fill: float = 0.5", "side: int, fill: float = 0.0", "default"),
        ("size[1] / width, size[0] / height] * 2)\n    return (boxes - ", "size[1] / width, size[0] / height] * 2)\n    return (boxes + ", "sign"),
        ("return height, width, (side - width) // 2, (side - height) // 2", "return height, width, (side - height) // 2, (side - width) // 2", "axis"),
        ("keep = (scores > score_threshold)", "keep = (scores > 0.15)", "dropped option"),
        ("iou_threshold)[:max_regions]]", "iou_threshold)]", "dropped option"),
        ("else tuple(labels[i] for i in indices.tolist())", "else tuple(labels[: len(indices)])", "wrong row",
         "tests/core/regions/test_detectors.py tests/core/regions/test_own_detectors.py"),
    ),
    *of(
        "fireedit_core/regions/dialects.py", DIALECTS,
        ("(x1, y1, x2 - x1, y2 - y1) if layout == \"xywh\"", "(x1, y1, x2, y2) if layout == \"xywh\"", "layout"),
        ("zip(numbers, (height, width, height, width), strict=True))\n        box", "zip(numbers, (width, height, width, height), strict=True))\n        box", "axis"),
        ("piece[top - y1 : bottom - y1, left - x1 : right - x1]", "piece[: bottom - top, : right - left]", "off by rows"),
        ("int(columns[-1]) + 1, int(rows[-1]) + 1]", "int(columns[-1]), int(rows[-1])]", "off by one"),
        ("structure=np.ones((3, 3))", "structure=None", "neighbours"),
        ("else [value] * count", "else [value[0]] * count", "first row"),
        ("round((crop_factor - 1) * side / 2)", "round((crop_factor - 1) * side)", "constant"),
        ("grow, blur = feather // 2, feather - feather // 2", "grow, blur = feather, feather", "constant"),
    ),
    *of(
        "fireedit_core/regions/selection.py", "tests/core/regions/test_selection.py",
        (".prod(1) / (height * width)", ".prod(1) / (width * width)", "axis"),
        ("torch.where(keep, scores, -torch.inf), descending=True", "scores, descending=True", "mask"),
        ("mask[max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)] = 1", "mask[max(x1, 0) : max(x2, 0), max(y1, 0) : max(y2, 0)] = 1", "axis"),
    ),
    *of(
        "fireedit_core/regions/suppression.py", "tests/core/regions/test_detectors.py tests/core/regions/test_selection.py",
        ("> iou_threshold\n    alive", ">= iou_threshold\n    alive", "bound", "tests/core/regions/test_detectors.py",
         "two boxes that overlap by exactly the threshold do not happen"),
        ("shared / (area_a[:, None] + area_b[None] - shared)", "shared / (area_a[:, None] + area_b[None])", "formula",
         "tests/core/regions tests/core/evaluation/test_metrics.py"),
    ),
    *of(
        "fireedit_core/regions/choice.py", "tests/core/regions/test_choice.py",
        ("if row < len(kept) and kept[row] not in self.moved:", "if row < len(kept):", "stale mask"),
        ("[True] * len(boxes)", "[False] * len(boxes)", "dropped part"),
        ("masks[row, y1:y2, x1:x2] = 1", "masks[row, x1:x2, y1:y2] = 1", "axis"),
    ),
    *of(
        "fireedit_core/regions/ultralytics_detector.py", "tests/core/regions/test_own_detectors.py",
        ("_GREY = 114 / 255", "_GREY = 0.0", "constant"),
        ("left, top = round(-corners[0] * scale), round(-corners[1] * scale)", "left, top = 0, 0", "offset"),
    ),
    *of(
        "fireedit_core/regions/yolo.py", DETECTORS,
        ("torch.cat([centre - extent / 2, centre + extent / 2], dim=1).transpose(1, 2)\n",
         "torch.cat([centre - extent, centre + extent], dim=1).transpose(1, 2)\n", "constant"),
    ),
]  # fmt: skip

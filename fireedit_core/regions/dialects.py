# SPDX-License-Identifier: GPL-3.0-or-later
"""`Regions` to and from what other nodes speak: SEGS, BBOX (xywh and xyxy), BOUNDING_BOX dicts, MASK and JSON.

Every reader accepts nested input (batches of one, tensors, arrays) and takes the size of the picture as
(height, width), because most of these types do not carry it.
"""

from __future__ import annotations

import json
import math
from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .layouts import BBOX_LAYOUTS, check_fits, check_layout, to_xyxy
from .record import OBJECT_LABEL, Regions

__all__ = [
    "BBOX_LAYOUTS", "SEG", "feather_mask", "from_bboxes", "from_bounding_boxes", "from_json", "from_mask", "from_segs", "same_shape",
    "split_by_picture", "to_bboxes", "to_bounding_boxes", "to_json", "to_mask", "to_segs",
]  # fmt: skip

# The fields of the Impact Pack's SEG, in its order. Its nodes read fields by name, so any namedtuple will do.
SEG = namedtuple(
    "SEG",
    ["cropped_image", "cropped_mask", "confidence", "crop_region", "bbox", "label", "control_net_wrapper"],
    defaults=[None],
)


MOST_PARTS = 256  # regions of one mask; the language model reads a hundred at the most
MOST_MASK_PIXELS = 2**28  # of the masks of one picture together, a gigabyte of float32

# SEGS ----------------------------------------------------------------------------------------------------------------


def to_segs(
    regions: Regions, image: Tensor | None = None, crop_factor: float = 1.0
) -> tuple[tuple[int, int], list[SEG]]:
    """Impact Pack SEGS: ((height, width), [SEG, ...]) with whole-pixel boxes and float32 masks (h, w) of the crop.

    Args:
        image: optional host picture (1, H, W, 3) 0..1; its crops are put into the SEGs.
        crop_factor: crop region = box enlarged by this, inside the picture.
    """
    height, width = regions.image_size
    if image is not None:
        regions.check_image((image.shape[-3], image.shape[-2]))
    segs = []
    for i, (x1, y1, x2, y2) in enumerate(_whole_pixels(regions)):
        grow_x, grow_y = (round((crop_factor - 1) * side / 2) for side in (x2 - x1, y2 - y1))
        left, top = max(x1 - grow_x, 0), max(y1 - grow_y, 0)
        right, bottom = min(x2 + grow_x, width), min(y2 + grow_y, height)
        if regions.masks is None:
            mask = np.zeros((bottom - top, right - left), np.float32)
            mask[y1 - top : y2 - top, x1 - left : x2 - left] = 1.0
        else:
            mask = regions.masks[i, top:bottom, left:right].float().cpu().numpy()
        crop = None if image is None else image.reshape(-1, height, width, 3)[:1, top:bottom, left:right].cpu().numpy()
        score = float(regions.scores[i])
        segs.append(SEG(crop, mask, score, (left, top, right, bottom), (x1, y1, x2, y2), regions.labels[i], None))
    return (height, width), segs


def from_segs(segs: Any, image_size: tuple[int, int] | None = None, frame: int = 0, frames: int = 1) -> Regions:
    """Any pack's SEGS -> `Regions` with masks (a SEG without mask gives its box), best score first. One whose mask is a filled rectangle is
    `boxed` too: detectors of boxes write those, grown or not, and nobody cut anything out.

    Args:
        image_size: (height, width) to scale to, each axis by its own ratio; None keeps the size that the SEGS name.
        frame, frames: which picture of how many this is for; a SEG may have a mask (frames, h, w) for each, as detectors of moving
            pictures make it.

    Raises:
        ValueError: if the value has not the form ((height, width), [SEG, ...]), or a SEG has masks of another number of pictures or with
            values that are not finite.
    """
    try:
        (height, width), items = segs
        height, width, items = int(height), int(width), list(items)
    except (TypeError, ValueError):
        raise ValueError(
            f"SEGS must be ((height, width), [SEG, ...]) as the Impact Pack makes them, got {type(segs).__name__}."
        ) from None
    boxes, scores, labels, boxed = [], [], [], []
    masks = torch.zeros(len(items), height, width)
    for i, seg in enumerate(items):
        crop = _numbers(_field(seg, "crop_region", 3))
        box = _numbers(_field(seg, "bbox", 4)) or crop
        if len(box) != 4:
            raise ValueError(f"SEGS: entry {i} has no bbox or crop_region of four numbers.")
        boxes.append(box)
        scores.append((_numbers(_field(seg, "confidence", 2)) or [1.0])[0])
        labels.append(str(_field(seg, "label", 5) or OBJECT_LABEL))
        mask = _field(seg, "cropped_mask", 1)
        if mask is None:
            _paste(masks[i], torch.ones(1, 1), box)
        else:
            _paste(masks[i], _mask_of_frame(mask, i, frame, frames), crop or box)
        boxed.append(_is_rectangle(masks[i]))
    result = Regions(_tensor(boxes), torch.tensor(scores), tuple(labels), (height, width), masks if items else None, boxed=boxed)
    return (result if image_size is None else result.scaled_to(image_size)).sorted_by_score()


def same_shape(one: tuple[int, int], two: tuple[int, int]) -> bool:
    """Whether two sizes (height, width) are of one shape, but for rounding to whole pixels."""
    off = abs(one[0] * two[1] - one[1] * two[0])
    return off <= max(*one, *two) or off <= 0.01 * one[0] * two[1]


def _field(seg: Any, name: str, position: int) -> Any:
    if isinstance(seg, Mapping):
        return seg.get(name)
    if hasattr(seg, name):
        return getattr(seg, name)
    return seg[position] if isinstance(seg, Sequence) and len(seg) > position else None


def _mask_of_frame(mask: Any, entry: int, frame: int, frames: int) -> Tensor:
    """(h, w) of a SEG's mask: (h, w), or (n, h, w) with one for all pictures or one for each."""
    mask = torch.as_tensor(np.asarray(mask.cpu() if isinstance(mask, Tensor) else mask), dtype=torch.float32)
    if not bool(torch.isfinite(mask).all()):
        raise ValueError(f"SEGS: the mask of entry {entry} has values that are not numbers (NaN or infinite).")
    each = mask.reshape(-1, *mask.shape[-2:])
    if len(each) not in (1, frames):
        raise ValueError(
            f"SEGS: entry {entry} has masks of {len(each)} pictures, but there {'is 1' if frames == 1 else f'are {frames}'}. Connect the "
            "pictures that the SEGS were made of."
        )
    return each[frame if len(each) > 1 else 0]


def _is_rectangle(mask: Tensor) -> bool:
    """Whether a mask (H, W) is 1 on a rectangle and 0 beside it."""
    marked = mask > 0
    rows, columns = int(marked.any(1).sum()), int(marked.any(0).sum())
    return rows > 0 and int(marked.sum()) == rows * columns and bool((mask[marked] == 1).all())


def _paste(canvas: Tensor, piece: Tensor, box: Sequence[float]) -> None:
    """Put a crop's mask where it belongs; what lies outside the picture is cut off."""
    height, width = canvas.shape
    x1, y1, x2, y2 = math.floor(box[0]), math.floor(box[1]), math.ceil(box[2]), math.ceil(box[3])
    if x2 <= x1 or y2 <= y1:
        return
    if tuple(piece.shape) != (y2 - y1, x2 - x1):
        piece = F.interpolate(piece[None, None], size=(y2 - y1, x2 - x1), mode="nearest")[0, 0]
    left, top, right, bottom = max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)
    if right > left and bottom > top:
        canvas[top:bottom, left:right] = piece[top - y1 : bottom - y1, left - x1 : right - x1].clamp(0, 1)


# BBOX and BOUNDING_BOX -----------------------------------------------------------------------------------------------


def to_bboxes(regions: Regions, layout: str) -> list[tuple[int, int, int, int]]:
    """BBOX: a list of whole-pixel tuples, `layout` "xywh" (KJNodes) or "xyxy" (Florence2)."""
    check_layout(layout)
    pixels = _whole_pixels(regions)
    return [(x1, y1, x2 - x1, y2 - y1) if layout == "xywh" else (x1, y1, x2, y2) for x1, y1, x2, y2 in pixels]


def from_bboxes(bboxes: Any, image_size: tuple[int, int], layout: str) -> Regions:
    """BBOX in any nesting -> `Regions`, best score first.

    Accepts a tuple, a list of tuples, lists of lists, arrays, tensors (..., 4) and Florence2's {"bboxes", "labels"};
    dicts of the BOUNDING_BOX kind are accepted too, whatever the layout, and the core's drawn elements ({"bbox": [ymin, xmin,
    ymax, xmax] in 0..1000, "desc"}). The type does not say which of the two layouts it holds, so the caller must.

    Raises:
        ValueError: naming the entry that is no box, or cannot lie in the picture (`layouts.check_fits`).
    """
    check_layout(layout)
    rows = list(_rows(bboxes, layout, image_size))
    for given in ("xywh", "xyxy"):
        check_fits([row[3] for row in rows if row[4] == given], image_size, given)
    boxes = _tensor([row[0] for row in rows])
    scores = torch.tensor([row[1] for row in rows], dtype=torch.float32)
    return Regions(boxes, scores, tuple(row[2] for row in rows), image_size).sorted_by_score()


def split_by_picture(value: Any, count: int, one_each: bool = True) -> list[Any]:
    """Boxes of `count` pictures: one entry each where `value` is a list of so many lists of boxes, else the same for all.

    Args:
        one_each: what is meant by a flat list of just so many boxes (`is_one_each`).

    Raises:
        ValueError: for the core's BOUNDING_BOX of another number of pictures; a single one serves all.
    """
    value = _unstacked(value)
    if one_each and is_one_each(value, count):
        return [[box] for box in value]
    frames = isinstance(value, (list, tuple)) and len(value) > 1 and all(map(_is_frame, value))
    # nested lists of numbers are ambiguous, lists of lists of dicts are not
    core = frames and any(isinstance(box, Mapping) for frame in value if isinstance(frame, (list, tuple)) for box in frame)
    if core and len(value) != count:
        raise ValueError(f"boxes of {len(value)} pictures came for {count}. Give a list per picture, or one list for all of them.")
    return list(value) if frames and len(value) == count else [value] * count


def is_one_each(value: Any, count: int) -> bool:
    """Whether boxes are a flat list of as many as there are pictures: either one for each, as KJNodes has those of a batch, or all of them
    for every picture. Dicts are never meant so: the core's have a list per picture."""
    rows = _unstacked(value)
    flat = isinstance(rows, (list, tuple)) and all(not _is_frame(row) and len(_numbers(row)) >= 4 for row in rows)
    return flat and len(rows) == count > 1


def _unstacked(value: Any) -> Any:
    """Boxes in a tensor or array as the list of its rows; a single box and anything else as it is."""
    return list(value) if isinstance(value, (Tensor, np.ndarray)) and value.ndim > 1 else value


def _is_frame(value: Any) -> bool:
    """Whether a value is the boxes of one picture, rather than one box."""
    if isinstance(value, (Tensor, np.ndarray)):
        return value.ndim > 1
    return (isinstance(value, (list, tuple)) and not _numbers(value)) or (isinstance(value, Mapping) and "bboxes" in value)


def to_bounding_boxes(regions: Regions) -> list[dict[str, Any]]:
    """Core BOUNDING_BOX dicts of one picture: x, y, width, height (whole pixels), label, score.

    The label stands in `metadata` too: that is what nodes that draw, edit or layer boxes keep and show.
    """
    return [
        {"x": x, "y": y, "width": w, "height": h, "label": label, "score": float(score), "metadata": {"desc": label}}
        for (x, y, w, h), label, score in zip(
            to_bboxes(regions, "xywh"), regions.labels, regions.scores.tolist(), strict=True
        )
    ]


def from_bounding_boxes(value: Any, image_size: tuple[int, int]) -> list[Regions]:
    """Core BOUNDING_BOX: one dict, the dicts of one picture, or a list of such lists -> one `Regions` per picture."""
    if isinstance(value, Mapping) or not value or not all(isinstance(frame, (list, tuple)) for frame in value):
        value = [value]
    return [from_bboxes(frame, image_size, "xywh") for frame in value]


def _rows(value: Any, layout: str, image_size: tuple[int, int]):
    """Yields (xyxy, score, label, the four numbers as they came, their layout) of every box in a nested value."""
    if value is None:
        return
    if isinstance(value, (Tensor, np.ndarray)):
        value = value.tolist()
    if isinstance(value, Mapping):
        yield from _rows_of_dict(value, layout, image_size)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        numbers = _numbers(value)
        if len(numbers) >= 4 and len(numbers) == len(value):
            score = numbers[4] if len(numbers) > 4 else 1.0
            yield to_xyxy(numbers[:4], layout), score, OBJECT_LABEL, numbers[:4], layout
        elif numbers and len(numbers) == len(value):
            raise ValueError(f"BBOX: a box needs four numbers ({layout}), got {list(value)!r}.")
        else:
            for item in value:
                yield from _rows(item, layout, image_size)
    else:
        raise ValueError(f"BBOX: expected boxes as tuples, lists, dicts or tensors, got {type(value).__name__}.")


def _rows_of_dict(value: Mapping[str, Any], layout: str, image_size: tuple[int, int]):
    extra = value.get("metadata") if isinstance(value.get("metadata"), Mapping) else {}
    if "bboxes" in value:  # Florence2
        labels = value.get("labels") or []
        if not isinstance(labels, (list, tuple, str)):
            raise ValueError(f"BBOX: labels must be a list of names, got {type(labels).__name__}.")
        for i, (box, score, label, *came) in enumerate(_rows(value["bboxes"], layout, image_size)):
            yield box, score, labels if isinstance(labels, str) else str(labels[i]) if i < len(labels) else label, *came
    elif {"x", "y", "width", "height"} <= set(value):
        box = _numbers([value[key] for key in ("x", "y", "width", "height")])
        if len(box) != 4:
            raise ValueError(f"BOUNDING_BOX: x, y, width and height must be numbers, got {dict(value)!r}.")
        score, label = (value.get(key, extra.get(key)) for key in ("score", "label"))
        # the core's drawn boxes carry their name as a description
        label = str(label or extra.get("desc") or extra.get("text") or OBJECT_LABEL)
        yield to_xyxy(box, "xywh"), 1.0 if score is None else float(score), label, box, "xywh"
    elif "bbox" in value:  # the core's drawn elements: 0..1000, rows before columns
        numbers = _numbers(value["bbox"])
        if len(numbers) != 4:
            raise ValueError(f"an element needs 'bbox' with ymin, xmin, ymax, xmax in 0..1000, got {value['bbox']!r}.")
        height, width = image_size
        top, left, bottom, right = (v / 1000 * side for v, side in zip(numbers, (height, width, height, width), strict=True))
        box = [min(left, right), min(top, bottom), max(left, right), max(top, bottom)]
        yield box, 1.0, str(value.get("desc") or value.get("text") or OBJECT_LABEL), box, "xyxy"
    else:
        raise ValueError(f"BOUNDING_BOX needs the keys x, y, width and height, got {sorted(map(str, value))}.")


# MASK ----------------------------------------------------------------------------------------------------------------


def to_mask(regions: Regions, feather: int = 0) -> Tensor:
    """The union of the regions' masks (or boxes) as (H, W) float 0..1.

    `feather` pixels outside the union fade from 1 to 0; inside it stays 1, and beyond it is exactly 0.
    """
    height, width = regions.image_size
    mask = torch.zeros(height, width)
    if regions.masks is not None and len(regions):
        mask = regions.masks.float().amax(dim=0).cpu().clamp(0, 1)
    else:
        for x1, y1, x2, y2 in _whole_pixels(regions):
            mask[y1:y2, x1:x2] = 1.0
    return feather_mask(mask, feather)


def feather_mask(mask: Tensor, feather: int) -> Tensor:
    """Fade (H, W) or (B, H, W) 0..1 outwards over `feather` pixels: 1 stays 1, farther away stays 0."""
    if feather <= 0:
        return mask
    grow, blur = feather // 2, feather - feather // 2
    # Grown by half and blurred by half, one direction after the other: the cost is linear in the radius.
    x = mask.reshape(-1, 1, *mask.shape[-2:])
    for kernel in ((1, 2 * grow + 1), (2 * grow + 1, 1)):
        x = F.max_pool2d(x, kernel, stride=1, padding=(kernel[0] // 2, kernel[1] // 2))
    for kernel in ((1, 2 * blur + 1), (2 * blur + 1, 1)):
        padding = (kernel[1] // 2, kernel[1] // 2, kernel[0] // 2, kernel[0] // 2)
        x = F.avg_pool2d(F.pad(x, padding, mode="replicate"), kernel, stride=1)
    return torch.maximum(x.clamp(0, 1).reshape(mask.shape), mask)


def from_mask(
    mask: Tensor, threshold: float = 0.5, min_area: int = 4, label: str = OBJECT_LABEL,
    on_cut: Callable[[int, int], None] | None = None,
) -> list[Regions]:  # fmt: skip
    """Connected parts (8 neighbours) of a MASK (H, W) or (B, H, W) -> one `Regions` per picture, the largest first.

    Parts of fewer than `min_area` pixels are left out, and so are the smallest of more than MOST_PARTS: a noisy mask has thousands,
    each of which would take a mask of the picture's size. Scores are 1.0.

    Args:
        on_cut: called with (parts found, parts kept) for each picture whose smallest parts were left out.
    """
    if mask.ndim not in (2, 3):
        raise ValueError(f"MASK must have shape (H, W) or (B, H, W), got {tuple(mask.shape)}.")
    results = []
    for picture in mask.reshape(-1, *mask.shape[-2:]).cpu():
        numbered = _components(picture > threshold)
        numbers, counts = torch.unique(numbered[numbered > 0], return_counts=True)
        order = torch.argsort(counts, descending=True, stable=True)
        size = (picture.shape[0], picture.shape[1])
        found = [i for i in order.tolist() if counts[i] >= min_area]
        kept = found[: max(1, min(MOST_PARTS, MOST_MASK_PIXELS // (size[0] * size[1])))]
        if len(kept) < len(found) and on_cut is not None:
            on_cut(len(found), len(kept))
        parts = [numbered == numbers[i] for i in kept]
        if not parts:
            results.append(Regions.empty(size))
            continue
        masks = torch.stack(parts)
        boxes = []
        for part in masks:
            rows, columns = torch.nonzero(part.any(dim=1)), torch.nonzero(part.any(dim=0))
            boxes.append([int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1])
        results.append(Regions(_tensor(boxes), torch.ones(len(boxes)), (label,) * len(boxes), size, masks.float()))
    return results


def _components(binary: Tensor) -> Tensor:
    """(H, W) bool -> (H, W) integers, 0 outside, one number per connected part."""
    try:
        from scipy.ndimage import label
    except ImportError:
        return _spread(binary)
    return torch.from_numpy(label(binary.numpy(), structure=np.ones((3, 3)))[0].astype(np.int64))


def _spread(binary: Tensor) -> Tensor:
    """Without scipy: every pixel takes the highest number among its neighbours until nothing changes."""
    numbers = torch.arange(1, binary.numel() + 1, dtype=torch.float64).view_as(binary) * binary
    while True:
        wider = F.max_pool2d(numbers[None, None], 3, stride=1, padding=1)[0, 0] * binary
        if torch.equal(wider, numbers):
            return numbers.long()
        numbers = wider


# JSON ----------------------------------------------------------------------------------------------------------------


def to_json(regions: Regions | Sequence[Regions]) -> str:
    """One picture as an object, a batch as a list of objects (see `Regions.to_dict`)."""
    if isinstance(regions, Regions):
        return json.dumps(regions.to_dict())
    return json.dumps([item.to_dict() for item in regions])


def from_json(text: str, image_size: tuple[int, int] | None = None) -> list[Regions]:
    """JSON -> one `Regions` per picture. A bare list of [x1, y1, x2, y2] boxes needs `image_size` (height, width).

    Raises:
        ValueError: if the text is no JSON, or no regions.
    """
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"Regions as JSON: {error}.") from error
    if isinstance(value, Mapping) and "boxes" in value:
        value = [value]
    if isinstance(value, list) and value and all(isinstance(item, Mapping) and "boxes" in item for item in value):
        size = None if image_size is None else list(image_size)
        return [Regions.from_dict({"image_size": size, **item} if size else item) for item in value]
    if image_size is None:
        raise ValueError('Regions as JSON: expected {"image_size": [height, width], "boxes": [[x1, y1, x2, y2], ...]}.')
    return [from_bboxes(value, image_size, "xyxy")]


# Shared --------------------------------------------------------------------------------------------------------------


def _whole_pixels(regions: Regions) -> list[tuple[int, int, int, int]]:
    """Boxes rounded to whole pixels inside the picture, at least one pixel wide and high."""
    height, width = regions.image_size
    result = []
    for x1, y1, x2, y2 in regions.boxes.tolist():
        left, top = min(max(round(x1), 0), width - 1), min(max(round(y1), 0), height - 1)
        right, bottom = min(max(round(x2), left + 1), width), min(max(round(y2), top + 1), height)
        result.append((left, top, right, bottom))
    return result


def _numbers(value: Any) -> list[float]:
    """A flat list of numbers, or [] if the value is anything else. Scalars become a list of one."""
    if value is None:
        return []
    if isinstance(value, (Tensor, np.ndarray)):
        value = value.reshape(-1).tolist()
    if isinstance(value, (int, float, np.number)):
        value = [value]
    if not isinstance(value, Sequence) or isinstance(value, str):
        return []
    scalars = (Tensor, np.ndarray, np.generic)
    items = [item.item() if isinstance(item, scalars) and math.prod(item.shape) == 1 else item for item in value]
    try:
        return [float(item) for item in items] if all(isinstance(item, (int, float)) for item in items) else []
    except OverflowError:
        raise ValueError("a whole number of more than 308 digits is no number that can be used.") from None


def _tensor(boxes: list[list[float]]) -> Tensor:
    return torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)

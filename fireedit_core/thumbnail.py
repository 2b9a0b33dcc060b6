# SPDX-License-Identifier: GPL-3.0-or-later
"""What a step remembers a picture by, so that a later step sees when it is given another one."""

from __future__ import annotations

import base64
import binascii

import torch
from torch import Tensor

SIDE = 16
# Mean difference of two thumbnails on 0..1 from which on they show other pictures. What a file's compression or a slight colour
# correction does stays below it.
OTHER_PICTURE = 0.04


def thumbnail(pictures: Tensor, side: int = SIDE) -> Tensor:
    """(B, 3, side, side) on the CPU, of pictures (B, 3, H, W) in 0..1."""
    pictures = pictures.detach().float()
    down, across = (_means(side, length).to(pictures.device) for length in pictures.shape[-2:])
    # as products: the pooling of a photo of 24 MP that lies in memory as the host has it takes seven times as long
    last = pictures.movedim(1, -1)
    if last.is_contiguous():
        rows = (down @ last.flatten(2)).unflatten(2, last.shape[2:]).movedim(-1, 1)
    else:
        rows = down @ pictures
    return (rows @ across.T).cpu()


def _means(side: int, length: int) -> Tensor:
    """(side, length): the weights by which adaptive pooling takes the mean of a row of `length` px in `side` cells."""
    weights = torch.zeros(side, length)
    for cell in range(side):
        first, last = cell * length // side, -(-(cell + 1) * length // side)
        weights[cell, first:last] = 1 / (last - first)
    return weights


def same_picture(one: Tensor | None, two: Tensor | None) -> bool:
    """Whether two thumbnails are of the same pictures; what has none is taken to be."""
    if one is None or two is None or one.shape != two.shape:
        return True
    return bool(((one - two).abs().mean(dim=(1, 2, 3)) < OTHER_PICTURE).all())


_TEXT_SIDE = 8
# Largest difference of a cell on 0..1 that two fingerprints of one picture may have. It is narrow, because what was picked on a picture
# is off as soon as a thing in it has moved; what is left through is rounding and a file's compression.
_SAME_CELL = 0.03


def fingerprint(picture: Tensor) -> str:
    """A text of 270 letters that a picture (3, H, W) in 0..1 is known by: "WIDTHxHEIGHT:" and its colours in 8 x 8 cells, base64."""
    cells = (thumbnail(picture[None], _TEXT_SIDE)[0].clamp(0, 1) * 255).round().byte()
    return f"{picture.shape[-1]}x{picture.shape[-2]}:{base64.b64encode(cells.permute(1, 2, 0).contiguous().numpy().tobytes()).decode()}"


def same_fingerprint(one: str, two: str) -> bool:
    """Whether two fingerprints are of one picture, at one size.

    Raises:
        ValueError: for a text that is no fingerprint.
    """
    (size, cells), (other_size, other_cells) = _read(one), _read(two)
    return size == other_size and bool((cells - other_cells).abs().max() <= _SAME_CELL)


# Of the 64 cells: as many that are the same make it the same picture with something edited, however large. Two photographs agree in
# one or two by chance. Where light or colour of all of it was changed, the order of light and dark stays.
_LEAST_SAME, _SAME_ORDER = 4, 0.6


def resembles(one: str, two: str) -> bool:
    """Whether a fingerprint may be of the same picture after an edit; False for another picture, as far as 64 cells tell.

    Raises:
        ValueError: for a text that is no fingerprint.
    """
    (size, cells), (other_size, other_cells) = _read(one), _read(two)
    if size != other_size:
        return False
    rows, other_rows = cells.reshape(-1, 3), other_cells.reshape(-1, 3)
    if int(((rows - other_rows).abs().amax(dim=1) <= _SAME_CELL).sum()) >= _LEAST_SAME:
        return True
    grey, other_grey = rows.mean(dim=1), other_rows.mean(dim=1)
    return bool(torch.corrcoef(torch.stack([grey, other_grey]))[0, 1] >= _SAME_ORDER)


def _read(text: str) -> tuple[str, Tensor]:
    size, _, cells = text.partition(":")
    try:
        data = base64.b64decode(cells, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if len(data) != 3 * _TEXT_SIDE**2:
        raise ValueError(f"{text[:40]!r} is no fingerprint of a picture")
    return size, torch.tensor(list(data)) / 255

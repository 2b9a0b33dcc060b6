# SPDX-License-Identifier: GPL-3.0-or-later
"""Known motions of a made picture are found to a fraction of a pixel, and what cannot be found is refused."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from fireedit_core.photo.registration import Alignment, align, apply, unmoved

SIZE = (240, 320)


def scene(seed: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
    """(H, W, 3) float32: structure of several sizes, as a photograph has it."""
    noise = np.random.default_rng(seed)
    grain = lambda s: cv2.GaussianBlur(noise.standard_normal((*size, 3)).astype(np.float32), (0, 0), s) * s  # noqa: E731
    made = grain(1.5) + grain(4) + 2 * grain(15)
    return (0.5 + 0.18 * made).clip(0, 1).astype(np.float32)


def moved(picture: np.ndarray, zoom: float, shift: tuple[float, float], bend: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """What a model gives back of a picture that it zooms, shifts and bends, and the true displacement (H, W, 2) of each place."""
    height, width = picture.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float64)
    middle = np.array([(width - 1) / 2, (height - 1) / 2])

    def source(to):  # where a place of the edited picture comes from
        came = (to - middle - shift) / zoom + middle
        return came + bend * np.stack([np.sin(to[..., 1] / height * 4), np.sin(to[..., 0] / width * 4)], -1)

    grid = np.stack([x, y], -1)
    came = source(grid).astype(np.float32)
    edited = cv2.remap(picture, came[..., 0], came[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    true = grid.copy()
    for _ in range(30):
        true -= source(true) - grid
    return edited.clip(0, 1), true - grid


def error(found: Alignment, true: np.ndarray) -> float:
    return float(np.linalg.norm(found.displacement() - true, axis=-1).max())


def with_edit(edited: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A foreign thing in the picture, and a mask of it."""
    mask = np.zeros(edited.shape[:2], np.float32)
    mask[90:170, 120:210] = 1
    made = edited.copy()
    made[95:165, 125:205] = scene(9)[:70, :80]
    return made, mask


@pytest.mark.parametrize("zoom, shift", [(1.0, (3.3, -2.6)), (1.02, (-5.2, 4.1)), (0.95, (14.0, 9.0)), (1.05, (-12.0, 12.0))])
@pytest.mark.parametrize("told", (True, False))
def test_shift_and_zoom_beside_an_edit(zoom, shift, told):
    photo = scene()
    edited, true = moved(photo, zoom, shift)
    edited, mask = with_edit(edited)
    found = align(edited, photo, mask if told else None)
    assert not found.refused and found.grid is None and error(found, true) < 0.1
    assert abs(found.zoom - zoom) < 1e-3 and np.allclose(found.shift, shift, atol=0.1) and "aligned: shifted by" in found.words


def test_colours_sharpness_and_grain_do_not_matter():
    photo = scene(1)
    edited, true = moved(photo, 1.01, (2.5, -3.5))
    x = np.arange(SIZE[1], dtype=np.float32)[None]
    edited = cv2.GaussianBlur(edited, (0, 0), 1.0) @ np.float32([[0.7, 0.2, 0.1], [0.1, 0.8, 0.0], [0.0, 0.3, 0.6]])
    edited *= (0.8 + 0.4 * x / SIZE[1])[..., None]
    edited = (edited + 0.02 * np.random.default_rng(0).standard_normal(edited.shape)).clip(0, 1).astype(np.float32)
    found = align(edited, photo)
    assert not found.refused and error(found, true) < 0.25


def soft(picture: np.ndarray) -> np.ndarray:
    """As a model gives it back that softens and adds grain."""
    return (cv2.GaussianBlur(picture, (0, 0), 1.2) + 0.024 * np.random.default_rng(1).standard_normal(picture.shape)).astype(np.float32)


def test_a_backdrop_without_focus_counts_too():
    """Structure in one corner alone, and far away from it no more than soft shapes, which only the coarse sizes show."""
    photo, size = scene(4, (480, 640)), (480, 640)
    blurred = cv2.GaussianBlur(photo, (0, 0), 14) * 1.6 - 0.3
    y, x = np.mgrid[: size[0], : size[1]]
    near = cv2.GaussianBlur(((x < 170) & (y < 150)).astype(np.float32), (0, 0), 8)[..., None]
    photo = (near * photo + (1 - near) * blurred).clip(0, 1).astype(np.float32)
    edited, true = moved(photo, 1.012, (4.3, -3.1))
    found = align(soft(edited), photo)
    assert not found.refused and found.grid is None and error(found, true) < 0.1  # without the last search 0.26


def test_it_says_how_much_the_photo_shows():
    """Grain over much structure and over little: the second one's motion is less sure, and the words say so."""
    full = scene(5)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    faint = 0.5 + (full - 0.5) * (0.05 + 0.95 * ((x > 130) & (x < 190) & (y > 90) & (y < 150)))[..., None]
    sure, unsure = (align(soft(moved(one.astype(np.float32), 1.01, (2.0, 3.0))[0]), one.astype(np.float32)) for one in (full, faint))
    assert not sure.refused and not unsure.refused
    assert 0 < sure.uncertainty < 0.25 < unsure.uncertainty < 10
    assert "too little" in unsure.words and "too little" not in sure.words


def test_a_mild_bend_is_followed_and_a_straight_motion_is_not_bent():
    photo = scene(2, (480, 640))
    edited, true = moved(photo, 1.01, (3.0, 2.0), bend=2.5)
    found = align(edited, photo)
    assert found.grid is not None and "bent by up to" in found.words
    inner = np.s_[16:-16, 16:-16]
    off = np.linalg.norm(found.displacement() - true, axis=-1)[inner]
    straight = np.linalg.norm(Alignment(found.matrix, found.size, 1.0).displacement() - true, axis=-1)[inner]
    assert off.mean() < 0.1 and off.max() < 0.5 and straight.max() > 1.5
    # put back, it shows the photo where it did before
    back = apply(edited, found)
    assert np.abs(back - photo)[inner].mean() < 0.2 * np.abs(edited - photo)[inner].mean()


def test_nothing_has_moved():
    photo = scene(3)
    for edited in (photo, with_edit(photo)[0]):
        found = align(edited, photo)
        assert not found.refused and found.still and apply(edited, found) is edited and "nothing has moved" in found.words
    edited, _ = moved(photo, 1.0, (0.1, 0.0))
    assert apply(edited, align(edited, photo)) is edited  # below what is worth a resampling
    edited, _ = moved(photo, 1.0, (0.3, 0.0))
    assert apply(edited, align(edited, photo)) is not edited


@pytest.mark.parametrize("other", ("photo", "flat", "noise", "far"))
def test_refused(other):
    photo = scene(4)
    edited = {
        "photo": scene(5), "flat": np.full_like(photo, 0.5), "noise": np.random.default_rng(0).random(photo.shape).astype(np.float32),
        "far": np.roll(photo, 150, 1),
    }[other]  # fmt: skip
    found = align(edited, photo)
    assert found.refused and found.compared and apply(edited, found) is edited and "not aligned" in found.words


def test_a_mask_of_all_leaves_it_open_and_small_pictures_are_left():
    photo = scene(6)
    edited, true = moved(photo, 1.01, (2.0, 2.0))
    assert error(align(edited, photo, np.ones(SIZE, np.float32)), true) < 0.1
    lost = align(scene(7), photo, np.ones(SIZE, np.float32))
    assert lost.refused and not lost.compared
    assert "too small" in align(photo[:20, :20], photo[:20, :20]).refused
    with pytest.raises(ValueError, match="one size"):
        align(photo[:100], photo)


def test_stops_when_asked():
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        align(scene(1), scene(1), check=stop)


def test_words_of_what_was_not_looked_at():
    assert unmoved((10, 10), "switched off").words == "not aligned: switched off"

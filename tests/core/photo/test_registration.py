# SPDX-License-Identifier: GPL-3.0-or-later
"""Known motions of a made picture are found to a fraction of a pixel, and what cannot be found is refused."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from fireedit_core.photo import registration
from fireedit_core.photo.registration import (
    _GREY,
    Alignment,
    _bent,
    _doubt,
    _halves,
    _level,
    _rescaled,
    _stiffness,
    align,
    apply,
    unmoved,
)

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


def test_a_motion_on_a_smaller_picture_is_the_same_motion():
    """A pixel's centre (x + 0.5) of the large picture is (x + 0.5) * step of the small one; every place moves as it did."""
    matrix = np.array([[1.03, 0.02, 5.0], [-0.01, 0.96, -3.0]])
    small = _rescaled(matrix, 1.0, 0.25)
    on_small = lambda place: (np.asarray(place) + 0.5) * 0.25 - 0.5  # noqa: E731
    for place in ([0, 0], [100, 40], [319, 239]):
        went = matrix[:, :2] @ place + matrix[:, 2]
        assert np.allclose(small[:, :2] @ on_small(place) + small[:, 2], on_small(went))
    assert np.allclose(_rescaled(small, 0.25, 1.0), matrix)


@pytest.mark.parametrize(
    "correlation, shift, words", [(0.14, 0.0, "at least 0.15 is needed"), (0.16, 0.0, ""), (0.9, 59.0, ""), (0.9, 61.0, "moved by 61 px")]
)
def test_what_is_not_believed(correlation, shift, words):
    """Less than 0.15 of correlation, or more than 0.15 of the diagonal: 60 px of 240 x 320."""
    found = _doubt(Alignment(np.array([[1.0, 0, shift], [0, 1, 0]]), SIZE, correlation))
    assert words in found and bool(words) == bool(found)


@pytest.mark.parametrize("apart", [0.0, 0.6, 3.0])
def test_two_halves_that_move_apart_are_no_motion(apart):
    """The fields of a chessboard, 20 along the longer side, of which every other one has moved."""
    photo = scene(8, (480, 640))
    went = moved(photo, 1.0, (apart, 0.0))[0]
    rows, columns = (np.arange(side) * 20 // 640 for side in (480, 640))
    edited = np.where((np.add.outer(rows, columns) % 2 == 1)[..., None], went, photo)
    level = _level(edited @ _GREY, photo @ _GREY, np.ones((480, 640), np.float32), 1.0)
    found = _halves(level, np.eye(2, 3))
    if apart > 1:
        assert "differ by" in found and float(found.split()[-2]) == pytest.approx(apart, abs=0.3)
    else:
        assert not found


def test_beyond_the_edge_the_edge_is_repeated():
    """Moved by 10 px, the last ten columns and rows have no pixels of their own."""
    ramp = np.linspace(0.2, 0.8, 320, dtype=np.float32)[None, :, None] * np.ones((240, 1, 3), np.float32)
    made = apply(ramp, Alignment(np.array([[1.0, 0, 10], [0, 1, 10]]), SIZE, 1.0))
    assert np.abs(made[:, -10:] - 0.8).max() < 0.003 and np.abs(made[:, :300] - ramp[:, 10:310]).max() < 0.003


def test_a_bend_is_held_by_its_second_differences():
    """The thin plate's energy of control points z: the sums of z_yy², z_xx² and 2 z_xy²."""
    z = np.random.default_rng(0).standard_normal((5, 7))
    across, down = np.diff(z, 2, axis=1), np.diff(z, 2, axis=0)
    both = np.diff(np.diff(z, axis=0), axis=1)
    assert z.ravel() @ _stiffness(5, 7) @ z.ravel() == pytest.approx((across**2).sum() + (down**2).sum() + 2 * (both**2).sum())


def test_a_bend_is_judged_where_the_search_did_not_look(monkeypatch):
    """Each half of the chessboard has its part, and no pixel both: else what was fitted to noise would be praised for it."""
    photo, noise = scene(3), scene(11)
    levels = [_level((0.8 * photo + 0.2 * noise) @ _GREY, photo @ _GREY, np.ones(SIZE, np.float32), 1.0)]
    fitted, correlation, searched, judged = registration._fitted, registration._correlation, [], []
    monkeypatch.setattr(registration, "_fitted", lambda some, *more: searched.append(some[0].free) or fitted(some, *more))
    monkeypatch.setattr(registration, "_correlation", lambda level, *more: judged.append(level.free) or correlation(level, *more))
    assert _bent(levels, np.eye(2, 3), lambda: None) is None
    (searched,) = searched
    assert len(judged) == 2 and all(np.array_equal(one, 1 - searched) for one in judged) and 0.4 < searched.mean() < 0.6

# SPDX-License-Identifier: GPL-3.0-or-later
import numpy as np
import pytest

from fireedit_core.training.paper.shapes import WINDOW, Windows, bucket_sizes, fit, may_flip, nearest


def test_buckets_are_whole_cells_of_at_most_the_area_and_keep_to_two_to_one():
    found = bucket_sizes(256, 64)
    assert found[0] == (256, 256) and (128, 512) not in found and (192, 320) in found and (320, 192) in found
    for height, width in found:
        assert height % 64 == width % 64 == 0 and height * width <= 256**2 and 0.5 <= height / width <= 2
    with pytest.raises(ValueError, match="multiple of 64"):
        bucket_sizes(200, 64)


@pytest.mark.parametrize(("size", "wanted"), [((480, 640), (192, 320)), ((640, 480), (320, 192)), ((500, 510), (256, 256))])
def test_the_nearest_bucket_has_the_picture_s_shape(size, wanted):
    buckets = bucket_sizes(256, 64)
    best = min(buckets, key=lambda hw: abs(np.log(hw[0] / hw[1]) - np.log(size[0] / size[1])))
    chosen = nearest(size[0] / size[1], buckets)
    assert chosen[0] / chosen[1] == pytest.approx(best[0] / best[1]) and (chosen[0] > chosen[1]) == (wanted[0] > wanted[1])


def sizes(draw: int) -> tuple[int, int]:
    rng = np.random.default_rng(draw)
    return int(rng.integers(200, 900)), int(rng.integers(200, 900))


def test_every_draw_is_in_one_batch_of_about_its_shape():
    windows = Windows(sizes, 4, bucket_sizes(256, 32), 256, seed=3)
    batches = [windows[i] for i in range(3 * WINDOW)]
    assert sorted(d for draws, _ in batches for d in draws) == list(range(3 * WINDOW * 4))
    assert len({bucket for _, bucket in batches}) > 3
    off = [abs(np.log(sizes(d)[0] / sizes(d)[1] / (b[0] / b[1]))) for draws, b in batches for d in draws]
    blind = [abs(np.log(sizes(d)[0] / sizes(d)[1])) for draws, _ in batches for d in draws]
    assert np.mean(off) < 0.4 * np.mean(blind)
    # the order of the batches is not that of the shapes
    aspects = [b[0] / b[1] for _, b in batches[:WINDOW]]
    assert aspects != sorted(aspects)


def test_a_batch_is_a_function_of_its_number():
    one, other = (Windows(sizes, 4, bucket_sizes(256, 64), 256, seed=3) for _ in range(2))
    assert other[37] == one[37] and one[2] == other[2]
    assert Windows(sizes, 4, bucket_sizes(256, 64), 256, seed=4)[2] != one[2]


def test_without_buckets_draws_come_in_order_and_square():
    def never(draw):
        raise AssertionError("no size is asked for")

    windows = Windows(never, 3, None, 96, seed=0)
    assert windows[2] == ([6, 7, 8], (96, 96))


def test_fit_covers_cuts_and_mirrors_picture_and_mask_alike():
    picture = np.zeros((40, 80, 3), np.uint8)
    picture[:, 60:] = 255
    mask = picture[..., 0] > 0
    for corner, share in (((0.5, 0.0), 0.0), ((0.5, 1.0), 0.5)):
        for flip in (False, True):
            small, cut = (fit(x, (20, 20), corner, flip) for x in (picture, mask))
            assert small.shape == (20, 20, 3) and cut.shape == (20, 20) and cut.dtype == bool
            assert cut.mean() == pytest.approx(share, abs=0.05) and ((small[..., 0] > 127) == cut).mean() > 0.95
            if share:
                assert cut[:, 0].all() == flip and cut[:, -1].all() != flip
    assert fit(picture[:10], (20, 20)).shape == (20, 20, 3)  # enlarged where it is too small


@pytest.mark.parametrize(
    ("text", "may"),
    [
        ("remove the LEFT cat", False), ("turn it right", False), ("change the text", False), ("add a hat", True),
        ("guy on r", False), ("2nd from l", False), ("lefthand cup", False), ("the one at 3 o clock", False), ("at 3 o'clock", False),
        ("the east tower", False), ("change the sign to say STOP", False), ("northwestern hill", False), ("leftmost", False),
        ("make it rain", True), ("a bright feast", True), ("add an Easter egg", True), ("small letterbox", True),
    ],
)  # fmt: skip
def test_nothing_is_mirrored_that_names_a_side(text, may):
    assert may_flip(text) == may

# SPDX-License-Identifier: GPL-3.0-or-later
"""Recolour: the new colour is seen, light and dark keep their order, highlights and black stay."""

from __future__ import annotations

import colorsys

import pytest
import torch

from fireedit_core.photo.colours import is_colour, read_colour
from fireedit_core.photo.light import lightness, luminance, oklab, to_linear, to_srgb, within_gamut
from fireedit_core.photo.recolour import Curve, _at, rank_correlation, recolour
from tests.core.photo.pictures import ball, disc, photograph

PAINTS = {
    "red": (0.5, 0.02, 0.03), "blue": (0.03, 0.09, 0.5), "white": (0.8, 0.8, 0.78), "black": (0.012, 0.012, 0.014), "grey": (0.2, 0.2, 0.2),
    "skin": (0.5, 0.28, 0.2),
}  # fmt: skip
TARGETS = ("red", "blue", "yellow", "dark green", "light blue", "navy", "gold", "white", "black", "grey", "#7030a0")


def order(before, after, mask):
    inside = mask > 0.5
    return rank_correlation(*[luminance(to_linear(x[:, inside])) for x in (before, after)])


def hue_and_chroma(picture, mask):
    """Median OKLab hue in degrees, and chroma, of the middle of the thing."""
    lab = oklab(to_linear(picture[:, mask == 1]))
    a, b = lab[1].median(), lab[2].median()
    return float(torch.rad2deg(torch.atan2(b, a))), float((a**2 + b**2) ** 0.5)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("paint", PAINTS)
def test_the_colour_is_there_and_the_order_is_kept(paint, target):
    picture, mask = ball(160, PAINTS[paint])
    colour = read_colour(target)
    made = recolour(picture, mask, colour)
    assert order(picture, made, mask) >= 0.95
    hue, chroma = hue_and_chroma(made, mask)
    wanted, strong = hue_and_chroma(colour.srgb[:, None, None], torch.ones(1, 1))
    if strong < 0.02:
        assert chroma < 0.03
    else:
        assert chroma > 0.3 * strong and abs((hue - wanted + 180) % 360 - 180) < 12
    # as light as the colour that was asked for, as far as light falls on it
    middle = float(lightness(luminance(to_linear(made[:, mask == 1]))).median())
    assert abs(middle - colour.lightness) < 0.2


def test_highlights_stay_white_and_black_stays_black():
    picture, mask = ball(160, PAINTS["red"], noise=0.0)
    picture[:, 75:80, 75:80], picture[:, 90:95, 75:80] = 1.0, 0.0
    made = recolour(picture, mask, read_colour("blue"))
    assert float(made[:, 75:80, 75:80].min()) > 0.97 and float(made[:, 90:95, 75:80].max()) < 0.02


def test_what_has_another_colour_keeps_it():
    picture, mask = ball(160, PAINTS["red"], noise=0.0)
    picture[:, 100:110, 70:90] = torch.tensor([0.1, 0.6, 0.2])[:, None, None]  # a green sign
    made = recolour(picture, mask, read_colour("blue"))
    hue = lambda x: colorsys.rgb_to_hsv(*x[:, 105, 80].tolist())[0]  # noqa: E731
    assert hue(made) == pytest.approx(hue(picture), abs=0.02)


@pytest.mark.parametrize("target", ("blue", "dark red", "white", "black", "grey"))
@pytest.mark.parametrize("name", ("coffee", "astronaut", "chelsea"))
def test_a_photograph(name, target):
    """A round mask holds things of several colours, rims and shadows: a red cup with its spoon, an orange suit with black, a cat's face."""
    picture = photograph(name)
    mask = disc(*picture.shape[1:], 0.4)
    made = recolour(picture, mask, read_colour(target))
    assert order(picture, made, mask) >= 0.95 and torch.equal(made[:, mask == 0], picture[:, mask == 0])
    assert not torch.equal(made, picture)


@pytest.mark.parametrize("target", ("white", "black", "#ffe000"))
def test_the_order_is_kept_between_paint_and_the_rest(target):
    """A red tank between grey metal of every lightness: made white by itself it would pass most of the metal."""
    grey = torch.linspace(0.05, 0.95, 90).expand(3, 60, 90).clone()
    grey[0, :20], grey[1:, :20] = 0.2 + 0.6 * grey[0, :20], 0.08 * grey[0, :20]
    made = recolour(grey, torch.ones(60, 90), read_colour(target))
    assert order(grey, made, torch.ones(60, 90)) >= 0.95


def test_the_same_twice():
    picture, mask = ball(96, PAINTS["skin"])
    assert torch.equal(recolour(picture, mask, read_colour("teal")), recolour(picture, mask, read_colour("teal")))


def test_curves_rise_and_keep_their_ends():
    x = torch.linspace(0, 1, 501, dtype=torch.float64)
    for before in (0.05, 0.2, 0.5, 0.8, 0.96):
        for after in (0.05, 0.2, 0.5, 0.8, 0.96):
            y = Curve(before, after)(x)
            assert (y.diff() > 0).all() and float(y[0]) == 0 and float(y[-1]) == pytest.approx(1)
            if after >= before:
                assert float(Curve(before, after)(torch.tensor(before, dtype=torch.float64))) == pytest.approx(after)


def test_places_of_a_wide_picture_in_a_small_map():
    """The map is half as large; its values are its own columns, or rows, which lie half a pixel in."""
    y, x = torch.tensor([10, 10, 49]), torch.tensor([10, 101, 60])
    columns, rows = torch.arange(60.0).expand(1, 1, 30, 60), torch.arange(30.0)[:, None].expand(1, 1, 30, 60)
    assert _at(columns, y, x, (60, 120)).tolist() == pytest.approx([4.75, 50.25, 29.75], abs=1e-4)
    assert _at(rows, y, x, (60, 120)).tolist() == pytest.approx([4.75, 4.75, 24.25], abs=1e-4)


def test_rank_correlation_against_scipy():
    stats = pytest.importorskip("scipy.stats")
    a = torch.rand(500, generator=torch.Generator().manual_seed(0))
    b = a + 0.3 * torch.rand(500, generator=torch.Generator().manual_seed(1))
    assert rank_correlation(a, b) == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-6)
    assert rank_correlation(a, -a) == pytest.approx(-1) and rank_correlation(a[:1], b[:1]) == 1


def test_light():
    """Values of the papers: sRGB .5 is .2140 of light; pure red is OKLab .6280, .2249, .1258."""
    assert float(to_linear(torch.tensor(0.5))) == pytest.approx(0.21404, abs=1e-4)
    x = torch.rand(3, 100)
    assert torch.allclose(to_srgb(to_linear(x)), x, atol=1e-5)
    assert torch.allclose(oklab(torch.tensor([[1.0], [0], [0]]))[:, 0], torch.tensor([0.6280, 0.2249, 0.1258]), atol=2e-4)
    strong = torch.tensor([[2.0], [0.1], [0.0]])
    kept = within_gamut(strong)
    assert float(kept.max()) <= 1 + 1e-6 and torch.allclose(luminance(kept), luminance(strong), atol=1e-5)


@pytest.mark.parametrize(
    ("text", "rgb"),
    (
        ("#aabbcc", (170, 187, 204)), ("AABBCC", (170, 187, 204)), ("#fa0", (255, 170, 0)), ("navy", (22, 36, 88)),
        ("Navy Blue", (22, 36, 88)),
        ("a beige colour", (220, 203, 170)), ("gold", (206, 160, 58)), ("reddish brown", (112, 68, 38)),
    ),
)  # fmt: skip
def test_names(text, rgb):
    assert torch.allclose(read_colour(text).srgb * 255, torch.tensor(rgb, dtype=torch.float32), atol=0.6)


def test_shades_go_the_way_that_they_say():
    for name in ("red", "blue", "green", "grey", "brown", "purple"):
        dark, plain, light = (read_colour(f"{shade} {name}").lightness for shade in ("dark", "", "light"))
        assert dark < plain - 0.08 and light > plain + 0.08
        assert read_colour(name).room and not read_colour(f"dark {name}").room


@pytest.mark.parametrize("text", ("", "furry", "blue whale", "a dog", "#12345", "red drop", "x" * 5000, "🔴"))
def test_what_is_no_colour(text):
    assert not is_colour(text)


def test_every_colour_that_grounding_reads_can_be_painted():
    """One table for both: names alone, and with a word before them."""
    from fireedit_core.colour_names import BASIC, MODIFIERS, NAMES
    from fireedit_core.grounding import colours as read

    for name, said in NAMES.items():
        assert said.basic in BASIC and said.shade in ("", "dark", "light") and read.is_colour(name), name
        assert torch.allclose(read_colour(name).srgb * 255, torch.tensor(said.rgb, dtype=torch.float32), atol=0.6), name
        # what is painted is measured as what was named, or as a neighbour of it
        flat = read_colour(name).srgb[:, None, None].expand(3, 4, 4)
        assert read.colour_share(flat, torch.tensor([0.0, 0, 4, 4]), name) >= 0.14, name
    for word in MODIFIERS:
        assert read.is_colour(f"{word} red") and is_colour(f"{word} red"), word
    assert read_colour("shiny red").light == read_colour("red").light and read_colour("shiny red").room

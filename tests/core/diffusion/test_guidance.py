# SPDX-License-Identifier: GPL-3.0-or-later
import pytest
import torch

from fireedit_core.diffusion.guidance import combine, dual_guidance, needed_branches

ALL = ("positive", "image_only", "negative")


def predictions() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(2, 4, 3, 3, generator=generator) for name in ALL}


def test_formula_is_instruct_pix2pix():
    """arXiv 2211.09800 eq. 3: e(0,0) + s_I (e(I,0) - e(0,0)) + s_T (e(I,T) - e(I,0))."""
    out = dual_guidance(torch.tensor(7.0), torch.tensor(3.0), torch.tensor(2.0), text_scale=7.5, image_scale=1.5)
    assert out.item() == 2 + 1.5 * (3 - 2) + 7.5 * (7 - 3)


@pytest.mark.parametrize(
    ("scales", "branches"),
    [
        ((7.5, 1.5), ALL),
        ((1.0, 1.0), ("positive",)),
        ((2.0, 1.0), ("positive", "image_only")),
        ((0.0, 1.0), ("image_only",)),
        ((0.0, 0.0), ("negative",)),
        ((1.0, 0.0), ALL),
        ((0.0, 1.5), ("image_only", "negative")),
        ((1.5, 1.5), ("positive", "negative")),
        ((3.0, 0.0), ALL),
    ],
)
def test_only_branches_with_weight_are_computed(scales, branches):
    values = predictions()
    assert needed_branches(*scales) == branches
    out = combine({name: values[name] for name in branches}, *scales)
    expected = dual_guidance(values["positive"], values["image_only"], values["negative"], *scales)
    assert torch.allclose(out, expected, atol=1e-5)
    for absent in set(ALL) - set(branches):  # the formula really does not read it
        other = values | {absent: values[absent] + 100}
        again = dual_guidance(other["positive"], other["image_only"], other["negative"], *scales)
        assert torch.allclose(again, expected, atol=1e-4)


def test_a_single_branch_comes_back_as_it_is():
    values = predictions()
    assert torch.equal(combine({"positive": values["positive"]}, 1.0, 1.0), values["positive"])

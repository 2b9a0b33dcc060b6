# SPDX-License-Identifier: GPL-3.0-or-later
"""Input that would be edited into nothing, or into another picture, is named: at every node, in every dtype."""

from __future__ import annotations

import math

import pytest
import torch

from tests.host.inside.pack import nodes  # first: it makes the pack importable
from tests.host.small import INSTRUCTION, SIZE

from fireedit_core.regions import Regions  # isort: skip
from fireedit_pack.nodes.errors import FireEditNodeError  # isort: skip
from fireedit_pack.nodes.host import patching  # isort: skip
from fireedit_pack.nodes.pictures import check_mask, is_blank, to_core  # isort: skip

ONE = [Regions(torch.tensor([[4.0, 4, 20, 20]]), torch.tensor([0.9]), ("cat",), (SIZE, SIZE))] * 2


def with_value(images: torch.Tensor, value: float, everywhere: bool = False) -> torch.Tensor:
    bad = images.clone()
    if everywhere:
        return torch.full_like(bad, value)
    bad[0, 3, 5, 1] = value
    return bad


def takers(loaded, tokens, conds):
    """name -> a call of a node that takes an IMAGE, given that image."""
    handle, model, vae = loaded
    _, region_tokens = tokens
    sample = (model, *conds.args[:3], vae)
    settings = (7, 1, "euler", "simple", 1.0, 1.0, 1.0)
    return {
        "FireEdit Region Detect": lambda x: nodes.FireEditRegionDetect.execute(handle, x, 0.15, 0.6, 5),
        "FireEdit Region Tokenize": lambda x: nodes.FireEditRegionTokenize.execute(handle, x, ONE),
        "FireEdit VLM Conditioning": lambda x: nodes.FireEditVLMConditioning.execute(handle, region_tokens, x, vae, INSTRUCTION, 0),
        "FireEdit Sample": lambda x: nodes.FireEditSample.execute(*sample[:4], vae, x, *settings, "off"),
        "FireEdit Multi Turn": lambda x: nodes.FireEditMultiTurn.execute(
            handle, model, vae, x, INSTRUCTION, 7, 1, "euler", "simple", 1.0, 1.0, "off", 0.15
        ),
        "FireEdit Confine": lambda x: nodes.FireEditConfine.execute(model, 1.0, 0.0, 1.0, 0.5, None, None, x, vae),
        "FireEdit Compare": lambda x: nodes.FireEditCompare.execute(x, x, 1.0),
        "FireEdit Regions Preview": lambda x: nodes.FireEditRegionsPreview.execute(x, ONE, 1),
        "FireEdit Grounding Preview": lambda x: nodes.FireEditGroundingPreview.execute(x, torch.zeros(1, SIZE, SIZE), 0.5, 1),
        "FireEdit Regions from BBOX": lambda x: nodes.FireEditRegionsFromBBox.execute([(1, 1, 5, 5)], [x], ["xywh"]),
        "FireEdit Regions from SEGS": lambda x: nodes.FireEditRegionsFromSEGS.execute([((SIZE, SIZE), [])], [x]),
        "FireEdit Regions from Mask": lambda x: nodes.FireEditRegionsFromMask.execute(torch.zeros(1, SIZE, SIZE), 0.5, 4, "x", x),
        "FireEdit Regions to SEGS": lambda x: nodes.FireEditRegionsToSEGS.execute(ONE, 1.5, x),
    }  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_picture_that_is_not_finite_is_named_at_every_node(loaded, tokens, conds, value, dtype):
    for name, call in takers(loaded, tokens, conds).items():
        with pytest.raises(FireEditNodeError, match=rf"^{name}: .*1 value\(s\) of {2 * SIZE * SIZE * 3} that are not numbers"):
            call(with_value(tokens[0], value).to(dtype))
        with pytest.raises(FireEditNodeError, match=rf"^{name}: .*that are not numbers"):
            call(with_value(tokens[0], value, everywhere=True).to(dtype))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: x * 255, "from .* to .* instead of 0..1. It looks like 0..255; divide it by 255"),
        (lambda x: (x * 255).byte(), "looks like 0..255"),
        (lambda x: x * 2 - 1, "looks like -1..1; add 1 and halve it"),
        (lambda x: x * 40 - 20, "looks like another range"),
    ],
)
def test_a_picture_of_another_range_is_named_at_every_node(loaded, tokens, conds, change, said):
    for name, call in takers(loaded, tokens, conds).items():
        with pytest.raises(FireEditNodeError, match=f"^{name}: .*{said}"):
            call(change(tokens[0]))


def test_a_little_overshoot_is_an_artists_business(tokens):
    overshot = tokens[0] * 1.2 - 0.05
    assert torch.equal(to_core(overshot, "x"), overshot.movedim(-1, 1))


@pytest.mark.parametrize("value", [math.nan, math.inf, 255.0, -1.0])
def test_a_mask_that_is_none_is_named(loaded, tokens, conds, value):
    handle, model, vae = loaded
    images, region_tokens = tokens
    mask = torch.zeros(2, SIZE, SIZE)
    mask[1, 4, 4] = value
    settings = (7, 1, "euler", "simple", 1.0, 1.0, 1.0, "exact")
    sample = lambda m: nodes.FireEditSample.execute(model, *conds.args[:3], vae, images, *settings, m)  # noqa: E731
    calls = {
        "FireEdit VLM Conditioning": lambda: nodes.FireEditVLMConditioning.execute(
            handle, region_tokens, images, vae, INSTRUCTION, 0, mask
        ),
        "FireEdit Sample": lambda: sample(mask),
        "FireEdit Compare": lambda: nodes.FireEditCompare.execute(images, images, 1.0, mask),
        "FireEdit Grounding Preview": lambda: nodes.FireEditGroundingPreview.execute(images, mask, 0.5, 1),
        "FireEdit Regions Preview": lambda: nodes.FireEditRegionsPreview.execute(images, ONE, 1, mask),
        "FireEdit Regions from Mask": lambda: nodes.FireEditRegionsFromMask.execute(mask, 0.5, 4, "x"),
    }  # fmt: skip
    for name, call in calls.items():
        with pytest.raises(FireEditNodeError, match=f"^{name}: the mask has .*(not numbers|instead of 0..1)"):
            call()


def test_no_mask_and_a_black_one_are_blank():
    assert is_blank(None, "x") and is_blank(torch.zeros(1, 3, 3), "x") and not is_blank(torch.full((1, 3, 3), 0.01), "x")
    with pytest.raises(FireEditNodeError, match="^x: the mask has 1 value"):
        is_blank(torch.tensor([[[0.0, math.nan]]]), "x")
    assert check_mask(torch.ones(3, 3), torch.zeros(2, 3, 3, 3), "x").shape == (2, 3, 3)
    for count, shape in ((3, (2, 3, 3)), (1, (2, 3, 3)), (2, (2, 3, 4)), (1, (1, 1, 3, 3))):
        with pytest.raises(FireEditNodeError, match=rf"^A Node: the mask has shape .*, but {count} picture\(s\) of height 3 and width 3"):
            check_mask(torch.ones(shape), torch.zeros(count, 3, 3, 3), "A Node")


def test_a_faint_or_a_black_mask_is_said(loaded, tokens, conds, caplog):
    handle, model, vae = loaded
    images, region_tokens = tokens
    faint = torch.zeros(1, SIZE, SIZE)
    faint[:, 8:24, 8:24] = 0.3
    read = lambda mask: str(nodes.FireEditVLMConditioning.execute(handle, region_tokens, images, vae, INSTRUCTION, 0, mask).ui)  # noqa: E731
    assert "nowhere brighter than 0.30" in read(faint) and "nowhere brighter than 0.30" in caplog.text
    assert "black and counts as none" in read(torch.zeros(1, 9, 9))  # Load Image's, of any size
    assert "mask is" not in read(None) and "the mask is" not in read((faint > 0).float())
    patched = patching.apply(model, handle, 1, 1, 0, 1)
    for keep, mask in (("exact", faint), ("soft", torch.zeros_like(faint)), ("exact", (faint > 0).float())):
        made = nodes.FireEditSample.execute(patched, *conds.args[:3], vae, images, 7, 1, "euler", "simple", 1.0, 1.0, 1.0, keep, mask)
        said = f"keep_outside '{keep}' has kept the whole picture" in made.args[2]
        assert said == (float(mask.max()) <= 0.5) and said == (said and "of picture 1, 2" in made.args[2])
        if keep == "exact" and said:
            assert torch.equal(made.args[1], images)


def test_another_picture_of_the_same_size_is_refused(loaded, tokens, conds):
    """It would be a ghost of both: the source latent of one, the regions and the detail of the other."""
    handle, model, vae = loaded
    images, region_tokens = tokens
    patched = patching.apply(model, handle, 1, 1, 0, 1)
    other = images.flip(2)
    with pytest.raises(FireEditNodeError, match="region tokens are of another picture"):
        nodes.FireEditVLMConditioning.execute(handle, region_tokens, other, vae, INSTRUCTION, 0)
    sample = lambda x: nodes.FireEditSample.execute(patched, *conds.args[:3], vae, x, 7, 1, "euler", "simple", 1.0, 1.0, 1.0, "off")  # noqa: E731
    with pytest.raises(FireEditNodeError, match="ghost of both"):
        sample(other)
    with pytest.raises(FireEditNodeError, match="ghost of both"):  # the rows of a batch exchanged
        sample(images.flip(0))
    sample((images * 0.98 + 0.01).clamp(0, 1))  # a file's compression, a slight correction


def test_text_that_is_not_read_is_said(loaded, tokens, caplog):
    handle, _, vae = loaded
    images, region_tokens = tokens
    limit = handle.editor.vlm.img_tokens.config.max_text_tokens
    long = " ".join(["remove the red apple"] * (limit // 4)) + " and make it blue"
    out = nodes.FireEditVLMConditioning.execute(handle, region_tokens, images, vae, long, 0)
    assert "cut off: 'and make it blue'" in str(out.ui) and "cut off: 'and make it blue'" in caplog.text
    assert handle.editor.unread_text(INSTRUCTION) == "" and handle.editor.unread_text(" ".join(["red"] * limit)) == ""

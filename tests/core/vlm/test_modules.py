# SPDX-License-Identifier: GPL-3.0-or-later
import pytest
import torch
from torch import nn

from fireedit_core.vlm import EditQFormer, GroundingHead, ImgTokens, VisionAdapter
from fireedit_core.vlm.grounding import occupancy


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


# --- adapter -----------------------------------------------------------------------------------------------------------


def test_adapter_merges_neighbours_in_gromas_order():
    adapter = VisionAdapter(vision_size=1, hidden_size=4)
    adapter.bridge = nn.Identity()
    patches = torch.arange(24.0).view(1, 24, 1)  # a grid of 4 rows and 6 columns, row-major
    merged = adapter(patches, (4, 6))
    assert merged.shape == (1, 6, 4)
    # (row parity, column parity) = (0,0), (1,0), (0,1), (1,1): down before right
    assert merged[0, 0].tolist() == [0, 6, 1, 7]
    assert merged[0, 1].tolist() == [2, 8, 3, 9]
    assert merged[0, 3].tolist() == [12, 18, 13, 19]


@pytest.mark.parametrize(("tokens", "grid"), [(25, (5, 5)), (24, (3, 8)), (16, (4, 6))])
def test_adapter_refuses_grids_that_do_not_fit(tokens, grid):
    with pytest.raises(ValueError, match="even patch grid"):
        VisionAdapter(4, 8)(torch.zeros(1, tokens, 4), grid)


def test_adapter_full_scale():
    with torch.device("meta"):
        adapter = VisionAdapter()
        out = adapter(torch.empty(1, 1024, 1024), (32, 32))
    assert count(adapter) == 33_562_624 and out.shape == (1, 256, 4096)
    assert set(adapter.state_dict()) == {"bridge.0.weight", "bridge.0.bias", "bridge.2.weight", "bridge.2.bias"}


# --- [IMG] tokens ------------------------------------------------------------------------------------------------------


def test_img_tokens_start_at_the_mean_of_the_base_embedding():
    torch.manual_seed(0)
    tokens = ImgTokens(8, 512)
    base = 3 + torch.randn(100, 512)
    before = base.clone()
    tokens.init_from_mean(base)
    for rows in (tokens.embedding.detach(), tokens.head.weight.detach()):
        assert (rows - base.mean(0)).abs().max() < 0.2 and (rows - base.mean(0)).std().item() == pytest.approx(0.02, rel=0.2)
        assert (rows[0] - rows[1]).abs().max() > 0  # the noise tells them apart
    assert torch.equal(base, before)
    assert tokens(3).shape == (3, 8, 512) and torch.equal(tokens(3)[2], tokens.embedding)


# --- grounding ---------------------------------------------------------------------------------------------------------


def ground(head: GroundingHead, mask: torch.Tensor, seed: int = 0, grid=(3, 4)):
    generator = torch.Generator().manual_seed(seed)
    batch, regions = mask.shape
    make = lambda n: torch.randn(batch, n, 16, generator=generator)  # noqa: E731
    boxes = torch.rand(batch, regions, 4, generator=generator)
    return head(make(4), make(regions), mask, boxes, make(grid[0] * grid[1]), grid)


def test_grounding_shapes_scores_and_absent_regions():
    head = GroundingHead(16, 8, cells_per_token=2)
    mask = torch.tensor([[True, True, False], [True, False, False]])
    out = ground(head, mask)
    assert out.region_logits.shape == (2, 4) and out.mask_logits.shape == (2, 6, 8)
    absent = torch.cat([~mask, torch.zeros(2, 1, dtype=torch.bool)], dim=1)
    assert torch.equal(torch.isneginf(out.region_logits), absent)  # "no region" is always there
    scores = out.region_scores()
    assert scores.shape == (2, 3) and (scores[~mask] == 0).all() and (scores >= 0).all()
    assert (scores.sum(1) < 1).all() and torch.allclose(scores.sum(1), 1 - out.region_logits.softmax(-1)[:, -1])
    soft = out.mask((30, 50))
    assert soft.shape == (2, 30, 50) and soft.min() >= 0 and soft.max() <= 1


def test_grounding_without_any_region():
    out = ground(GroundingHead(16, 8), torch.zeros(2, 0, dtype=torch.bool))
    assert out.region_logits.shape == (2, 1) and out.region_scores().shape == (2, 0)
    assert torch.isfinite(out.region_logits).all()


def test_grounding_mask_cells_lie_where_their_token_lies():
    """Only the token in row 1, column 2 of a 3 x 4 grid is told to paint: its 2 x 2 cells, row-major, stand at 2:4, 4:6."""
    head = GroundingHead(1, 1, cells_per_token=2)
    head.query = nn.Identity()
    head.pixel = nn.Identity()
    head.region = nn.Identity()
    head.paint = nn.Linear(1, 4, bias=False)
    head.paint.weight.data = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    nn.init.zeros_(head.around.weight)
    nn.init.zeros_(head.around.bias)
    image = torch.zeros(1, 12, 1)
    image[0, 1 * 4 + 2] = 1
    boxes = torch.tensor([[[0.5, 0.5, 1.0, 1.0]]])
    out = head(torch.zeros(1, 1, 1), torch.zeros(1, 1, 1), torch.ones(1, 1, dtype=torch.bool), boxes, image, (3, 4))
    assert out.mask_logits[0, 2:4, 4:6].tolist() == [[1, 2], [3, 4]]
    assert out.mask_logits.sum() == 10


def test_grounding_rows_do_not_see_each_other():
    torch.manual_seed(0)
    head = GroundingHead(16, 8)
    states = [torch.randn(2, n, 16) for n in (4, 3, 12)]
    mask = torch.tensor([[True, True, True], [True, False, False]])
    boxes = torch.rand(2, 3, 4)
    both = head(states[0], states[1], mask, boxes, states[2], (3, 4))
    one = head(states[0][1:], states[1][1:, :1], mask[1:, :1], boxes[1:, :1], states[2][1:], (3, 4))
    assert torch.allclose(both.region_logits[1, [0, 3]], one.region_logits[0], atol=1e-6)
    assert torch.allclose(both.mask_logits[1], one.mask_logits[0], atol=1e-6)


def test_occupancy_is_the_share_of_each_cell_that_a_box_covers():
    boxes = torch.tensor([[[0.5, 0.5, 0.5, 1.0], [0.125, 0.25, 0.25, 0.5]]])  # columns 1..2; row 0 of column 0
    out = occupancy(boxes, torch.tensor([[1.0, 0.5]]), (2, 4))
    assert torch.allclose(out, torch.tensor([[[0.5, 1, 1, 0], [0.0, 1, 1, 0]]]))
    half = occupancy(torch.tensor([[[0.25, 0.5, 0.25, 1.0]]]), torch.ones(1, 1), (1, 4))
    assert torch.allclose(half, torch.tensor([[[0.5, 0.5, 0, 0]]]))


# --- Q-Former ----------------------------------------------------------------------------------------------------------


def test_qformer_full_scale_is_smartedits():
    with torch.device("meta"):
        qformer = EditQFormer().eval()
        out = qformer(torch.empty(2, 32, 4096))
    assert count(qformer) == 65_015_040  # SmartEdit: 65.0M
    assert out.shape == (2, 77, 768)
    crossed = {int(k.split(".")[3]) for k in qformer.state_dict() if ".crossattention." in k}
    assert crossed == {0, 2, 4}
    assert not [k for k in qformer.state_dict() if "word_embeddings" in k or ".intermediate.dense" in k]


def test_qformer_rows_differ_and_read_the_states():
    torch.manual_seed(0)
    qformer = EditQFormer(
        hidden_size=32, num_layers=2, num_heads=2, intermediate_size=64, encoder_size=24, dropout=0.0
    ).eval()  # fmt: skip
    states = torch.randn(2, 4, 24)
    out = qformer(states)
    assert out.shape == (2, 77, 32)
    distance = torch.cdist(out[0], out[0]) + 1e9 * torch.eye(77)
    assert distance.min() > 1e-3  # 77 rows that are one row would be a collapse
    other = qformer(states.flip(1) * 2)
    assert (out - other).abs().max() > 1e-4
    assert torch.allclose(out[1:], qformer(states[1:]), atol=1e-6)


# --- storing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: VisionAdapter(4, 8),
        lambda: ImgTokens(4, 8, prompt_template="edit: {instruction}", max_text_tokens=7),
        lambda: GroundingHead(8, 4, cells_per_token=3),
        lambda: EditQFormer(num_queries=5, hidden_size=8, num_layers=2, num_heads=2, intermediate_size=8, encoder_size=8),
    ],
)
def test_round_trip_on_disk(make, tmp_path):
    module = make()
    module.save_pretrained(tmp_path)
    loaded = type(module).from_pretrained(tmp_path)
    assert {k: v for k, v in loaded.config.items() if k[0] != "_"} == {k: v for k, v in module.config.items() if k[0] != "_"}
    before, after = module.state_dict(), loaded.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)
    assert (tmp_path / "diffusion_pytorch_model.safetensors").is_file()


# --- numbers, written out ------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_pointing_is_a_scaled_product():
    """Mean [IMG] state against each region, over the square root of the pointing space's width; the last is "no single region"."""
    torch.manual_seed(0)
    head = GroundingHead(16, 4)
    head.no_region.normal_()
    img, regions, mask = torch.randn(1, 3, 16), torch.randn(1, 2, 16), torch.ones(1, 2, dtype=torch.bool)
    out = head(img, regions, mask, torch.rand(1, 2, 4), torch.randn(1, 12, 16), (3, 4))
    query = head.query(img.mean(1))[0]
    wanted = [float(query @ key) / 4**0.5 for key in (*head.region(regions)[0], head.no_region)]
    assert out.region_logits[0].tolist() == pytest.approx(wanted, abs=1e-5)


def test_the_mask_of_a_picture_that_is_no_square():
    """Cells are enlarged with their edges on the picture's edges: the logits of the middle of a cell are its own."""
    from fireedit_core.vlm import Grounding

    logits = torch.tensor([[[-3.0, 0.0, 2.0, 5.0], [1.0, 4.0, -2.0, 0.5]]])
    found = Grounding(torch.zeros(1, 1), logits).mask((6, 20))
    assert found.shape == (1, 6, 20)
    assert torch.allclose(found[0, [0, 5]][:, [0, 19]], logits[0][:, [0, 3]].sigmoid())  # corners are their cell's
    assert torch.allclose(found[0, 1, 2::5], logits[0, 0].sigmoid()) and torch.allclose(found[0, 4, 2::5], logits[0, 1].sigmoid())

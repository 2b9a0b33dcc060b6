# SPDX-License-Identifier: GPL-3.0-or-later
import inspect

import torch

from fireedit_core.diffusion.hvca import HVCA
from fireedit_core.vlm import VisionFeatures


def small() -> HVCA:
    torch.manual_seed(0)
    return HVCA(16, num_queries=5, num_heads=2, dino_size=12, clip_size=10, dino_levels=(1, 3), clip_levels=(2,)).eval()


def features(batch: int = 2, seed: int = 1, dino: int = 24, clip: int = 9) -> VisionFeatures:
    generator = torch.Generator().manual_seed(seed)
    make = lambda count, tokens, width: tuple(torch.randn(batch, tokens, width, generator=generator) for _ in range(count))  # noqa: E731
    return VisionFeatures(make(4, dino, 12), make(3, clip, 10), (4, 6))


def text(batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 77, 16, generator=torch.Generator().manual_seed(3))


def test_full_scale_size():
    with torch.device("meta"):
        hvca = HVCA()
        seen = VisionFeatures(
            tuple(torch.empty(1, 1024, 1024) for _ in range(25)), tuple(torch.empty(1, 256, 1024) for _ in range(25)), (32, 32)
        )  # fmt: skip
        assert hvca.visual_memory(seen).shape == (1, 5120, 768)
        assert hvca(torch.empty(1, 77, 768), seen).shape == (1, 16, 768)
    inputs = sum(p.numel() for n, p in hvca.named_parameters() if n.startswith("level"))
    assert inputs == 6_320_128  # notes 9.1: 6.3M
    assert sum(p.numel() for p in hvca.parameters()) - inputs == 19_498_752  # 19.5M


@torch.no_grad()
def test_v_reads_text_and_every_chosen_level_and_no_other():
    hvca, seen, e = small(), features(), text()
    v = hvca(e, seen)
    assert v.shape == (2, 5, 16)
    assert (hvca(e.flip(1) * 2, seen) - v).abs().max() > 1e-4
    for tower, used in (("dino", {1, 3}), ("clip", {2})):
        for level in range(len(getattr(seen, tower))):
            other = features()
            getattr(other, tower)[level].add_(1 + torch.randn(getattr(other, tower)[level].shape))
            moved = (hvca(e, other) - v).abs().max() > 1e-5
            assert moved == (level in used), (tower, level)


def test_v_has_no_timestep_by_construction():
    """The paper's L_diff conditions on e_t and on a plain v (notes 0): one v serves all steps."""
    assert list(inspect.signature(HVCA.forward).parameters) == ["self", "edit_embedding", "features"]
    assert not [n for n, _ in small().named_modules() if "time" in n]


@torch.no_grad()
def test_memory_may_be_computed_once():
    hvca, seen, e = small(), features(), text()
    memory = hvca.visual_memory(seen)
    assert memory.shape == (2, 24 + 24 + 9, 16)
    assert torch.equal(hvca(e, memory), hvca(e, seen))


@torch.no_grad()
def test_rows_do_not_see_each_other():
    hvca, seen, e = small(), features(), text()
    one = VisionFeatures(tuple(x[1:] for x in seen.dino), tuple(x[1:] for x in seen.clip), seen.dino_grid)
    assert torch.allclose(hvca(e, seen)[1:], hvca(e[1:], one), atol=1e-6)


@torch.no_grad()
def test_levels_are_told_apart():
    """Two levels with equal content still differ in memory, by their own projections and embeddings."""
    hvca, seen = small(), features()
    memory = hvca.visual_memory(VisionFeatures((seen.dino[0],) * 4, seen.clip, (4, 6)))
    assert (memory[:, :24] - memory[:, 24:48]).abs().max() > 1e-2


@torch.no_grad()
def test_half_precision_and_round_trip(tmp_path):
    hvca = small()
    hvca.save_pretrained(tmp_path)
    loaded = HVCA.from_pretrained(tmp_path)
    assert torch.equal(loaded(text(), features()), hvca(text(), features()))
    assert hvca.to(torch.bfloat16)(text(), features()).dtype == torch.bfloat16


@torch.no_grad()
def test_the_visual_memory_level_by_level():
    """Each level by its own norm and projection, with its own embedding; DINOv2's levels first."""
    torch.manual_seed(0)
    hvca = HVCA(12, 3, 1, 2, dino_size=6, clip_size=4, dino_levels=(1, 3), clip_levels=(2,))
    features = VisionFeatures(tuple(torch.randn(1, 4, 6) for _ in range(4)), tuple(torch.randn(1, 2, 4) for _ in range(3)), (2, 2))
    memory, start = hvca.visual_memory(features), 0
    for number, level in enumerate((features.dino[1], features.dino[3], features.clip[2])):
        norm, linear = hvca.level_projections[number]
        mean, std = level.mean(-1, keepdim=True), level.var(-1, unbiased=False, keepdim=True).add(1e-5).sqrt()
        wanted = ((level - mean) / std) @ linear.weight.T + linear.bias + hvca.level_embedding[number]
        assert torch.allclose(memory[:, start : start + level.shape[1]], wanted, atol=1e-5) and norm.eps == 1e-5
        start += level.shape[1]
    assert start == memory.shape[1] == 10


@torch.no_grad()
def test_what_all_tokens_share_is_taken_off():
    """Centred: before they ask the visual features, and before the last projection; else nothing is taken off."""
    for centred in (True, False):
        torch.manual_seed(0)
        sizes = {"num_queries": 5, "num_heads": 2, "dino_size": 12, "clip_size": 10, "dino_levels": (1,), "clip_levels": (2,)}
        hvca, seen = HVCA(16, **sizes, centred=centred), []
        hvca.project.register_forward_pre_hook(lambda module, given, seen=seen: seen.append(given[0]))
        hvca.units[0].norm_visual.register_forward_pre_hook(lambda module, given, seen=seen: seen.append(given[0]))
        hvca(text(), features())
        assert all((float(x.mean(1).abs().max()) < 1e-5) == centred and x.shape == (2, 5, 16) for x in seen) and len(seen) == 2

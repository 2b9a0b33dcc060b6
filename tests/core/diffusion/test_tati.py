# SPDX-License-Identifier: GPL-3.0-or-later
import pytest
import torch
import torch.nn.functional as F

from fireedit_core.diffusion.tati import TATI, AdaLayerNorm


def small(stir: bool = True, **changes) -> TATI:
    torch.manual_seed(0)
    tati = TATI(**({"hidden_size": 16, "num_queries": 7, "num_heads": 2, "time_channels": 8} | changes)).eval()
    if stir:  # AdaLN starts at zero: time then only enters through the queries
        for weight in tati.parameters():
            weight.data.add_(0.1 * torch.randn_like(weight))
    return tati


def embedding(batch: int = 3, seed: int = 1) -> torch.Tensor:
    return torch.randn(batch, 7, 16, generator=torch.Generator().manual_seed(seed))


def test_full_scale_size():
    with torch.device("meta"):
        tati = TATI()
        out = tati(torch.empty(2, 77, 768), torch.empty(2))
    assert out.shape == (2, 77, 768) and tati.gate is None
    # two of ELLA's blocks of 10.63M, the time MLP, the queries, and no projections (notes 6.1, 9.1)
    assert sum(p.numel() for n, p in tati.named_parameters() if n != "null_embedding") == 22_743_552
    assert tati.null_embedding.shape == (1, 77, 768)


@torch.no_grad()
@pytest.mark.parametrize("residual", [False, True])
def test_output_follows_time_and_embedding_row_by_row(residual):
    tati, e = small(residual=residual), embedding(1).expand(4, -1, -1)
    out = tati(e, torch.tensor([10, 500, 10, 990]))
    assert torch.equal(out[0], out[2])
    for a, b in ((0, 1), (1, 3), (0, 3)):
        assert (out[a] - out[b]).abs().max() > 1e-3
    assert (tati(embedding(1, seed=2), torch.tensor([10])) - out[:1]).abs().max() > 1e-3
    mixed = tati(embedding(3), torch.tensor([10, 500, 990]))
    for row, t in enumerate((10, 500, 990)):
        assert torch.allclose(mixed[row], tati(embedding(3)[row : row + 1], torch.tensor([t]))[0], atol=1e-5)


@torch.no_grad()
def test_time_matters_from_the_first_step_of_training():
    tati = small(stir=False)
    out = tati(embedding(1).expand(2, -1, -1), torch.tensor([10, 900]))
    assert (out[0] - out[1]).abs().max() > 1e-3


@torch.no_grad()
def test_timesteps_may_lie_between_integers():
    """Second-order samplers ask in between."""
    tati, e = small(), embedding(1)
    assert torch.equal(tati(e, torch.tensor([500])), tati(e, torch.tensor([500.0])))
    low, between, high = (tati(e, torch.tensor([t])) for t in (500.0, 500.5, 501.0))
    assert 0 < (between - low).norm() < (high - low).norm()


@torch.no_grad()
def test_ada_layer_norm_starts_as_a_plain_layer_norm():
    norm = AdaLayerNorm(16)
    x, time = 5 * embedding(), torch.randn(3, 1, 16)
    assert torch.equal(norm(x, time), F.layer_norm(x, (16,), eps=1e-6))
    # chunk order is shift, then scale (ELLA)
    norm.linear.bias[:16] = 3
    assert torch.allclose(norm(x, time), F.layer_norm(x, (16,), eps=1e-6) + 3, atol=1e-6)
    norm.linear.bias[:16], norm.linear.bias[16:] = 0, 1
    assert torch.allclose(norm(x, time), 2 * F.layer_norm(x, (16,), eps=1e-6), atol=1e-6)


@torch.no_grad()
def test_sinusoid_is_cosine_first():
    tati = small()
    t = torch.tensor([37.0])
    frequencies = torch.exp(-torch.log(torch.tensor(10000.0)) * torch.arange(4) / 4)
    assert torch.allclose(tati.time_proj(t)[0], torch.cat([(37 * frequencies).cos(), (37 * frequencies).sin()]), atol=1e-5)


@torch.no_grad()
def test_residual_form_adds_a_gated_change():
    tati, e = small(residual=True), embedding()
    change = tati(e, torch.tensor([5, 5, 5])) - e
    tati.gate.mul_(2)
    assert torch.allclose(tati(e, torch.tensor([5, 5, 5])) - e, 2 * change, atol=1e-5)
    tati.gate.zero_()
    assert torch.equal(tati(e, torch.tensor([5, 5, 5])), e)


# --- inject ------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_inject_touches_only_rows_whose_gate_is_one():
    tati, e, t = small(), embedding(), torch.tensor([3, 400, 900])
    before = e.clone()
    out = tati.inject(e, t, torch.tensor([0.0, 1.0, 0.0]))
    assert torch.equal(out[[0, 2]], e[[0, 2]]) and torch.equal(e, before)
    assert torch.equal(out[1:2], tati(e[1:2], t[1:2]))  # the row's own timestep
    assert torch.equal(tati.inject(e, t, torch.zeros(3)), e)
    assert torch.allclose(tati.inject(e, t, torch.ones(3)), tati(e, t), atol=1e-6)


@torch.no_grad()
def test_inject_takes_one_timestep_for_all_rows_and_column_gates():
    tati, e = small(), embedding()
    out = tati.inject(e, torch.tensor([400.0]), torch.tensor([[1.0], [0.0], [1.0]]))
    assert torch.allclose(out[[0, 2]], tati(e[[0, 2]], torch.tensor([400.0, 400.0])), atol=1e-6)
    assert torch.equal(out[1], e[1])


@torch.no_grad()
def test_inject_strength():
    tati, e, t, gate = small(), embedding(), torch.tensor([3, 400, 900]), torch.tensor([1.0, 1.0, 0.0])
    assert torch.equal(tati.inject(e, t, gate, strength=0), e)
    full, half = tati.inject(e, t, gate), tati.inject(e, t, gate, strength=0.5)
    assert torch.allclose(half, (e + full) / 2, atol=1e-6) and torch.equal(half[2], e[2])


@torch.no_grad()
def test_half_precision():
    tati = small().to(torch.bfloat16)
    out = tati.inject(embedding().to(torch.bfloat16), torch.tensor([3.0, 400.0, 999.0]), torch.tensor([1.0, 0.0, 1.0]))
    assert out.dtype == torch.bfloat16 and torch.isfinite(out.float()).all()


def test_every_weight_learns():
    tati = small(residual=True)
    tati(embedding(), torch.tensor([3, 400, 900])).square().sum().backward()
    idle = [n for n, p in tati.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert idle == ["null_embedding"]  # it takes TATI's place where the text is dropped


def test_round_trip_on_disk(tmp_path):
    tati = small(residual=True)
    tati.save_pretrained(tmp_path)
    loaded = TATI.from_pretrained(tmp_path)
    t = torch.tensor([1, 2, 3])
    assert torch.equal(loaded(embedding(), t), tati(embedding(), t)) and loaded.config.residual is True


@torch.no_grad()
def test_own_rows_start_from_the_rows_of_e():
    """Row i of the result is about row i of e: exchanging two rows of e and of the queries exchanges two rows of the result."""
    tati, e, t = small(own_rows=True, residual=True), embedding(1), torch.tensor([400])
    plain = tati(e, t)
    order = torch.tensor([1, 0, 2, 3, 4, 5, 6])
    tati.latents.copy_(tati.latents[order])
    assert torch.allclose(tati(e[:, order], t), plain[:, order], atol=1e-5)
    # and the learned queries alone do not decide: another row of e moves its own row most
    other = e.clone()
    other[0, 3] += 1
    moved = (small(own_rows=True)(other, t) - small(own_rows=True)(e, t)).norm(dim=-1)[0]
    assert moved.argmax() == 3


def test_a_tati_of_before_keeps_its_form(tmp_path):
    """Bundles before 0.3 have neither `own_rows` nor `query_std` in their config."""
    import json

    tati = small(residual=True)
    tati.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["own_rows"], config["query_std"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    loaded = TATI.from_pretrained(tmp_path)
    with torch.no_grad():
        assert loaded.config.own_rows is False
        assert torch.equal(loaded(embedding(), torch.tensor([1, 2, 3])), tati(embedding(), torch.tensor([1, 2, 3])))

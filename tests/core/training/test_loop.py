# SPDX-License-Identifier: GPL-3.0-or-later
import json
import math
import os
import shutil
import signal
from types import SimpleNamespace

import pytest
import torch
from torch import nn

pytest.importorskip("tensorboard")
from fireedit_core.training import loop
from fireedit_core.training.loop import Progress, StageConfig, TrainingDiverged, TrainingStage


@pytest.fixture
def clock(monkeypatch):
    """Every step takes exactly `clock.step` seconds, and nothing else takes any."""
    state = SimpleNamespace(now=0.0, step=1.0)
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: state.now))
    return state


def network() -> nn.Module:
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.ReLU(), nn.Linear(8, 1))


def make(folder, clock=None, on_save=None, **config) -> TrainingStage:
    model = network()

    def loss_fn(step, device):
        if clock is not None:
            clock.now += clock.step
        stage.steps.append(step)
        x = torch.randn(5, 4)  # of torch's default generator, which the stage seeds by step
        return (stage.raw(x) - x.sum(1, keepdim=True)).square().mean(), {"size": 5.0}

    options = {"minutes": 1000, "lr": 0.01, "warmup": 4, "ema_decay": 0.9, "save_minutes": 1000} | config
    stage = TrainingStage("stage", folder, model, StageConfig(**options), loss_fn, on_save, mixed_precision="no")
    stage.steps = []
    return stage


def at_step(stage, number: int, act) -> None:
    """Call `act` before the loss of a step."""
    loss_fn = stage.loss_fn

    def loss(step, device):
        if step == number:
            act()
        return loss_fn(step, device)

    stage.loss_fn = loss


def snapshot(stage) -> dict[str, torch.Tensor]:
    out = {f"weight {k}": v.clone() for k, v in stage.raw.state_dict().items()}
    out |= {f"ema {i}": v.clone() for i, v in enumerate(stage.ema.shadow_params)}
    for i, state in enumerate(stage.optimizer.state_dict()["state"].values()):
        out |= {f"adam {i} {k}": torch.as_tensor(v).clone() for k, v in state.items()}
    return out


def differing(a: dict, b: dict) -> list[str]:
    assert a.keys() == b.keys()
    return [k for k in a if not torch.equal(a[k], b[k])]


def test_resume_is_exact(tmp_path):
    whole = make(tmp_path / "a", max_steps=6)
    whole.run()
    first = make(tmp_path / "b", max_steps=3)
    first.run()
    assert differing(snapshot(whole), snapshot(first))
    second = make(tmp_path / "b", max_steps=6)
    assert second.progress.step == 3 and not differing(snapshot(first), snapshot(second))
    progress = second.run()
    assert second.steps == [3, 4, 5] and progress.step == 6 and progress.finished
    assert differing(snapshot(whole), snapshot(second)) == []


def test_a_killed_run_goes_on_from_its_last_save(tmp_path, clock):
    whole = make(tmp_path / "a", clock, max_steps=8, save_minutes=2.5 / 60)
    whole.run()
    killed = make(tmp_path / "b", clock, max_steps=8, save_minutes=2.5 / 60)
    loss_fn = killed.loss_fn

    def dies(step, device):
        if step == 5:
            raise KeyboardInterrupt
        return loss_fn(step, device)

    killed.loss_fn = dies
    with pytest.raises(KeyboardInterrupt):
        killed.run()
    again = make(tmp_path / "b", clock, max_steps=8, save_minutes=2.5 / 60)
    assert again.progress.step == 3  # saved once, after step 3
    again.run()
    assert again.steps == [3, 4, 5, 6, 7] and differing(snapshot(whole), snapshot(again)) == []


def test_every_step_and_every_seed_draws_its_own_numbers(tmp_path):
    def draws(folder, seed):
        stage, seen = make(folder, max_steps=3, seed=seed), []
        loss_fn = stage.loss_fn

        def watch(step, device):
            seen.append(torch.get_rng_state().clone())
            return loss_fn(step, device)

        stage.loss_fn = watch
        stage.run()
        return seen

    first, other, again = draws(tmp_path / "a", 0), draws(tmp_path / "b", 1), draws(tmp_path / "c", 0)
    states = first + other
    assert not any(torch.equal(a, b) for i, a in enumerate(states) for b in states[:i])
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_a_finished_stage_has_nothing_left_to_do(tmp_path):
    make(tmp_path, max_steps=3).run()
    again = make(tmp_path, max_steps=3)
    before = snapshot(again)
    assert again.run().step == 3 and again.steps == [] and not differing(before, snapshot(again))


def test_a_half_written_state_is_not_resumed_from(tmp_path):
    make(tmp_path, max_steps=2).run()
    unfinished = tmp_path / "stage" / "state.new"
    unfinished.mkdir()
    (unfinished / "progress.json").write_text("{")
    stage = make(tmp_path, max_steps=4)
    assert stage.progress.step == 2
    stage.run()
    assert json.loads((tmp_path / "stage" / "state" / "progress.json").read_text())["step"] == 4
    assert not unfinished.exists()


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path):
    make(tmp_path, max_steps=2).run()
    state = tmp_path / "stage" / "state"
    state.rename(state.with_name("state-00000003"))  # what stands there when the process dies in between
    assert make(tmp_path, max_steps=4).progress.step == 2


def test_max_steps_ends_a_run(tmp_path):
    stage = make(tmp_path, max_steps=5)
    assert stage.run().step == 5 and stage.steps == [0, 1, 2, 3, 4]


def test_time_budget_and_cooldown(tmp_path, clock):
    """100 seconds at one step a second, a fifth of it cooldown: full rate to step 80, then down to zero over 20 steps."""
    stage = make(tmp_path, clock, minutes=100 / 60, cooldown=0.2, warmup=10, lr=0.01)
    rates = []
    loss_fn = stage.loss_fn

    def watch(step, device):
        rates.append([group["lr"] for group in stage.optimizer.param_groups])
        return loss_fn(step, device)

    stage.loss_fn = watch
    progress = stage.run()
    assert progress.step == 100 and (progress.decay_from, progress.decay_steps) == (80, 20)
    assert all(a == b for a, b in rates)
    rates = [a for a, _ in rates]
    assert rates[:10] == pytest.approx([0.001 * (i + 1) for i in range(10)])
    assert rates[10:80] == pytest.approx([0.01] * 70)
    assert rates[80:] == pytest.approx([0.01 * (1 - i / 20) for i in range(20)])


def test_cooldown_survives_a_resume_and_a_raised_budget_ends_it(tmp_path, clock):
    make(tmp_path, clock, minutes=100 / 60, cooldown=0.2, max_steps=90).run()
    same = make(tmp_path, clock, minutes=100 / 60, cooldown=0.2)
    assert same.progress.decay_from == 80 and same._learning_rate() == pytest.approx(0.01 * 0.5)
    more = make(tmp_path, clock, minutes=200 / 60, cooldown=0.2, max_steps=95)
    assert more.progress.decay_from is None and more._learning_rate() == pytest.approx(0.01)
    assert more.run().step == 95 and more.steps[0] == 90


def test_a_machine_that_slows_down_is_stopped(tmp_path, clock):
    """The cooldown is counted in steps; where steps become slow the budget is overrun by a tenth at most."""
    stage = make(tmp_path, clock, minutes=100 / 60, cooldown=0.2)
    loss_fn = stage.loss_fn

    def slow(step, device):
        clock.step = 1.0 if step < 80 else 10.0
        return loss_fn(step, device)

    stage.loss_fn = slow
    assert stage.run().seconds <= 110 + 10 and stage.progress.step < 85


def test_average_weights_stand_in_the_model_while_saving(tmp_path):
    seen = []

    def on_save(stage):
        assert not torch.is_grad_enabled() and not stage.raw.training
        seen.append([p.clone() for p in stage.trainable])

    stage = make(tmp_path, on_save=on_save, max_steps=6)
    loss_fn, trained = stage.loss_fn, []

    def watch(step, device):
        trained.append([p.detach().clone() for p in stage.trainable])
        return loss_fn(step, device)

    stage.loss_fn = watch
    stage.run()
    assert len(seen) == 1
    last = [p.detach().clone() for p in stage.trainable]
    assert all(torch.equal(a, b) for a, b in zip(seen[0], stage.ema.shadow_params, strict=True))
    assert any((a - b).abs().max() > 1e-4 for a, b in zip(seen[0], last, strict=True))
    # the average by hand: decay min(0.9, 1 - (1 + n)^-0.75)
    steps, average = trained[1:] + [last], [p.clone() for p in trained[0]]
    for n, weights in enumerate(steps):
        decay = max(0.0, min(0.9, 1 - (1 + n) ** -0.75))
        average = [decay * a + (1 - decay) * w for a, w in zip(average, weights, strict=True)]
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(seen[0], average, strict=True))
    with stage.ema_weights():
        assert all(torch.equal(a, b) for a, b in zip(stage.trainable, seen[0], strict=True))
    assert all(torch.equal(a, b) for a, b in zip(stage.trainable, last, strict=True))


def test_without_average_the_weights_themselves_are_shown(tmp_path):
    stage = make(tmp_path, ema_decay=0.0, max_steps=2)
    stage.run()
    assert stage.ema is None
    before = [p.detach().clone() for p in stage.trainable]
    with stage.ema_weights():
        assert all(torch.equal(a, b) for a, b in zip(stage.trainable, before, strict=True))


def test_weight_decay_spares_biases_and_frozen_weights_stay(tmp_path):
    stage = make(tmp_path, weight_decay=0.3, max_steps=1)
    groups = stage.optimizer.param_groups
    assert [g["weight_decay"] for g in groups] == [0.3, 0.0]
    assert [sorted(p.ndim for p in g["params"]) for g in groups] == [[2, 2], [1, 1]]
    model = network()
    model[0].requires_grad_(False)
    frozen = model[0].weight.clone()
    other = TrainingStage(
        "frozen", tmp_path, model, StageConfig(minutes=1, max_steps=3, warmup=1, lr=0.1),
        lambda step, device: (model(torch.randn(5, 4)).square().mean(), {}), mixed_precision="no",
    )  # fmt: skip
    other.run()
    assert torch.equal(model[0].weight, frozen) and len(other.trainable) == 2


def test_it_learns(tmp_path):
    losses = []
    stage = make(tmp_path, max_steps=80, warmup=1, lr=0.03)
    loss_fn = stage.loss_fn
    stage.raw[1].p = 0.0
    stage.loss_fn = lambda step, device: (lambda out: losses.append(out[0].item()) or out)(loss_fn(step, device))
    stage.run()
    assert sum(losses[-10:]) < 0.3 * sum(losses[:10])


def test_progress_is_json(tmp_path):
    stage = make(tmp_path, max_steps=20)
    stage.run()
    record = json.loads((tmp_path / "stage" / "state" / "progress.json").read_text())
    assert Progress(**record) == stage.progress and record["metrics"]["size"] == 5.0 and record["finished"]
    assert any((tmp_path / "stage").rglob("events.out.tfevents*"))


def test_steps_can_be_the_budget(tmp_path, clock):
    """Without a limit in minutes the cooldown begins by steps, however long a step takes, and the last rate is near zero."""
    for seconds in (1.0, 900.0):
        clock.step = seconds
        stage = make(tmp_path / str(seconds), clock, minutes=float("inf"), max_steps=20, cooldown=0.3, warmup=1)
        assert stage.run().step == 20 and stage.progress.decay_from == 14
        assert stage._learning_rate() == pytest.approx(0, abs=1e-9)


def poisoned(stage, *bad, value=math.nan):
    """The loss of the steps `bad` is not a number."""
    loss_fn = stage.loss_fn

    def loss(step, device):
        found, metrics = loss_fn(step, device)
        return (found * value if step in bad else found), metrics

    stage.loss_fn = loss
    return stage


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_step_that_is_not_finite_is_left_out_and_counted(tmp_path, value, caplog):
    with caplog.at_level("WARNING", "fireedit"):
        progress = poisoned(make(tmp_path / "a", max_steps=6), 2, 4, value=value).run()
    assert progress.step == 6 and progress.skipped == 2 and progress.finished
    assert sum("left out, its gradient is not finite" in r.getMessage() for r in caplog.records) == 2
    resumed = make(tmp_path / "a", max_steps=6)
    assert resumed.progress.skipped == 2
    assert all(torch.isfinite(v).all() for v in snapshot(resumed).values())
    # nothing of the step stays: neither weights, nor averages, nor Adam's moments
    one = poisoned(make(tmp_path / "b", max_steps=3), 2)
    one.run()
    assert not differing(snapshot(one), snapshot(without_running(make(tmp_path / "c", max_steps=2))))


def without_running(stage) -> TrainingStage:
    stage.run()
    return stage


def test_half_precision_s_scaler_is_told_of_a_step_that_is_left_out(tmp_path, monkeypatch):
    """fp16 starts with a scale that overflows. A scaler is there on a GPU alone; here a true one is put in by hand."""
    from accelerate import Accelerator
    from accelerate.optimizer import AcceleratedOptimizer

    stage = make(tmp_path, max_steps=4)
    before = snapshot(stage)
    scaler = torch.amp.GradScaler("cpu", init_scale=3e38, backoff_factor=1e-30)
    stage.optimizer = AcceleratedOptimizer(stage.optimizer.optimizer, device_placement=False, scaler=scaler)
    stage.accelerator.scaler, stage.accelerator._optimizers, stage.accelerator.native_amp = scaler, [stage.optimizer], True
    monkeypatch.setattr(Accelerator, "mixed_precision", property(lambda _: "fp16"))
    progress = stage.run()
    assert progress.skipped == 1 and progress.finished and scaler.get_scale() < 1e10
    after = {k: v for k, v in snapshot(stage).items() if k in before}
    assert all(torch.isfinite(v).all() for v in after.values()) and any(not torch.equal(before[k], v) for k, v in after.items())


def test_too_many_in_a_row_end_the_run_and_leave_the_last_state(tmp_path, clock):
    stage = poisoned(make(tmp_path, clock, max_steps=20, save_minutes=2.5 / 60, patience=3), 1, 2, *range(6, 20))
    with pytest.raises(TrainingDiverged, match=r"3 steps in a row, up to step 8.*smaller learning rate"):
        stage.run()
    state = json.loads((tmp_path / "stage" / "state" / "progress.json").read_text())
    assert state["step"] <= 8 and all(torch.isfinite(v).all() for v in snapshot(make(tmp_path, clock)).values())


def test_the_norm_of_the_gradient_is_logged_before_it_is_clipped(tmp_path):
    norms = []
    stage = make(tmp_path, max_steps=3, clip_norm=0.01, log_steps=1)
    clip = stage._clip

    def watch(norm):
        norms.append(math.sqrt(sum(float(p.grad.square().sum()) for p in stage.trainable)))
        return clip(norm)

    stage._clip = watch
    logged = []
    stage._logged = lambda running, seen: logged.append(seen["grad norm"]) or running
    stage.run()
    assert logged == pytest.approx(norms, rel=1e-5) and min(norms) > 0.01
    assert "grad norm" in stage.progress.metrics


def test_stop_saves_after_the_step_in_hand_and_a_resumed_run_is_the_same(tmp_path):
    whole = without_running(make(tmp_path / "a", max_steps=6))
    stage = make(tmp_path / "b", max_steps=6)
    at_step(stage, 3, stage.stop)
    progress = stage.run()
    assert progress.step == 4 and not progress.finished
    again = make(tmp_path / "b", max_steps=6)
    assert again.progress.step == 4
    assert not differing(snapshot(whole), snapshot(without_running(again)))


def test_parameters_learn_at_a_rate_of_their_own(tmp_path):
    model = network()
    stage = TrainingStage(
        "stage", tmp_path, model, StageConfig(1000, lr=0.01, warmup=1, ema_decay=0, max_steps=1),
        lambda step, _: (model(torch.ones(2, 4)).sum(), {}),
        mixed_precision="no", scales={"3.": 0.25},
    )  # fmt: skip
    before = {k: v.clone() for k, v in model.state_dict().items()}
    stage.run()
    moved = {k: (v - before[k]).abs().max().item() for k, v in model.state_dict().items()}
    assert moved["3.bias"] == pytest.approx(0.0025, rel=0.05) and moved["0.bias"] == pytest.approx(0.01, rel=0.05)


def test_the_rate_falls_as_half_a_cosine(tmp_path):
    stage = make(tmp_path, max_steps=20, minutes=math.inf, cooldown=0.5, shape="cosine", warmup=2)
    seen, loss_fn = [], stage.loss_fn
    stage.loss_fn = lambda step, device: seen.append(stage.optimizer.param_groups[0]["lr"]) or loss_fn(step, device)
    stage.run()
    assert seen[:10] == pytest.approx([0.005] + [0.01] * 9)
    assert seen[10:] == pytest.approx([0.01 * (1 + math.cos(math.pi * i / 10)) / 2 for i in range(10)])
    assert all(group["betas"] == (0.9, 0.99) for group in stage.optimizer.param_groups)


def test_a_step_of_several_batches_has_their_mean_gradient(tmp_path, monkeypatch):
    torch.manual_seed(0)
    data, seen = torch.randn(8, 5, 4), []
    model = nn.Linear(4, 1)
    stage = TrainingStage(
        "stage", tmp_path, model, StageConfig(1000, max_steps=2, accumulate=4, lr=0.1, warmup=1, ema_decay=0),
        lambda number, _: (model(data[number]).square().mean(), {}), mixed_precision="no",
    )  # fmt: skip
    clip = stage._clip
    monkeypatch.setattr(stage, "_clip", lambda norm: seen.append(model.weight.grad.clone()) or clip(norm))
    before = model.weight.detach().clone(), model.bias.detach().clone()
    stage.run()
    w, b = before[0].requires_grad_(), before[1]
    torch.stack([(x @ w.T + b).square().mean() for x in data[:4]]).mean().backward()
    assert torch.allclose(seen[0], w.grad, atol=1e-6) and len(seen) == 2


def test_processes_and_batches_share_no_row():
    class Part:
        config = SimpleNamespace(batch=3)

        def __init__(self, rank):
            self.accelerator = SimpleNamespace(num_processes=4, process_index=rank)

    rows = [i for number in range(5) for rank in range(4) for i in TrainingStage.indices(Part(rank), number)]
    assert sorted(rows) == list(range(60)) and rows == sorted(rows)


def test_as_many_states_stay_as_are_asked_for(tmp_path, clock):
    stage = make(tmp_path, clock, max_steps=6, save_minutes=1 / 60, keep_states=3)
    stage.run()
    found = {p.name: json.loads((p / "progress.json").read_text())["step"] for p in (tmp_path / "stage").glob("state*")}
    assert found == {"state": 6, "state-00000004": 4, "state-00000002": 2}  # saved every two seconds
    one = make(tmp_path, clock, max_steps=8, save_minutes=1 / 60)  # fewer are asked for: the others go with the next save
    one.run()
    assert [p.name for p in (tmp_path / "stage").glob("state*")] == ["state"]


def test_a_run_that_was_killed_between_two_renames_goes_on_from_its_newest_state(tmp_path, clock):
    make(tmp_path, clock, max_steps=6, save_minutes=1 / 60, keep_states=3).run()
    shutil.rmtree(tmp_path / "stage" / "state")
    assert make(tmp_path, clock, max_steps=6).progress.step == 4


def test_a_longer_run_that_was_stopped_is_not_finished(tmp_path):
    """Its shorter one was, and so the command said that the bundle was there, and ended with 0."""
    budget = {"minutes": math.inf, "cooldown": 1.0}
    assert make(tmp_path, max_steps=2, **budget).run().finished
    longer = make(tmp_path, max_steps=50, **budget)
    at_step(longer, 4, longer.stop)
    progress = longer.run()
    assert progress.step == 5 and not progress.finished
    assert make(tmp_path, max_steps=50, **budget).run().finished


@pytest.mark.parametrize("asked", (4, 5, 20))
def test_no_state_goes_before_there_are_too_many(tmp_path, clock, asked):
    """Of four or more that were asked for, half were taken away as soon as there were four."""
    make(tmp_path, clock, max_steps=10, save_minutes=1 / 60, keep_states=asked).run()
    found = sorted(int(p.name.removeprefix("state-")) for p in (tmp_path / "stage").glob("state-*"))
    assert found == [2, 4, 6, 8][-(asked - 1) :]


def test_sigterm_ends_a_run_with_its_state_saved_and_the_handlers_are_the_old_ones(tmp_path):
    before = [signal.getsignal(name) for name in (signal.SIGTERM, signal.SIGINT)]
    stage = make(tmp_path, max_steps=50)
    at_step(stage, 3, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with stage.stopped_by_signals():
        stage.run()
    assert not stage.progress.finished and make(tmp_path, max_steps=50).progress.step == 4
    assert [signal.getsignal(name) for name in (signal.SIGTERM, signal.SIGINT)] == before


def test_all_processes_leave_after_the_same_step(tmp_path, monkeypatch):
    """One is told to stop, all others hear of it."""
    stage = make(tmp_path, max_steps=50)
    told = []
    monkeypatch.setattr(type(stage.accelerator), "num_processes", property(lambda _: 2))

    def reduce(value, how):
        told.append((float(value), how))
        return value + (len(told) == 3)  # the other process was told during the second step

    monkeypatch.setattr(stage.accelerator, "reduce", reduce)
    stage.run()
    assert told == [(0.0, "sum")] * 3 and stage.progress.step == 2 and not stage.progress.finished


def test_speed_memory_and_what_was_left_out_are_logged(tmp_path, clock, monkeypatch):
    stage, logged = make(tmp_path, clock, max_steps=3, batch=6, accumulate=2, log_steps=1), []
    monkeypatch.setattr(stage.accelerator, "log", lambda values, step: logged.append(values))
    stage.run()
    assert [row["rows per second"] for row in logged] == [6.0] * 3  # two batches of 6 in the two seconds of this clock
    assert all(row["skipped"] == 0 and 0.05 < row["memory"] < 64 for row in logged)

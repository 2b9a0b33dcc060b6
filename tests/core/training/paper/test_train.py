# SPDX-License-Identifier: GPL-3.0-or-later
"""The three stages from datasets to a bundle that edits."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from fireedit_core.checkpoints.bundle import bundle_options, load_component, load_components, read_index, save_bundle
from fireedit_core.diffusion.pipeline import FireEditPipeline
from fireedit_core.training.lock import AlreadyRunning
from fireedit_core.training.paper.train import _check_same_run, processes, train

pytestmark = pytest.mark.slow


def curve(folder, tag="loss") -> list[float]:
    """What TensorBoard was told, step by step."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = {}
    for file in sorted(folder.rglob("events.out*"), key=lambda f: f.stat().st_mtime):
        events = EventAccumulator(str(file))
        events.Reload()
        if tag in events.Tags()["scalars"]:
            found |= {event.step: event.value for event in events.Scalars(tag)}
    return [found[step] for step in sorted(found)]


def weights(bundle, *parts) -> dict[str, torch.Tensor]:
    found = {}
    for part in parts or ("unet", "qformer", "tati", "hvca", "visual_attention", "adapter", "img_tokens", "grounding"):
        for file in sorted((bundle / part).glob("*.safetensors")):
            found |= {f"{part} {k}": v.float() for k, v in load_file(file).items()}
    return found


def changed(a, b) -> set[str]:
    """Names of the parts in which two sets of weights differ."""
    assert a.keys() == b.keys()
    return {name.split()[0] for name in a if not torch.equal(a[name], b[name])}


def test_joint_training_on_all_datasets_ends_in_a_bundle_that_edits(config, tmp_path, bundle):
    settings = config(steps=2, batch=2, conversation_rows=1, validation=1, buckets=True, flip=0.5, precision="bf16")
    made = train(settings)
    assert changed(weights(bundle), weights(made)) >= {"unet", "qformer", "tati", "hvca", "visual_attention", "adapter", "img_tokens"}
    assert changed(weights(bundle, "vae", "dinov2", "language_model"), weights(made, "vae", "dinov2", "language_model")) == set()
    assert (made / "language_model_lora" / "adapter_model.safetensors").is_file()
    pipe = FireEditPipeline.from_pretrained(made)
    picture = pipe(torch.rand(1, 3, 64, 64), "remove the apple", num_inference_steps=1, output_type="pt").images
    assert picture.shape == (1, 3, 64, 64) and torch.isfinite(picture).all()
    record = json.loads((made / "training.json").read_text())
    assert record["step"] == 2 and record["config"]["steps"] == 2
    assert (tmp_path / "run" / "sheet-0000002.png").stat().st_size > 2000
    for tag in ("loss", "diffusion", "language", "conversation", "grounding", "validation/diffusion", "lr"):
        assert all(torch.isfinite(torch.tensor(curve(tmp_path / "run", tag)))) and curve(tmp_path / "run", tag)


def test_the_second_stage_leaves_the_unet_alone(config, bundle):
    made = train(config(stage="vlm"))
    assert changed(weights(bundle), weights(made)) == {"qformer", "tati", "hvca", "visual_attention", "adapter", "img_tokens", "grounding"}


def test_text_alignment_teaches_the_qformer_to_speak_like_the_text_model(config, tmp_path, bundle):
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(3)
    teacher = CLIPTextModel(CLIPTextConfig(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2))
    teacher.save_pretrained(tmp_path / "clip")
    load_component(bundle, "tokenizer").save_pretrained(tmp_path / "clip")
    captions = tmp_path / "captions.txt"
    captions.write_text("\n".join(["a red apple", "", "a star beside the apple", "the left star", "a cat"]) + "\n")
    tokens = load_component(bundle, "tokenizer")
    assert len(tokens) > 64  # ids beyond the text model's vocabulary would be looked up in vain
    teacher.resize_token_embeddings(len(tokens))
    teacher.save_pretrained(tmp_path / "clip")
    settings = config(
        stage="text", captions=str(captions), text_encoder=str(tmp_path / "clip"), sources="", steps=25, batch=4, lr=3e-3, ema_decay=0.0
    )
    made = train(settings)
    assert changed(weights(bundle), weights(made)) == {"qformer", "img_tokens"}
    distance, language = (curve(tmp_path / "run", tag) for tag in ("distance", "language"))
    assert distance[-1] < 0.6 * distance[0] and language[-1] < 0.6 * language[0]


def test_what_does_not_belong_together_is_refused(config, tmp_path):
    from transformers import CLIPTextConfig, CLIPTextModel

    wide = CLIPTextModel(CLIPTextConfig(vocab_size=64, hidden_size=48, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2))
    wide.save_pretrained(tmp_path / "clip")
    load_component(config().bundle, "tokenizer").save_pretrained(tmp_path / "clip")
    (tmp_path / "c.txt").write_text("a\n")
    with pytest.raises(ValueError, match="77 x 32 .* 77 x 48"):
        train(config(stage="text", captions=str(tmp_path / "c.txt"), text_encoder=str(tmp_path / "clip"), sources=""))
    talk = tmp_path / "talk.yaml"
    entries = yaml.safe_load(open(config().sources))["sources"]
    mine = [dict(e, **{k: str(os.path.join(os.path.dirname(config().sources), v)) for k, v in e.items() if k in ("file", "pictures")})
            for e in entries if e["format"] == "llava-instruct"]  # fmt: skip
    talk.write_text(yaml.safe_dump(mine))
    with pytest.raises(ValueError, match="teach no editing"):
        train(config(sources=str(talk)))


def test_going_on_with_other_numbers_is_refused(config):
    train(config(steps=1))
    with pytest.raises(ValueError, match="another lr"):
        train(config(steps=1, lr=5e-4))
    train(config(steps=2))  # more steps are no other run


def test_going_on_from_a_start_that_was_written_anew_is_refused(config, tmp_path, bundle):
    """Of the start only its name was looked at: what is trained went on beside other weights than it had learnt with."""
    start = Path(shutil.copytree(bundle, tmp_path / "start"))
    settings = config(bundle=str(start))
    (tmp_path / "run" / "joint" / "state").mkdir(parents=True)
    check = lambda: _check_same_run(settings, tmp_path / "run", processes())  # noqa: E731
    check()
    record = tmp_path / "run" / "joint" / "config.json"
    told = json.loads(record.read_text())
    check()
    file = start / "vae" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-4096] + bytes(4096))
    with pytest.raises(ValueError, match="holds a run with another content of bundle"):
        check()
    record.write_text(json.dumps({key: value for key, value in told.items() if key != "content of bundle"}))
    check()  # of a run from before that was looked at


def test_what_a_run_starts_from_is_not_what_it_writes(config, tmp_path, bundle):
    """The second save read the first one's bundle as its start, with the adapters in it already, and the start was gone."""
    out = tmp_path / "run"
    shutil.copytree(bundle, out / "bundle")
    with pytest.raises(ValueError, match="is what this run starts from and what it would write over"):
        train(config(bundle=str(tmp_path / "run" / ".." / "run" / "bundle")))
    with pytest.raises(ValueError, match="bundle is there already, and no state of a run of stage joint beside it"):
        train(config())  # of a run that started elsewhere, or of another stage
    assert files(out / "bundle") == files(bundle)


def test_going_on_over_other_data_is_refused(config, tmp_path, sources):
    """Draws are numbers: with a row more, or in another order, a resumed run read other rows than it would have."""
    listed = yaml.safe_load(sources.read_text())["sources"]
    own = [entry | {k: str(sources.parent / v) for k, v in entry.items() if k in ("files", "root", "images")}
           for entry in listed if entry["name"] in ("pairs", "magicbrush-hub", "coco-stuff")]  # fmt: skip
    file = tmp_path / "own.yaml"
    file.write_text(yaml.safe_dump(own))
    train(config(steps=1, sources=str(file)))
    for changed_list, said in (
        (own[:2], own[2]["name"]), (own[::-1], "the order"), ([own[0] | {"kind": "reasoning"}, *own[1:]], own[0]["name"]),
    ):  # fmt: skip
        file.write_text(yaml.safe_dump(changed_list))
        with pytest.raises(ValueError, match=f"over other data .*{said}"):
            train(config(steps=2, sources=str(file)))
    file.write_text(yaml.safe_dump(own))
    train(config(steps=2, sources=str(file)))


def test_a_finished_run_leaves_its_bundle_as_it_is(config):
    """The same command once more made it anew, without the card that `evaluation card` had put into it."""
    made = train(config(steps=1))
    (made / "README.md").write_text("what it can do")
    before = files(made)
    assert files(train(config(steps=1))) == before
    assert "README.md" not in files(train(config(steps=2)))  # other weights: what stood there is no longer true


def test_two_runs_at_once_do_not_write_into_one_folder(config, tmp_path, monkeypatch):
    """The second one took the first one's half state away, or both wrote into it."""
    from fireedit_core.training.paper import train as module

    tries = []

    def second(*_):
        with pytest.raises(AlreadyRunning, match=f"process {os.getpid()} trains in .*run already"):
            train(config(steps=1))
        tries.append(1)

    with monkeypatch.context() as patch:
        patch.setattr(module, "_show", second)
        train(config(steps=1))
    train(config(steps=2))
    assert tries == [1]


def test_a_state_between_two_renames_is_a_state(config, tmp_path):
    train(config(steps=1))
    (tmp_path / "run" / "joint" / "state").rename(tmp_path / "run" / "joint" / "state-00000001")
    with pytest.raises(ValueError, match="another lr"):
        train(config(steps=2, lr=5e-4))


def test_sizes_of_pictures_are_those_of_the_run(config, tmp_path):
    """Two runs in one folder, each over its own set called "pairs", shared a table: tall pictures were cut as if they were wide."""
    seen = {}
    for name, shape in (("wide", (128, 64)), ("tall", (64, 128))):
        root = tmp_path / f"{name}-pairs"
        root.mkdir()
        for i in range(4):
            for role, shade in (("before", 40), ("after", 90)):
                Image.new("RGB", shape, (shade + i, 9, 9)).save(root / f"{i}_{role}.png")
            (root / f"{i}.txt").write_text("make it red")
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump([{"name": "pairs", "format": "pairs", "root": str(root)}]))
        train(config(steps=1, buckets=True, sources=str(tmp_path / f"{name}.yaml"), out=str(tmp_path / "runs" / name)))
        (table,) = (tmp_path / "runs").rglob(f"{name}/**/*.sizes")
        seen[name] = np.fromfile(table, np.uint32).tolist()
    assert set(seen["wide"]) - {0} == {64 << 16 | 128} and set(seen["tall"]) - {0} == {128 << 16 | 64}


def test_gradients_add_up_over_passes(config, tmp_path):
    """Two passes of two rows are one pass of four."""
    once = train(config(batch=4, out=str(tmp_path / "a")))
    twice = train(config(batch=2, accumulate=2, out=str(tmp_path / "b")))
    assert curve(tmp_path / "a") == pytest.approx(curve(tmp_path / "b"), rel=1e-4)
    one, other = weights(once), weights(twice)
    assert max(float((one[k] - other[k]).abs().max()) for k in one) < 2e-3


def test_forgetting_activations_changes_no_gradient(config, tmp_path):
    train(config(out=str(tmp_path / "a")))
    train(config(out=str(tmp_path / "b"), checkpointing=True))
    assert curve(tmp_path / "a") == pytest.approx(curve(tmp_path / "b"), rel=1e-6)


def test_kept_features_change_nothing_and_are_used(config, tmp_path, monkeypatch):
    from fireedit_core.training.paper import features

    train(config(out=str(tmp_path / "a"), flip=0.0))
    kept = tmp_path / "features"
    train(config(out=str(tmp_path / "b"), flip=0.0, feature_cache=str(kept)))
    assert len(list(kept.rglob("*.safetensors"))) >= 4
    assert curve(tmp_path / "a") == pytest.approx(curve(tmp_path / "b"), rel=1e-2)  # towers are kept in half precision

    def never(*_):
        raise AssertionError("the features are there")

    for name in ("_compute", "_encode"):
        monkeypatch.setattr(features.FrozenParts, name, never)
    train(config(out=str(tmp_path / "c"), flip=0.0, feature_cache=str(kept)))
    assert curve(tmp_path / "b") == pytest.approx(curve(tmp_path / "c"), rel=1e-2)


def test_adapters_of_the_unet_are_merged_into_it(config, bundle):
    parts = ["unet_lora", "qformer", "visual_attention"]
    made = train(config(train_parts=parts, unet_lora_rank=2, lr=0.05, steps=3))
    assert changed(weights(bundle), weights(made)) == {"unet", "qformer", "visual_attention"}
    one, other = weights(bundle, "unet"), weights(made, "unet")
    moved = {k for k in one if not torch.equal(one[k], other[k])}
    assert moved and all(any(x in k for x in ("to_q", "to_k", "to_v", "to_out")) for k in moved)
    for name in (k for k in moved if k.endswith("to_k.weight")):
        assert torch.linalg.matrix_rank(other[name] - one[name], rtol=0.05) <= 2  # in half precision: the rest is rounding


def files(bundle) -> dict[str, bytes]:
    return {str(f.relative_to(bundle)): f.read_bytes() for f in sorted(bundle.rglob("*")) if f.is_file()}


def test_what_was_not_trained_is_copied_byte_for_byte_and_only_once(config, tmp_path, bundle, monkeypatch):
    """Also where it ran in half precision, as with the sizes of the published models."""
    from fireedit_core.training.paper import assemble

    start = tmp_path / "start"
    save_bundle(start, load_components(bundle), bundle_options(read_index(bundle)), torch.float32)  # bfloat16 would round these
    copied, copy = [], assemble.shutil.copy2
    monkeypatch.setattr(assemble.shutil, "copy2", lambda file, to: copied.append(str(file)) or copy(file, to))
    settings = {"bundle": str(start), "precision": "bf16", "frozen_dtype": "bfloat16", "save_minutes": 0.0, "steps": 3}
    made = train(config(stage="vlm", **settings))
    before, after = files(start), files(made)
    trained = {"qformer", "tati", "hvca", "visual_attention", "adapter", "img_tokens", "grounding"}
    same = {name for name in before if name.split("/")[0] not in trained}
    assert {"unet/config.json", "vae/config.json", "tokenizer/tokenizer.json"} < same and len(same) > 12
    assert [name for name in same if before[name] != after[name]] == []
    assert len(copied) == len(set(copied)) == len(same) - 1  # three saves; the index is written apart
    assert (start / "unet" / "config.json").stat().st_ino != (made / "unet" / "config.json").stat().st_ino
    assert changed(weights(start), weights(made)) == trained
    assert load_file(made / "qformer" / "diffusion_pytorch_model.safetensors")["query_tokens"].dtype == torch.float32  # as the start has it
    # the stage after it trains the UNet from those very weights
    final = train(config(stage="joint", out=str(tmp_path / "joint"), **settings | {"bundle": str(made), "lr": 1e-9, "ema_decay": 0.0}))
    one, other = weights(start, "unet"), weights(final, "unet")
    assert max(float((one[k] - other[k]).abs().max()) for k in one) < 1e-7  # rounded they would be off by 1e-3


def test_the_embedding_of_no_text_is_trained_only_if_asked_for(config, tmp_path, bundle):
    null = lambda folder: weights(folder, "tati")["tati null_embedding"]  # noqa: E731
    for stage in ("vlm", "joint"):
        assert torch.equal(null(bundle), null(train(config(stage=stage, dropout=1 / 3, out=str(tmp_path / stage)))))
    assert not torch.equal(null(bundle), null(train(config(dropout=1 / 3, learn_null=True, out=str(tmp_path / "learnt")))))


def test_what_a_conversion_leaves_untrained_learns_at_a_rate_of_its_own(config, monkeypatch):
    """fresh_lr is for the Q-Former, TATI, HVCA and its attention; the rest keeps the rate of the run."""
    from fireedit_core.training.paper.train import PaperStage

    class Enough(Exception):
        pass

    def look(stage):
        names = {p: name for name, p in stage.model.named_parameters()}
        for group in stage.optimizer.param_groups:
            rates.update({names[p].split("parts.")[1].split(".")[0]: group["scale"] for p in group["params"]})
        raise Enough

    rates = {}
    monkeypatch.setattr(PaperStage, "run", look)
    with pytest.raises(Enough):
        train(config(fresh_lr=3.0))
    fresh = {"qformer", "tati", "hvca", "visual_attention"}
    assert fresh < set(rates) and {name: scale for name, scale in rates.items() if scale != 1} == dict.fromkeys(fresh, 3.0)


def test_targets_are_drawn_from_the_posterior_by_the_row_s_seed():
    from diffusers import AutoencoderKL

    from fireedit_core.training.paper.features import FrozenParts

    torch.manual_seed(1)
    kl = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=4, scaling_factor=0.5)
    parts = FrozenParts.__new__(FrozenParts)
    parts.parts, parts.cache = {"vae": kl, "dinov2": kl}, None
    pictures, seeds = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8), torch.tensor([5, 9, 5])
    kl.requires_grad_(False)
    posterior = kl.encode(pictures.float() / 127.5 - 1).latent_dist
    mode, drawn = parts.latents(pictures), parts.latents(pictures, seeds)
    assert torch.allclose(mode, posterior.mean * 0.5, atol=1e-6)
    noise = (drawn - mode) / (posterior.std * 0.5)
    assert torch.allclose(noise[0], noise[2], atol=1e-4) and not torch.allclose(noise[0], noise[1], atol=0.1)
    assert abs(float(noise.mean())) < 0.1 and abs(float(noise.std()) - 1) < 0.1
    assert torch.allclose(parts.latents(pictures[1:2], seeds[1:2]), drawn[1:2], atol=1e-5)  # in whatever company


def test_a_run_whose_gradients_stay_no_numbers_ends_with_a_message(config, monkeypatch, tmp_path, caplog):
    from fireedit_core.training.paper import __main__ as program
    from fireedit_core.training.paper.model import EditModel

    forward = EditModel.forward

    def broken(self, *rows):
        loss, metrics = forward(self, *rows)
        return loss * float("nan"), metrics

    monkeypatch.setattr(EditModel, "forward", broken)
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(asdict(config(steps=40))))
    assert program.main([str(file)]) == 2
    assert "the gradient was not finite for 20 steps in a row" in caplog.text


@pytest.mark.parametrize(("made", "code", "said"), [(None, 143, "stopped by a signal, the state is saved"), ("b", 0, "the bundle is in b")])
def test_a_run_that_was_stopped_is_seen_in_the_exit_code(config, monkeypatch, tmp_path, caplog, made, code, said):
    """A script that goes on to the next stage must not take it for a run that has ended."""
    from fireedit_core.training.paper import __main__ as program

    caplog.set_level("INFO", "fireedit")
    monkeypatch.setattr("fireedit_core.training.paper.train.train", lambda config: made)
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(asdict(config(steps=1))))
    assert program.main([str(file)]) == code and said in caplog.text


def test_adapters_that_a_bundle_brings_are_trained_on(config, tmp_path):
    first = train(config(out=str(tmp_path / "a")))
    second = train(config(out=str(tmp_path / "b"), bundle=str(first)))
    assert changed(weights(first, "language_model_lora"), weights(second, "language_model_lora")) == {"language_model_lora"}
    assert load_components(second, names=("language_model",)) and read_index(second)


def test_a_run_on_streams_goes_on_where_it_was_stopped(config, tmp_path, monkeypatch, fresh_accelerate):
    from fireedit_core.training.paper import train as module

    numbers = {"streamed": True, "steps": 4, "conversation_rows": 1, "flip": 0.5, "save_minutes": 0.0}
    whole = train(config(out=str(tmp_path / "whole"), **numbers))
    show = module._show

    def stop(stage, *rest):
        show(stage, *rest)
        if stage.progress.step == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(module, "_show", stop)
    with pytest.raises(KeyboardInterrupt):
        train(config(out=str(tmp_path / "cut"), **numbers))
    monkeypatch.setattr(module, "_show", show)
    fresh_accelerate()
    again = train(config(out=str(tmp_path / "cut"), **numbers))
    assert changed(weights(whole), weights(again)) == set() and curve(tmp_path / "whole") == curve(tmp_path / "cut")


# --- killed and started again --------------------------------------------------------------------------------------------------------


def command(settings, tmp_path, *extra) -> list[str]:
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(asdict(settings)))
    return [sys.executable, "-m", "fireedit_core.training.paper", str(file), *extra]


def test_a_kill_while_a_bundle_is_exchanged_leaves_a_whole_one(config, tmp_path, bundle, monkeypatch):
    """The old one was taken away file by file before the new one had its name."""
    from fireedit_core.training.paper import assemble

    made = train(config(steps=1))
    kept, rmtree = weights(made), shutil.rmtree

    def killed(folder, *rest):
        rmtree(folder, *rest)
        if folder.name.startswith("bundle"):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(assemble.shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            assemble.export({}, config(), made)
    assert changed(weights(made), weights(bundle)) == set() != changed(weights(made), kept)
    assemble.export({}, config(), made)
    assert [file.name for file in made.parent.glob("bundle*")] == ["bundle"]


@pytest.mark.slow
def test_killed_and_started_again_it_is_the_same_run_bit_for_bit(config, tmp_path, repo):
    steps = {"steps": 4, "conversation_rows": 1, "lora_dropout": 0.3, "flip": 0.5}
    whole = train(config(out=str(tmp_path / "whole"), **steps))
    cut = command(config(out=str(tmp_path / "cut"), save_minutes=0.0, **steps), tmp_path)
    env = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads()), "PYTHONPATH": str(repo)}
    progress = tmp_path / "cut" / "joint" / "state" / "progress.json"
    running = subprocess.Popen(cut, cwd=repo, env=env, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (progress.is_file() and json.loads(progress.read_text() or "{}").get("step", 0) >= 1):
        assert running.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert json.loads(progress.read_text())["step"] < 4
    again = subprocess.run(cut, cwd=repo, env=env, capture_output=True, text=True)
    assert again.returncode == 0 and "resumed at step" in again.stderr, again.stderr[-2000:]
    assert changed(weights(whole), weights(tmp_path / "cut" / "bundle")) == set()
    lora = "language_model_lora"
    assert changed(weights(whole, lora), weights(tmp_path / "cut" / "bundle", lora)) == set()
    assert curve(tmp_path / "whole") == curve(tmp_path / "cut")


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_are_one_with_twice_the_batch(config, tmp_path, repo, parallel):
    numbers, near = {"steps": 2, "flip": 0.5, "buckets": True, "validation": 1}, 2e-3
    if parallel == "fsdp":  # units of frozen weights in half precision beside trained ones that are not
        numbers |= {"precision": "bf16", "frozen_dtype": "bfloat16"}
        near = 2e-2
    one = train(config(out=str(tmp_path / "one"), batch=4, conversation_rows=2, **numbers))
    two = command(config(out=str(tmp_path / "two"), batch=2, conversation_rows=1, parallel=parallel, **numbers), tmp_path)
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *two[1:]]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(repo), "ACCELERATE_USE_CPU": "true"}
    found = subprocess.run(start, cwd=repo, env=env, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr[-3000:]
    for tag in ("loss", "diffusion", "language", "conversation", "grounding", "validation/diffusion"):
        assert curve(tmp_path / "one", tag) == pytest.approx(curve(tmp_path / "two", tag), rel=near, abs=1e-5)
    a, b = weights(one), weights(tmp_path / "two" / "bundle")
    assert changed(a, b) <= {k.split()[0] for k in a} and max(float((a[k] - b[k]).abs().max()) for k in a) < 5e-3
    # a second run of both goes on from the state that they saved together
    more = subprocess.run([*start, "--steps", "3"], cwd=repo, env=env, capture_output=True, text=True)
    assert more.returncode == 0 and "resumed at step 2" in more.stderr, more.stderr[-3000:]

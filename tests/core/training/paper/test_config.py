# SPDX-License-Identifier: GPL-3.0-or-later
from typing import get_type_hints

import pytest

from fireedit_core.training.paper.config import PaperConfig, load_config


def test_the_command_line_replaces_what_the_file_says(tmp_path):
    file = tmp_path / "a.yaml"
    lines = ["stage: vlm", "sources: ./data/sources.yaml", "out: .cache/runs", "lr: 1e-5", "buckets: false"]
    lines.append("trackers: [tensorboard, wandb]")
    file.write_text("\n".join(lines))
    config, options = load_config([str(file), "--steps", "7", "--train_parts", "adapter", "qformer"])
    assert (config.stage, config.lr, config.buckets, config.steps) == ("vlm", 1e-5, False, 7)
    assert config.sources == str(tmp_path / "data" / "sources.yaml") and config.trackers == ["tensorboard", "wandb"]
    assert config.out == ".cache/runs"  # a name that begins with a dot is no way out of a folder
    assert config.trained == ("adapter", "qformer") and not options.dry_run
    assert load_config([str(file), "--dry-run"])[1].dry_run


@pytest.mark.parametrize(
    ("text", "arguments", "says"),
    [
        ("stage: joint\nlerning_rate: 1\nsources: a", [], "no lerning_rate"),
        ("stage: joint", [], "needs sources"),
        ("stage: text", [], "needs captions"),
        ("just words", [], "name: value"),
        ("sources: a\nbatch: 0", [], "batch must be 1 or more"),
        ("sources: a", ["--stage", "third"], "invalid choice"),
        ("sources: a\ntrain_parts: [vae]", [], "cannot train vae"),
        ("sources: a\ntrain_parts: [unet, unet_lora]", [], "not both"),
        ("sources: a\nprecision: 'no'", [], "frozen_dtype float32"),
        ("sources: a\nstreamed: true", [], "buckets false"),
        ("sources: a\nstreamed: true\nbuckets: false\nworkers: 2", [], "give validation_sources"),
        ("sources: a\ndropout: 0.5", [], "0 to 1/3"),
        ("stage: jiont\nsources: a", [], "stage must be one of text, vlm, joint, got 'jiont'"),
        ("sources: a\ntarget_latents: mean", [], "target_latents must be one of sample, mode"),
        ("sources: a\nparallel: fspd", [], "parallel must be one of ddp, fsdp"),
        ("sources: a\nlora_targets: q_proj", [], "lora_targets must be a list of texts, got 'q_proj'"),
        ("sources: a\nsteps: 10.5", [], "steps must be a whole number, got 10.5"),
        ("sources: a\nbuckets: 0", [], "buckets must be true or false, got 0"),
        ("sources:", [], "sources must be a text, got None"),
        ("sources: a\nprecision: no", [], "frozen_dtype float32"),
        ("sources: a\nsteps: 100\nlr: 1\nsteps: 10", [], "the key steps stands there twice"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_a_reason(tmp_path, capsys, text, arguments, says):
    file = tmp_path / "a.yaml"
    file.write_text(text)
    with pytest.raises(SystemExit):
        load_config([str(file), *arguments])
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("clip_norm", -1.0, "0 or more"), ("lr", -1e-4, "0 or more"), ("warmup", -5, "0 or more"), ("ema_decay", 2.0, "0 to 1"),
        ("flip", 7.0, "0 to 1"), ("validation", -3, "0 or more"), ("validation_steps", 0, "1 or more"), ("save_minutes", -1.0, "0 or more"),
        ("seed", 2**40, "0 to 4294967295"),
        ("workers", -1, "0 or more"),
        ("conversation_rows", -1, "0 or more"), ("lora_rank", 0, "1 or more"), ("seed", -1, "0 to 4294967295"),
        ("language_weight", -1.0, "0 or more"), ("lora_dropout", 1.5, "0 to 1"), ("conversation_tokens", 0, "1 or more"),
    ],
)  # fmt: skip
def test_a_number_outside_of_its_range_is_refused(name, value, says):
    """A clip_norm of -1 turned the gradients round, and no steps for the sheet ended the run at its first save."""
    with pytest.raises(ValueError, match=f"{name} must be {says}, got {value}"):
        PaperConfig(sources="a", **{name: value})


def test_every_number_has_a_range():
    from fireedit_core.training.paper.config import RANGES

    numbers = {name for name, kind in get_type_hints(PaperConfig).items() if kind in (int, float)}
    assert numbers - set(RANGES) == {"dropout", "fresh_lr"}  # which are looked at by themselves


def test_a_part_of_a_name_is_no_option(capsys):
    with pytest.raises(SystemExit):
        load_config(["tiny_all", "--step", "3"])
    assert "--step" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["tiny_all", "configs/tiny_all.yaml"])
def test_a_configuration_that_comes_along_is_found_by_its_name(name):
    assert load_config([name, "--steps", "3"])[0].steps == 3


def test_a_missing_file_is_named(capsys):
    with pytest.raises(SystemExit):
        load_config(["nowhere.yaml"])
    assert "nowhere.yaml" in capsys.readouterr().err


def test_a_folder_behind_the_options_is_told_where_to_stand(tmp_path, capsys):
    with pytest.raises(SystemExit):
        load_config(["--dry-run", str(tmp_path)])
    assert "is a folder; one of your own pairs stands first" in capsys.readouterr().err


def test_every_number_says_what_it_is():
    from dataclasses import fields

    assert [f.name for f in fields(PaperConfig) if not f.metadata.get("help") and f.name not in ("lora_dropout",)] == []


def test_the_configurations_that_come_along_are_read(repo):
    files = sorted((repo / "fireedit_core/training/paper/configs").glob("*.yaml"))
    assert len(files) >= 4
    for file in files:
        load_config([str(file)])

# SPDX-License-Identifier: GPL-3.0-or-later
"""Every number of a run, from a YAML file, each of which the command line can replace: `--steps 100 --lr 1e-5`."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml

from ...strict_yaml import parsed

CONFIGS = Path(__file__).parent / "configs"
# What each stage trains (paper, section 3.5; SmartEdit's text alignment for the first). "lora" are the adapters of the language model,
# "unet_lora" those of the UNet.
TRAINED = {
    "text": ("img_tokens", "qformer"),
    "vlm": ("lora", "adapter", "img_tokens", "grounding", "qformer", "tati", "hvca", "visual_attention"),
    "joint": ("lora", "adapter", "img_tokens", "grounding", "qformer", "tati", "hvca", "visual_attention", "unet"),
}
AT_ONCE = 16  # pictures that the frozen parts see together, where a batch is smaller
NULL = "null_embedding"  # TATI's, which stands for a dropped text
UNET_LORA_LAYERS = ("to_q", "to_k", "to_v", "to_out.0")
TRAINABLE = ("language_model", "region_encoder", "unet_lora", *TRAINED["joint"])

# name -> (least, most). Outside of these a run would end late and in other words, or train something else: a negative `clip_norm` turns the
# gradients round.
RANGES: dict[str, tuple[int, float]] = {
    **dict.fromkeys(("size", "steps", "batch", "accumulate", "max_regions", "log_steps", "keep_states", "validation_steps"), (1, math.inf)),
    **dict.fromkeys(("conversation_tokens", "lora_rank", "lora_alpha", "unet_lora_rank"), (1, math.inf)),
    **dict.fromkeys(("conversation_rows", "workers", "warmup", "validation", "save_minutes"), (0, math.inf)),
    "seed": (0, 2**32 - 1),  # those of the rows are made of it, and must fit 64 bits
    **dict.fromkeys(("lr", "weight_decay", "clip_norm", "snr_gamma"), (0, math.inf)),
    **dict.fromkeys(("language_weight", "diffusion_weight", "grounding_weight"), (0, math.inf)),
    **dict.fromkeys(("flip", "ema_decay", "lora_dropout"), (0, 1)),
}  # fmt: skip


def _says(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass
class PaperConfig:
    """A run. Paths are relative to the working folder, in the YAML file to the file's own folder when they begin with ./ or ../

    Raises:
        ValueError: for numbers that cannot be.
    """

    stage: Literal["text", "vlm", "joint"] = _says("joint", "which of the three stages")
    bundle: str = _says("models/fireedit-tiny", "bundle to start from: a finished one, or what `fireedit convert` wrote")
    out: str = _says(".cache/runs/paper", "folder of states, logs, sheets and the trained bundle")

    sources: str = _says("", "YAML list of datasets, see docs/datasets.md (stages vlm and joint)")
    streamed: bool = _says(False, "read the sources from front to back, also from https:// and hf://; without buckets")
    validation_sources: str = _says("", "the same for the sheets and the validation loss; empty: drawn from `sources`")
    captions: str = _says("", "text file with a caption per line (stage text)")
    text_encoder: str = _says("", "folder with a CLIP text model and its tokenizer (stage text)")
    size: int = _says(256, "pixels: a picture has about size x size of them")
    buckets: bool = _says(True, "batches of one shape each, between 1:2 and 2:1; otherwise all are cut square")
    flip: float = _says(0.5, "share of pictures that are mirrored, where the source allows it and the instruction names no side")
    detector: str = _says("", "detector that finds the regions, as FireEdit Detector Loader takes it; empty: the bundle's own")
    max_regions: int = _says(100, "regions per picture at most")
    conversation_rows: int = _says(0, "rows of conversations beside each batch, where the sources have any")
    conversation_tokens: int = _says(256, "longer conversations are cut")
    workers: int = _says(0, "processes that read pictures; 0 reads in the training process")
    feature_cache: str = _says("", "folder that keeps what the frozen parts make of each picture; empty: nothing is kept")

    steps: int = _says(1000, "updates of the weights")
    batch: int = _says(4, "pictures per process and pass")
    accumulate: int = _says(1, "passes per update")
    lr: float = _says(1e-5, "peak learning rate")
    warmup: int = _says(100, "updates until the peak")
    optimizer: Literal["adamw", "adamw8bit"] = _says("adamw", "adamw8bit needs bitsandbytes")
    weight_decay: float = _says(0.0, "of matrices")
    clip_norm: float = _says(1.0, "gradients are cut to this norm; 0: not at all")
    ema_decay: float = _says(0.9999, "of the averaged weights, which are what is exported; 0: none")
    seed: int = _says(0, "of all draws")
    precision: Literal["no", "bf16", "fp16"] = _says("bf16", "of the passes; weights that are trained stay in float32")
    frozen_dtype: Literal["float32", "bfloat16", "float16"] = _says("bfloat16", "of weights that are not trained")
    checkpointing: bool = _says(False, "keep no activations of the language model and the UNet; a third slower, far less memory")
    parallel: Literal["ddp", "fsdp"] = _says("ddp", "several processes: a copy each, or weights and optimizer split over them")

    regions: bool = _says(True, "region tokens in the language model's sequence (eq. 2, 3); false: text and picture alone")
    tati: bool = _says(True, "time-aware target injection (eq. 5); false: the UNet reads e itself")
    hvca: bool = _says(True, "visual tokens and the UNet's attention to them (eq. 6, 7); false: neither")
    shared_output: bool = _says(False, "that attention takes W_q and W_o of the UNet's own, as in eq. 7; false: it has its own (ours)")
    meant_region: bool = _says(True, "the Q-Former also reads the region that is meant (ours, not the paper's)")
    mark: bool = _says(True, "the UNet's cells are told whether they lie in the grounding mask (ours, not the paper's)")

    train_parts: list[str] = field(default_factory=list, metadata={"help": f"instead of the stage's own: {', '.join(TRAINABLE)}"})
    lora_rank: int = _says(8, "of the language model's adapters")
    lora_alpha: int = _says(16, "their scale is alpha / rank")
    lora_dropout: float = _says(0.05, "")
    lora_targets: list[str] = field(default_factory=lambda: ["q_proj", "v_proj"], metadata={"help": "layers that get adapters"})
    unet_lora_rank: int = _says(16, "of the UNet's adapters, where unet_lora is trained instead of the UNet")
    language_weight: float = _says(1.0, "of the loss over [IMG] tokens and answers (eq. 4)")
    diffusion_weight: float = _says(1.0, "of the diffusion loss (eq. 8)")
    grounding_weight: float = _says(1.0, "of pointing and painting, for rows with a mask (ours, not the paper's)")
    snr_gamma: float = _says(5.0, "min-SNR weighting of timesteps (arXiv 2303.09556); 0: all alike")
    dropout: float = _says(0.05, "share of rows without text, without both and without picture, each (InstructPix2Pix)")

    learn_null: bool = _says(False, "train the embedding of a dropped text too; otherwise it stays the bundle's, CLIP's of no text")
    fresh_lr: float = _says(1.0, "learning rate of Q-Former, TATI, HVCA and its attention (untrained after a conversion) over the rest's")
    target_latents: Literal["sample", "mode"] = _says("sample", "of the autoencoder's posterior; InstructPix2Pix samples targets")
    save_minutes: float = _says(30.0, "between two saves")
    keep_states: int = _says(1, "states that stay on disk: the last one and those before it")
    log_steps: int = _says(10, "between two lines of the log")
    trackers: list[str] = field(default_factory=lambda: ["tensorboard"], metadata={"help": "tensorboard, wandb, ..."})
    validation: int = _says(8, "rows of the sheet that each save draws, and of the validation loss; 0: neither")
    validation_steps: int = _says(20, "sampling steps of the sheet")

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(PaperConfig).items():
            _check(name, getattr(self, name), kind)
        for name, (least, most) in RANGES.items():
            if not least <= getattr(self, name) <= most:
                said = f"{least} or more" if math.isinf(most) else f"{least} to {most}"
                raise ValueError(f"{name} must be {said}, got {getattr(self, name)}")
        if not 0 <= self.dropout <= 1 / 3:
            raise ValueError(f"dropout is a share for each of three cases, 0 to 1/3, got {self.dropout}")
        if not self.fresh_lr > 0:
            raise ValueError(f"fresh_lr is a factor above 0, got {self.fresh_lr}")
        for name, needs in (("meant_region", "regions"), ("mark", "hvca"), ("shared_output", "hvca")):
            if getattr(self, name) and not getattr(self, needs) and not (name == "meant_region" and self.stage == "text"):
                raise ValueError(f"{name} is made of what {needs}: false leaves out; set {name}: false too")
        unknown = sorted(set(self.train_parts) - set(TRAINABLE))
        if unknown:
            raise ValueError(f"cannot train {', '.join(unknown)}; train_parts may name {', '.join(TRAINABLE)}")
        for pair in (("lora", "language_model"), ("unet_lora", "unet")):
            if set(pair) <= set(self.trained):
                raise ValueError(f"train either {pair[0]} or {pair[1]}, not both")
        idle = sorted(set(self.train_parts) & self.left_out)
        if idle:
            raise ValueError(f"train_parts names {', '.join(idle)}, which the settings leave out, so that nothing would teach it")
        if self.stage == "text" and not (self.captions and self.text_encoder):
            raise ValueError("the stage text needs captions (a text file) and text_encoder (a CLIP text model)")
        if self.stage == "text" and set(self.trained) - set(TRAINED["text"]) - {"lora"}:
            raise ValueError("the stage text sees no pictures: it can train img_tokens, qformer and lora only")
        if self.stage != "text" and not self.sources:
            raise ValueError(f"the stage {self.stage} needs sources, a list of datasets; `python -m fireedit_core.data write` makes one")
        if self.precision == "no" and self.frozen_dtype != "float32":
            raise ValueError("precision no mixes no types: frozen_dtype float32")
        if self.streamed and self.buckets:
            raise ValueError("streamed sources know no shapes in advance: buckets false")
        if self.streamed and self.validation and not self.validation_sources:
            raise ValueError("streamed sources cannot be entered anywhere: give validation_sources, or validation 0")
        if self.parallel == "fsdp" and self.precision == "fp16":
            raise ValueError("parallel fsdp runs in bf16 or with precision no")

    @property
    def trained(self) -> tuple[str, ...]:
        """Names of what is trained."""
        return tuple(name for name in self.train_parts or TRAINED[self.stage] if name not in self.left_out)

    @property
    def passes_at_once(self) -> int:
        """Passes whose pictures the frozen parts see together."""
        return min(self.accumulate, max(1, AT_ONCE // self.batch))

    @property
    def grounds(self) -> bool:
        """Whether the grounding head takes part: it is taught, or its answer is used."""
        return bool(self.grounding_weight) or self.meant_region or self.mark

    @property
    def left_out(self) -> frozenset[str]:
        """Parts that no pass goes through, so that no loss reaches them."""
        used = {
            "region_encoder": self.regions, "tati": self.tati, "hvca": self.hvca, "visual_attention": self.hvca, "grounding": self.grounds,
        }  # fmt: skip
        return frozenset(name for name, is_used in used.items() if not is_used)

    def stays(self, part: str, weight: str) -> bool:
        """Whether a weight of a part that is trained stays as it is, because nothing reads it or it is to be kept."""
        if part == "tati" and weight == NULL:
            return not self.learn_null
        layer = weight.split(".")[-2:-1]
        return part == "visual_attention" and (
            (layer == ["to_mark"] and not self.mark) or (layer in (["to_q"], ["to_out"]) and self.shared_output)
        )


def _check(name: str, value: Any, kind: Any) -> None:
    """Raises ValueError for a value that is not of its kind. argparse looks at the words of the command line, not at those of a file."""
    choices = get_args(kind) if get_origin(kind) is Literal else ()
    fits = {
        bool: ("true or false", isinstance(value, bool)),
        int: ("a whole number", isinstance(value, int) and not isinstance(value, bool)),
        float: ("a number", isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)),
        str: ("a text", isinstance(value, str)),
        list[str]: ("a list of texts", isinstance(value, list | tuple) and all(isinstance(each, str) for each in value)),
    }  # fmt: skip
    wanted, right = (f"one of {', '.join(choices)}", value in choices) if choices else fits[kind]
    if not right:
        raise ValueError(f"{name} must be {wanted}, got {value!r}")


def load_config(arguments: Sequence[str]) -> tuple[PaperConfig, argparse.Namespace]:
    """The configuration of a command line `FILE.yaml [--name value ...]`, and the options that are not part of it.

    Raises:
        SystemExit: as argparse does, for a file that cannot be read, unknown names and wrong values.
    """
    from transformers import HfArgumentParser

    # whole names only: part of one would pass by what looks for the name
    parser = HfArgumentParser(PaperConfig, prog="python -m fireedit_core.training.paper", description=__doc__, allow_abbrev=False)
    along = ", ".join(sorted(file.stem for file in CONFIGS.glob("*.yaml")))
    parser.add_argument("config", type=_file, help=f"YAML file, or the name of one that comes along: {along}")
    parser.add_argument("--dry-run", action="store_true", help="train nothing; print sizes, memory and time per GPU type")
    known = parser.parse_known_args([a for a in arguments if a not in ("-h", "--help")] or ["--help"])[0]
    try:
        parser.set_defaults(**_read(known.config))
    except (OSError, ValueError, yaml.YAMLError) as error:
        parser.error(f"{known.config}: {error}")
    try:
        config, rest = parser.parse_args_into_dataclasses(list(arguments))
    except (TypeError, ValueError) as error:
        parser.error(str(error))
    return config, rest


def _file(text: str) -> Path:
    """The file of that name, or the one that comes along with it: `tiny_all`, `configs/tiny_all.yaml`."""
    own = CONFIGS / f"{Path(text).stem}.yaml"
    return own if not Path(text).exists() and own.is_file() else Path(text)


def _read(file: Path) -> dict[str, Any]:
    if file.is_dir():
        raise ValueError("is a folder; one of your own pairs stands first, before all options")
    found = parsed(file.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise ValueError("expected `name: value` lines")
    known = get_type_hints(PaperConfig)
    unknown = sorted(set(found) - set(known))
    if unknown:
        raise ValueError(f"there is no {', '.join(unknown)}")
    for name, value in found.items():
        kind = known[name]
        if value is False and "no" in get_args(kind):  # YAML reads no as false
            found[name] = "no"
        if kind in (float, int) and isinstance(value, str):  # YAML reads 1e-5 as a text
            found[name] = kind(value)
        if isinstance(value, str) and value.startswith(("./", "../")):
            found[name] = str((file.parent / value).resolve())
    return found

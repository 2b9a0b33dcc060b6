# SPDX-License-Identifier: GPL-3.0-or-later
"""Assemble a full-size bundle from public checkpoints: read headers, check everything, report, then write part by part."""

from __future__ import annotations

import json
import logging
import os
import shutil
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import EulerAncestralDiscreteScheduler
from transformers import PretrainedConfig, PreTrainedTokenizerFast

from . import fresh
from .bundle import COMPONENTS, INDEX, LORA, OPTIONS
from .conversion_report import Report, component_line, source_line
from .index import CONVERTED, UNTRAINED
from .portable import make_portable, portable_name
from .sd15 import CLASSES, FOR_EDITING, LORA_SETTINGS, SAMPLING, SCHEDULER, SD15, RoiMode, Sd15Config
from .sources import ella, groma, instructpix2pix, ip_adapter, language_model, smartedit_qformer, text_tokenizer, vision_towers
from .sources.fit import Found, Part, SourceError
from .sources.lazy_tensor import LazyTensor
from .streaming import SHARD_BYTES, byte_size, write_component, write_weights

logger = logging.getLogger("fireedit")

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclass(frozen=True)
class Sources:
    """Where the public checkpoints lie, each a file or a folder, each optional; see docs/convert.md.

    The tokenizer of CLIP's text tower is also found beside it: in the folder of `clip`, or in that of `instructpix2pix`.
    """

    instructpix2pix: Path | None = None
    language_model: Path | None = None
    lora: Path | None = None
    dinov2: Path | None = None
    clip: Path | None = None
    groma: Path | None = None
    smartedit_qformer: Path | None = None
    ip_adapter: Path | None = None
    ella: Path | None = None
    text_tokenizer: Path | None = None


@dataclass
class Plan:
    """A bundle that is checked but not written.

    Attributes:
        parts: component -> all of its tensors, still in their files. states: what is fresh in them.
        llama: config of the language model. lora: the tensors and the LoraConfig that were given, None for a fresh LoRA.
        text: CLIP's text tower and its tokenizer, by which the bundle edits before it is trained; None where one of them is missing.
    """

    config: Sd15Config
    roi_mode: RoiMode
    parts: dict[str, Part]
    states: dict[str, fresh.FreshState]
    llama: PretrainedConfig
    tokenizer: PreTrainedTokenizerFast
    lora: tuple[Part, Any] | None
    text: tuple[Part, PreTrainedTokenizerFast] | None
    found: dict[str, Found]
    notes: dict[str, list[str]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def report(self, dtype: torch.dtype) -> Report:
        """What comes from where."""
        components = [component_line(name, self.parts[name], self.notes.get(name, [])) for name in CLASSES]
        tensors = [x for part in self.parts.values() for x in part.values()]
        size = sum(byte_size(x, dtype) for x in tensors)
        if self.text is not None:
            components.append(component_line("text_encoder", self.text[0], self.notes.get("text_encoder", [])))
            tensors += self.text[0].values()
            size += sum(byte_size(x, dtype) for x in self.text[0].values())
        if self.lora is not None:
            tensors += self.lora[0].values()
        sources = [source_line(name, found, tensors) for name, found in self.found.items()]
        return Report(str(dtype).removeprefix("torch."), self.roi_mode, size, components, sources, self.warnings)


def plan(sources: Sources, config: Sd15Config = SD15, roi_mode: RoiMode | None = None) -> Plan:
    """Read the headers of all sources, check keys and shapes, and decide where every tensor of the bundle comes from.

    Args:
        roi_mode: of the region encoder; None is "groma_compat" with Groma's region encoder and "exact" without.

    Raises:
        SourceError: for a source that does not fit.
    """
    found: dict[str, Found] = {}
    for name, reader in (
        ("instructpix2pix", instructpix2pix.read), ("dinov2", vision_towers.read_dinov2), ("clip", vision_towers.read_clip),
        ("groma", groma.read), ("smartedit_qformer", smartedit_qformer.read), ("ip_adapter", ip_adapter.read), ("ella", ella.read),
    ):  # fmt: skip
        if (path := getattr(sources, name)) is not None:
            found[name] = reader(Path(path), config)
    parts: dict[str, Part] = {name: {} for name in (*CLASSES, "text_encoder")}
    notes: dict[str, list[str]] = {}
    warnings: list[str] = []
    # the first that gives a tensor is taken: an own DINOv2 goes before Groma's, the single file's CLIP("") before CLIP's
    for one in found.values():
        for name, part in one.parts.items():
            parts[name] = part | parts[name]
        for name, remarks in one.notes.items():
            notes.setdefault(name, []).extend(remarks)
        warnings += one.warnings

    llama, tokenizer = _language(sources, config, found, parts, notes, warnings)
    lora = None
    if sources.lora is not None:
        found["lora"], settings = language_model.read_lora(Path(sources.lora), llama)
        lora = (found["lora"].parts["language_model_lora"], settings)
    notes.setdefault("language_model", []).append(
        "LoRA " + (f"from {Path(sources.lora).name}" if sources.lora else "fresh (r 8, alpha 16, q_proj and v_proj), zero at the start")
    )
    if roi_mode is None:
        roi_mode = "groma_compat" if parts["region_encoder"] else "exact"
    notes.setdefault("region_encoder", []).append(f"roi_mode {roi_mode}")
    if parts["region_encoder"] and roi_mode == "exact":
        warnings.append("Groma's region encoder was trained with roi_mode groma_compat; with exact it must be trained on.")
    tower = parts.pop("text_encoder")
    states = _complete(config, roi_mode, parts, notes, warnings)
    text = _text(sources, config, tower, notes, warnings)
    return Plan(config, roi_mode, parts, states, llama, tokenizer, lora, text, found, notes, warnings)


def _text(
    sources: Sources, config: Sd15Config, tower: Part, notes: dict[str, list[str]], warnings: list[str]
) -> tuple[Part, PreTrainedTokenizerFast] | None:  # fmt: skip
    """CLIP's text tower with a tokenizer, by which the bundle edits from its first minute."""
    beside = [sources.clip] if sources.clip else []
    beside += [Path(sources.instructpix2pix) / "tokenizer"] if sources.instructpix2pix else []
    folder = sources.text_tokenizer or next((Path(one) for one in beside if text_tokenizer.has_tokenizer(Path(one))), None)
    tokenizer = None if folder is None else text_tokenizer.read(Path(folder), config.text_vocabulary, config.queries)
    if tower and tokenizer is not None and sources.instructpix2pix is not None:
        notes["text_encoder"] = ["reads the instruction until the Q-Former is trained"]
        return tower, tokenizer
    lacks = [
        name for name, there in (
            ("an InstructPix2Pix UNet (--instructpix2pix)", sources.instructpix2pix), ("CLIP's text tower (--clip)", tower),
            (f"CLIP's tokenizer (--text-tokenizer; {text_tokenizer.GET})", tokenizer),
        ) if not there
    ]  # fmt: skip
    warnings.append(f"the bundle edits nothing before it is trained, because it lacks {' and '.join(lacks)}")
    return None


def _language(
    sources: Sources, config: Sd15Config, found: dict[str, Found], parts: dict[str, Part], notes: dict[str, list[str]], warnings: list[str]
) -> tuple[PretrainedConfig, PreTrainedTokenizerFast]:  # fmt: skip
    """Put the language model into `parts`: the user's, else Groma's own, else a fresh one."""
    own = groma.own_llama(Path(sources.groma)) if sources.groma is not None else {}
    if sources.language_model is not None:
        path = Path(sources.language_model)
        found["language_model"], llama = language_model.read(path, config)
        parts["language_model"] = found["language_model"].parts["language_model"]
        notes.setdefault("language_model", []).extend(found["language_model"].notes.get("language_model", []))
        if own and (moved := groma.drift(own, parts["language_model"])) > groma.DRIFT:
            warnings.append(
                f"Groma's language model and {path.name} differ by {moved:.1%} (groma-7b-pretrain and vicuna-7b-v1.5 would not), so its "
                "adapter and region encoder speak to another one: leave out --language-model to take Groma whole, or train them on."
            )
        elif not own and parts["adapter"]:
            warnings.append(f"the adapter was trained with Groma's language model; whether {path.name} is that one cannot be seen.")
    elif own:
        path = Path(sources.groma)
        parts["language_model"], llama = groma.read_language_model(path, config)
        notes.setdefault("language_model", []).append("Groma's own, its new words behind the others")
    else:
        path, llama = None, config.blank("language_model").config
        parts["language_model"] = fresh.fresh_llama(config.shapes("language_model"), llama.initializer_range)
        warnings.append("without --language-model the tokenizer is one of bytes; a language model must be trained from nothing.")
    tokenizer = fresh.byte_tokenizer() if path is None else language_model.read_tokenizer(path, llama.vocab_size)
    return llama, tokenizer


def _complete(
    config: Sd15Config, roi_mode: RoiMode, parts: dict[str, Part], notes: dict[str, list[str]], warnings: list[str]
) -> dict[str, fresh.FreshState]:  # fmt: skip
    """Give every tensor that no source has its initialisation, in `parts`."""
    if parts["dinov2"] and not parts["detector"]:  # the detector looks through the same tower
        parts["detector"] = {"vis_encoder." + k: x for k, x in parts["dinov2"].items()}
    if "null_embedding" in parts["tati"]:
        notes.setdefault("tati", []).append('null embedding is CLIP("")')
    else:
        parts["tati"]["null_embedding"] = fresh.null_embedding(config)
        warnings.append('no CLIP text tower was given: the null embedding is zeros, not the CLIP("") that InstructPix2Pix learned with.')
    states = {}
    for name in CLASSES:
        shapes = parts["language_model"] if name == "language_model" else config.shapes(name)
        if name == "img_tokens":
            parts[name] = fresh.img_tokens(parts["language_model"], config)
        elif name == "visual_attention":
            parts[name] = fresh.visual_attention(parts["unet"], config, parts[name])
        elif missing := [k for k in shapes if k not in parts[name]]:
            states[name] = fresh.state_of(name, config, roi_mode)
            parts[name] |= {k: states[name].tensor(k, shapes[k]) for k in missing}
        parts[name] = {k: parts[name][k] for k in shapes}
    return states


def config_for_editing(sources: Sources) -> Sd15Config:
    """Sizes of a bundle that is only to edit (`sd15.FOR_EDITING`); CLIP's vision tower is whole where its folder is given.

    Raises:
        SourceError: for sources that such a bundle has no room for.
    """
    used = ("instructpix2pix", "clip", "text_tokenizer")
    others = [one.name for one in fields(Sources) if one.name not in used and getattr(sources, one.name) is not None]
    if others:
        named = ", ".join("--" + name.replace("_", "-") for name in others)
        raise SourceError(f"a bundle that is only to edit has no room for {named}; leave them out, or leave out --for-editing.")
    if sources.clip is None:
        return FOR_EDITING
    whole = {name: getattr(SD15, name) for name in ("clip_image_size", "clip_size", "clip_layers", "clip_heads")}
    return replace(FOR_EDITING, **whole)


def config_as_given(sources: Sources, base: Sd15Config = SD15) -> Sd15Config:
    """Sizes of a bundle that takes language model, DINOv2 and CLIP as they come, and all of its own parts to match.

    Raises:
        SourceError: where one of the three is missing or does not say its sizes, or for a source whose weights fit `base` alone.
    """
    fixed = [f"--{name.replace('_', '-')}" for name in ("groma", "smartedit_qformer") if getattr(sources, name) is not None]
    if fixed:
        raise SourceError(f"{', '.join(fixed)} has weights for Vicuna-7B and DINOv2-L alone; leave it out, or leave out --any-size.")
    told = {}
    for name in ("language_model", "dinov2", "clip"):
        path = getattr(sources, name)
        if path is None or not (Path(path) / "config.json").is_file():
            raise SourceError(f"--any-size needs --{name.replace('_', '-')} with a folder that has config.json, to take its sizes.")
        told[name] = language_model.read_json(Path(path) / "config.json")
    told["clip"] = told["clip"].get("vision_config") or told["clip"]
    try:
        made = replace(
            base,
            **{mine: told["language_model"][theirs] for mine, theirs in (
                ("hidden_size", "hidden_size"), ("language_layers", "num_hidden_layers"), ("language_heads", "num_attention_heads"),
                ("language_ffn", "intermediate_size"), ("vocabulary", "vocab_size"),
            )},
            **{f"{own}_{mine}": told[name].get(theirs, default) for own, name in (("dino", "dinov2"), ("clip", "clip"))
               for mine, theirs, default in (
                   # what a published config leaves out is what its class has
                   ("size", "hidden_size", 768), ("layers", "num_hidden_layers", 12), ("heads", "num_attention_heads", 12),
                   ("patch", "patch_size", {"dino": 14, "clip": 32}[own]),
               )},
            clip_image_size=told["clip"].get("image_size", 224),
        )  # fmt: skip
    except KeyError as error:
        raise SourceError(f"{sources.language_model}/config.json does not say {error}; is it a language model?") from error
    return replace(
        made, dino_levels=_quarters(made.dino_layers, made.dino_layers), clip_levels=_quarters(made.clip_layers, made.clip_layers - 1)
    )


def _quarters(layers: int, last: int) -> tuple[int, ...]:
    """Hidden states at a quarter, a half, three quarters and the end, as `fireedit-sd15` has them."""
    return tuple(sorted({*(max(1, layers * k // 4) for k in (1, 2, 3)), last}))


def convert(
    out: Path | str, sources: Sources, *, config: Sd15Config = SD15, roi_mode: RoiMode | None = None,
    dtype: torch.dtype = torch.float16, dry_run: bool = False, shard: int = SHARD_BYTES,
) -> Report:  # fmt: skip
    """Check all sources and, unless it is a dry run, write the bundle.

    Everything is written into a folder beside `out` that is renamed at the end, so that a run which stops leaves no bundle.

    Raises:
        SourceError: for a source that does not fit, a folder that is not empty, or a disk that is too full.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SourceError(f"{out} exists already; name a new folder, or delete it.")
    made = plan(sources, config, roi_mode)
    report = made.report(dtype)
    if dry_run:
        return report
    out.parent.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(out.parent).free) < report.bytes * 1.02:
        raise SourceError(f"the bundle needs {report.bytes / 1e9:.1f} GB and {out.parent} has {free / 1e9:.1f} GB free.")
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        _write(partial, made, report, dtype, shard)
        if out.exists():
            out.rmdir()
        os.replace(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return report


def _write(folder: Path, made: Plan, report: Report, dtype: torch.dtype, shard: int) -> None:
    config = made.config
    for name in CLASSES:
        logger.info("writing %s", name)
        blank = config.blank(name, made.roi_mode if name == "region_encoder" else "exact")
        if name == "language_model":
            with torch.device("meta"):
                language = blank = language_model.model_of(made.llama)
        write_component(folder / name, blank, made.parts[name], dtype, shard if name == "language_model" else None)
        if name in made.states and name != "unet":  # the visual attention copies from it
            made.states[name].clear()
    extras: dict[str, type] = {}
    if made.text is not None:
        with torch.device("meta"):
            tower = config.text_tower()
        write_component(folder / "text_encoder", tower, made.text[0], dtype)
        made.text[1].save_pretrained(str(folder / "text_tokenizer"))
        make_portable(folder / "text_tokenizer")
        extras = {"text_encoder": type(tower), "text_tokenizer": PreTrainedTokenizerFast}
    _write_lora(folder / LORA, made, dtype)
    scheduler = EulerAncestralDiscreteScheduler(**SCHEDULER)
    scheduler.save_pretrained(str(folder / "scheduler"))
    made.tokenizer.save_pretrained(str(folder / "tokenizer"))
    make_portable(folder / "tokenizer")
    (folder / CONVERTED).write_text(json.dumps(report.as_json(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    classes = CLASSES | {"language_model": type(language), "scheduler": type(scheduler), "tokenizer": PreTrainedTokenizerFast} | extras
    index: dict[str, Any] = {"_class_name": "FireEditPipeline", "_diffusers_version": diffusers.__version__}
    for name in (*COMPONENTS, *extras):
        index[name] = [classes[name].__module__.split(".")[0], portable_name(classes[name].__name__)]
    options = OPTIONS | SAMPLING | {"native_size": config.native_size, "untrained": _untrained(made) if extras else ()}
    (folder / INDEX).write_text(json.dumps(index | options, indent=2) + "\n")


def _untrained(made: Plan) -> list[str]:
    """What is left out until it is trained; Groma's detector is one that was."""
    return [name for name in UNTRAINED if name != "detector" or name in made.states]


def _write_lora(folder: Path, made: Plan, dtype: torch.dtype) -> None:
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    if made.lora is not None:
        tensors, settings = made.lora
    else:
        settings = LoraConfig(**LORA_SETTINGS)
        state = get_peft_model_state_dict(fresh.lora(made.llama, settings), save_embedding_layers=False)
        tensors = {k: LazyTensor(tuple(x.shape), lambda x=x: x) for k, x in state.items()}
    folder.mkdir()
    settings.base_model_name_or_path, settings.inference_mode = None, True
    settings.save_pretrained(str(folder))
    write_weights(folder, "adapter_model", tensors, dtype)

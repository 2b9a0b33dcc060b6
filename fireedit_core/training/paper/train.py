# SPDX-License-Identifier: GPL-3.0-or-later
"""One stage from configuration to bundle."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.state import PartialState
from accelerate.utils import parse_flag_from_env
from PIL import Image
from torch import Tensor, nn

from ...checkpoints.bundle import bundle_options, read_index
from ...data.formats.registry import load_sources
from ...data.mixture import Mixture, marks, permuted
from ...data.streaming import Lanes, load_streams
from ...diffusion.latents import latent_scale
from ...diffusion.pipeline import FireEditPipeline
from ...precision import quick_in_bfloat16
from ...regions.loading import load_detector
from ...whole_files import write_json
from ..lock import alone
from ..loop import StageConfig, finite_mean
from .assemble import export, trainable_components, trained_options
from .batches import EditRows, Rows, TalkRows, conversation_ids, edit_rows, fitted, loader, mixtures_of
from .config import PaperConfig
from .features import FROZEN, FrozenParts
from .model import EditInputs, EditModel, TalkInputs, TextModel
from .sheet import sheet
from .stage import PaperStage, in_turn, processes_of, split_over
from .streamed import StreamedRows

logger = logging.getLogger("fireedit")

FRESH = ("qformer", "tati", "hvca", "visual_attention")  # what `fireedit convert` finds no trained weights for, all sizes alike
VALIDATION_SEED = 1 << 20  # apart from that of training, so that the draws differ


def train(config: PaperConfig) -> Path | None:
    """Train a stage, or go on where it stopped; returns the folder of the bundle, None if a signal ended the run before its end.

    Raises:
        ValueError, DatasetError, BundleError: for settings, datasets and bundles that do not fit.
        TrainingDiverged: if gradients are not finite for many steps in a row.
        AlreadyRunning: if another process trains in the folder.
    """
    state = processes()
    if config.precision == "bf16" and not quick_in_bfloat16(state.device):
        logger.warning(
            "this CPU only emulates bfloat16, so a step takes several times as long as it need: give --precision no --frozen_dtype float32"
        )
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    with alone(out) if state.is_main_process else nullcontext():
        _check_same_run(config, out, state)
        make = _text_stage if config.stage == "text" else _edit_stage
        stage = make(config, *_parts(config, state), state)
        with stage.stopped_by_signals():
            progress = stage.run()
    return out / "bundle" if progress.finished else None


def processes() -> PartialState:
    """accelerate's view of the processes; on a machine without an accelerator they meet over gloo."""
    cpu = not torch.accelerator.is_available() or parse_flag_from_env("ACCELERATE_USE_CPU")
    if cpu:
        os.environ["ACCELERATE_USE_CPU"] = "true"  # the Accelerator that the loop makes asks here
    return PartialState(cpu=cpu)


def stage_config(config: PaperConfig) -> StageConfig:
    """The loop's numbers."""
    return StageConfig(
        minutes=math.inf, batch=config.batch, lr=config.lr, warmup=config.warmup, cooldown=1.0, weight_decay=config.weight_decay,
        clip_norm=config.clip_norm, ema_decay=config.ema_decay, save_minutes=config.save_minutes, seed=config.seed,
        max_steps=config.steps, accumulate=config.accumulate, optimizer=config.optimizer, shape="cosine", log_steps=config.log_steps,
        keep_states=config.keep_states,
    )  # fmt: skip


def _is_split(config: PaperConfig, state: PartialState) -> bool:
    return config.parallel == "fsdp" and state.num_processes > 1


def _parts(config: PaperConfig, state: PartialState) -> tuple[dict[str, Any], EditModel | TextModel]:
    """The bundle's components and the model that is made of them, split over the processes where it is to be."""
    mesh = processes_of(state.device) if _is_split(config, state) else None

    def make() -> tuple[dict[str, Any], EditModel | TextModel]:
        components = trainable_components(config)
        if config.stage == "text":
            model = TextModel(components, config)
        else:
            scaled = bundle_options(read_index(config.bundle))["source_latent_scaled"]
            model = EditModel(components, config, 1.0 if scaled else 1 / latent_scale(components["vae"]))
        if mesh is not None:
            split_over(model, mesh)
        return components, model

    return make() if mesh is None else in_turn(state, make)


def _edit_stage(config: PaperConfig, components: dict[str, Any], model: EditModel, state: PartialState) -> PaperStage:
    if config.streamed:
        # all sources of a kind are drawn alike unless they name shares, as the number of rows of a stream is not known
        edits, talk = mixtures_of(load_streams(config.sources, config.seed), partial(Lanes, seed=config.seed))
    else:
        # of this run alone: another one may call other pictures by the same name
        tables = Path(config.out) / "sizes" if config.buckets else None
        edits, talk = mixtures_of(load_sources(config.sources), partial(Mixture, seed=config.seed, tables=tables))
    if edits is None:
        raise ValueError(f"{config.sources} has no dataset of edits; conversations alone teach no editing")
    if config.conversation_rows and talk is None:
        raise ValueError(f"conversation_rows is {config.conversation_rows}, but {config.sources} has no dataset of conversations")
    if not config.streamed:  # the state of streams knows their shards and shares itself
        mixtures = [mixture for mixture in (edits, talk) if mixture is not None]
        _check_same_data(config, state, [
            [source.name, source.kind, size, mixture.shares[source.name]]
            for mixture in mixtures for source, size in zip(mixture.sources, mixture.sizes, strict=True)
        ])  # fmt: skip
    for name in FROZEN:
        components[name].to(state.device)
    frozen = FrozenParts(components, config.max_regions, config.feature_cache or None, _own_detector(config, state.device))
    levels = 2 ** (len(components["unet"].config.block_out_channels) - 1)
    if config.streamed:
        feed = StreamedRows(edits, talk, config, state.process_index, state.num_processes)
    else:
        rows = Rows(edits, talk, config, state.process_index, state.num_processes, multiple=8 * levels)
        feed = _Feed(lambda first: iter(loader(rows, first, config.workers)))

    ready = Ready(feed, frozen, model, state.device)

    def loss_fn(number: int, device: torch.device) -> tuple[Tensor, dict]:
        return stage.model(*ready[number])

    validation = _Validation(config, components, frozen, model)
    stage = _stage(config, state, model, loss_fn, validation, ready if config.streamed else None, ready.prepare)
    return stage


def _own_detector(config: PaperConfig, device: torch.device) -> Any:
    """The detector that the configuration names, or None for the bundle's own, which must have been trained."""
    if not config.detector:
        if config.regions and "detector" in bundle_options(read_index(config.bundle))["untrained"]:
            raise ValueError(
                f"the detector of {config.bundle} is untrained, and its regions would mean nothing: give --detector, for instance "
                "models/photo-detector"
            )
        return None
    return load_detector(config.detector, device)


def _text_stage(config: PaperConfig, components: dict[str, Any], model: TextModel, state: PartialState) -> PaperStage:
    import datasets
    from transformers import AutoTokenizer, CLIPTextModel

    captions = datasets.load_dataset("text", data_files=config.captions, split="train").filter(lambda row: bool(row["text"].strip()))
    if not len(captions):
        raise ValueError(f"{config.captions} has no captions")
    _check_same_data(config, state, [[Path(config.captions).name, "text", len(captions), 1.0]])
    teacher = CLIPTextModel.from_pretrained(config.text_encoder, local_files_only=True, use_safetensors=True).eval().to(state.device)
    tokenizer = AutoTokenizer.from_pretrained(config.text_encoder, local_files_only=True)
    shape = (components["qformer"].config.num_queries, components["qformer"].config.hidden_size)
    if shape != (teacher.config.max_position_embeddings, teacher.config.hidden_size):
        raise ValueError(
            f"the Q-Former of {config.bundle} gives {shape[0]} x {shape[1]} numbers, the text model in {config.text_encoder} "
            f"{teacher.config.max_position_embeddings} x {teacher.config.hidden_size}: they do not belong together"
        )

    def loss_fn(number: int, device: torch.device) -> tuple[Tensor, dict]:
        rows = [divmod(i, len(captions)) for i in stage.indices(number)]
        texts = [captions[permuted(place, len(captions), f"{config.seed} {epoch} captions")]["text"] for epoch, place in rows]
        given = tokenizer(texts, padding="max_length", truncation=True, max_length=shape[0], return_tensors="pt").to(device)
        with torch.no_grad():
            wanted = teacher(given["input_ids"]).last_hidden_state
        ids, mask = model.vlm.encode_text(texts, device)
        return stage.model(ids, mask, wanted)

    stage = _stage(config, state, model, loss_fn)
    return stage


def _stage(
    config: PaperConfig, state: PartialState, model: nn.Module, loss_fn: Callable[[int, torch.device], tuple[Tensor, dict]],
    validation: _Validation | None = None, position: Ready | None = None, prepare: Callable[[int], None] | None = None,
) -> PaperStage:  # fmt: skip
    return PaperStage(
        config.stage, config.out, model, stage_config(config), loss_fn, lambda stage: _show(stage, config, validation),
        mixed_precision=config.precision, trackers=config.trackers, position=position, prepare=prepare,
        split=_is_split(config, state),
        scales={f"parts.{part}.": config.fresh_lr for part in FRESH},
    )  # fmt: skip


class _Feed:
    """Batches by number out of a loader that reads ahead; asked for another number than the next, it starts there."""

    def __init__(self, start: Callable[[int], Iterator]):
        self.start, self.next, self.batches = start, None, None

    def __getitem__(self, number: int) -> tuple[EditRows, TalkRows | None]:
        if number != self.next:
            self.batches = self.start(number)
        self.next = number + 1
        return next(self.batches)


def inputs_of(
    batches: Sequence[tuple[EditRows, TalkRows | None]], frozen: FrozenParts, model: EditModel, device: torch.device
) -> list[tuple[EditInputs, TalkInputs | None]]:
    """What the model reads of batches: features of all their pictures, made together, and tokens of the texts, on `device`."""
    drawn = model.config.target_latents == "sample"
    targets = frozen.latents_of([edit.target for edit, _ in batches], [edit.seeds if drawn else None for edit, _ in batches])
    seen = iter(frozen.features_of([x for edit, talk in batches for x in (edit.source, *((talk.pictures,) if talk else ()))]))
    found = []
    for (edit, talk), target in zip(batches, targets, strict=True):
        ids, text_mask = model.vlm.encode_text(edit.instructions, device)
        inputs = EditInputs(
            next(seen), target, ids, text_mask, edit.mask.to(device), edit.has_mask.to(device), edit.unchanged.to(device), edit.seeds
        )
        said = None
        if talk is not None:
            said = TalkInputs(
                next(seen), *(x.to(device) for x in conversation_ids(model.vlm, talk.turns, model.config.conversation_tokens))
            )
        found.append((inputs, said))
    return found


def edit_inputs(rows: EditRows, frozen: FrozenParts, model: EditModel, device: torch.device) -> EditInputs:
    """`inputs_of` one batch without conversations."""
    return inputs_of([(rows, None)], frozen, model, device)[0][0]


class Ready:
    """Batches as the model reads them. The frozen parts see the pictures of several passes of an update at once, before the first of them.

    Args:
        feed: batches by number; what it says of its position is passed on.
    """

    def __init__(self, feed: Any, frozen: FrozenParts, model: EditModel, device: torch.device):
        self.feed, self.frozen, self.model, self.device = feed, frozen, model, device
        self._made: dict[int, tuple[EditInputs, TalkInputs | None]] = {}

    def prepare(self, number: int) -> None:
        """Have batch `number` ready, and with it those after it in the same update, as `passes_at_once` says."""
        if number in self._made:
            return
        config = self.model.config
        numbers = range(number, number + min(config.passes_at_once, config.accumulate - number % config.accumulate))
        made = inputs_of([self.feed[n] for n in numbers], self.frozen, self.model, self.device)
        self._made = dict(zip(numbers, made, strict=True))

    def __getitem__(self, number: int) -> tuple[EditInputs, TalkInputs | None]:
        """Once per number: a batch is let go when it is taken."""
        self.prepare(number)
        return self._made.pop(number)

    def state_dict(self) -> dict[str, Any]:
        """The feed's; asked for between two updates, when nothing that was read ahead waits here."""
        return self.feed.state_dict()

    def load_state_dict(self, states: Sequence[Mapping[str, Any]]) -> None:
        """The feed's."""
        self._made.clear()
        self.feed.load_state_dict(states)


class _Validation:
    """Fixed rows: their loss, always with the same noise, and a sheet of edits."""

    def __init__(self, config: PaperConfig, components: dict[str, Any], frozen: FrozenParts, model: EditModel):
        self.config, self.components, self.frozen, self.model = config, components, frozen, model
        self.samples = []
        if config.validation:
            sources = load_sources(config.validation_sources or config.sources)
            edits, _ = mixtures_of(sources, partial(Mixture, seed=VALIDATION_SEED))
            if edits is None:
                raise ValueError(f"{config.validation_sources} has no dataset of edits")
            shown = [source for source in sources if source.kind != "conversation"]
            if config.validation_sources and sum(len(source.reader) for source in shown) <= config.validation:
                drawn = []  # all of them, in their order
                for source in shown:
                    for sample in source.reader:
                        sample.meta |= marks(source)
                        drawn.append(sample)
            else:
                drawn = [edits[i] for i in range(config.validation)]
            self.samples = [fitted(sample, (config.size, config.size)) for sample in drawn]

    def loss(self, device: torch.device) -> dict[str, float]:
        """Means over the rows. Every process runs them all: of a model that is split, none can do so alone."""
        sums: dict[str, list[float]] = {}
        for number, sample in enumerate(self.samples):
            inputs = edit_inputs(edit_rows([sample], [number], VALIDATION_SEED), self.frozen, self.model, device)
            for key, value in self.model(inputs)[1].items():
                sums.setdefault(key, []).append(float(value))
        return {f"validation/{key}": finite_mean(values) for key, values in sums.items()}

    def sheet(self) -> Any:
        """The edits of the rows as a PIL picture; needs a model that is not split."""
        pipe = FireEditPipeline(**self.components, **trained_options(self.config))
        pipe.set_progress_bar_config(disable=True)
        if self.config.detector:
            pipe.editor.use_detector(self.frozen.detector)
        edits, masks = [], []
        for number, sample in enumerate(self.samples):
            generator = torch.Generator().manual_seed(number)
            found = pipe(
                Image.fromarray(sample.source), sample.instruction, num_inference_steps=self.config.validation_steps, generator=generator
            )
            edits.append(np.asarray(found.images[0]))
            masks.append(found.mask[0].float().cpu().numpy())
        return sheet(self.samples, edits, masks)


def _show(stage: PaperStage, config: PaperConfig, validation: _Validation | None) -> None:
    """After a save, with the averaged weights in place and the model as it is used: validation loss, sheet, bundle."""
    accelerator, step = stage.accelerator, stage.progress.step
    if validation is not None and validation.samples:
        with accelerator.autocast():
            accelerator.log(validation.loss(accelerator.device), step=step)
            if not stage.split and accelerator.is_main_process:
                picture = validation.sheet()
                picture.save(Path(config.out) / f"sheet-{step:07d}.png")
                for tracker in accelerator.trackers:
                    if hasattr(tracker, "log_images"):
                        form = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
                        tracker.log_images({"sheet": np.asarray(picture)[None]}, step=step, **form)
    weights = stage.whole_weights()
    made = Path(config.out) / "bundle"
    if accelerator.is_main_process and not _made_of(made, config.stage, step):
        export(weights, config, made)
        record = {"stage": config.stage, "step": step, "config": asdict(config), "metrics": stage.progress.metrics}
        write_json(made / "training.json", record)
    accelerator.wait_for_everyone()


def _made_of(bundle: Path, stage: str, step: int) -> bool:
    """Whether a bundle of this run has these weights already: then it stays, with the card and the numbers that have been added to it."""
    record = bundle / "training.json"
    told = json.loads(record.read_text()) if record.is_file() else {}
    return (told.get("stage"), told.get("step")) == (stage, step)


# What may differ between a run and the one that goes on from it.
FREE = {
    "out", "steps", "save_minutes", "log_steps", "workers", "feature_cache", "trackers", "validation_steps", "parallel",
    "checkpointing", "keep_states",
}  # fmt: skip

START = "content of bundle"
PLACES, PIECE = 64, 4096  # looked at in each file of the start, and bytes there


def _as_it_lies(bundle: Path) -> str:
    """A hash of the start's parts: the state holds what is trained, which belongs to the rest as it was. Of each file its size and some
    pieces at even distances, which no two trainings share: to read 15 GB would take longer than many a step."""
    digest = hashlib.blake2b(digest_size=8)
    for file in sorted(file for file in bundle.glob("*/*") if file.suffix in (".safetensors", ".json")):
        size = file.stat().st_size
        digest.update(f"{file.relative_to(bundle).as_posix()} {size}".encode())
        with file.open("rb") as opened:
            for place in range(PLACES):
                opened.seek(max(0, size - PIECE) * place // (PLACES - 1))  # the first at its beginning, the last at its end
                digest.update(opened.read(PIECE))
    return digest.hexdigest()


def _check_same_run(config: PaperConfig, out: Path, state: PartialState) -> None:
    """Refuse to go on from a state that was made with other numbers: it would be neither run."""
    made, record = out / "bundle", out / config.stage / "config.json"
    if made.resolve() == Path(config.bundle).resolve():
        raise ValueError(f"{made} is what this run starts from and what it would write over; give another --out")
    resumed = goes_on(config)
    if made.exists() and not resumed:
        raise ValueError(
            f"{made} is there already, and no state of a run of stage {config.stage} beside it; give another --out, or move it away"
        )
    now = {k: v for k, v in asdict(config).items() if k not in FREE}
    for rows in ("batch", "conversation_rows"):  # so many of all processes together: these may become more or fewer
        now[f"processes x {rows}"] = state.num_processes * now.pop(rows)
    now[START] = _as_it_lies(Path(config.bundle))
    if resumed and record.is_file():
        before = json.loads(record.read_text())
        # a run from before a setting was there had what is its default now
        plain = {f.name: f.default for f in fields(PaperConfig)}
        plain["processes x conversation_rows"] = before.get("conversation_rows", 0) * state.num_processes
        plain[START] = now[START]
        changed = sorted(k for k in now if json.loads(json.dumps(now[k])) != before.get(k, plain.get(k)))
        if changed:
            raise ValueError(
                f"{out} holds a run with another {', '.join(changed)}; give another --out, or the same numbers to go on "
                f"({', '.join(f'{k}: {before.get(k)}' for k in changed)})"
            )
    _keep(record, now, state)


def _check_same_data(config: PaperConfig, state: PartialState, now: list[list[Any]]) -> None:
    """Refuse to go on over other data: a draw is a number, which would fall on another row.

    Args:
        now: name, kind, number of rows and share of each source, in the order in which they are drawn from.
    """
    record = Path(config.out) / config.stage / "data.json"
    if goes_on(config) and record.is_file() and (before := json.loads(record.read_text())) != now:
        other = sorted({str(one[0]) for one in (*now, *before) if one not in now or one not in before})
        raise ValueError(
            f"{config.out} holds a run over other data ({', '.join(other) or 'the order of its sources'}: number of rows, kind or share "
            "differ); give another --out, or the same data to go on"
        )
    _keep(record, now, state)


def goes_on(config: PaperConfig) -> bool:
    """Whether there is a state to go on from; a run that was killed between two renames of a save has it under an older name."""
    folder = Path(config.out) / config.stage
    return (folder / "state").exists() or any(folder.glob("state-[0-9]*"))


def _keep(record: Path, now: Any, state: PartialState) -> None:
    if state.is_main_process:
        record.parent.mkdir(parents=True, exist_ok=True)
        write_json(record, now)
    state.wait_for_everyone()

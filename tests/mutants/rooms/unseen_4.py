# SPDX-License-Identifier: GPL-3.0-or-later
"""Forty more faults that were written from the code alone, by someone who had not seen the tests, and committed before they were run."""

from __future__ import annotations

from ..mutant import of

CHECKPOINTS = "tests/core/checkpoints/test_convert.py tests/core/checkpoints/test_convert_sources.py"
SEGMENTERS = "tests/core/segmentation/test_own_segmenters.py"

MUTANTS = [
    # nodes
    *of(
        "nodes/quick_edit.py", "tests/host/inside/test_quick_edit.py",
        ("torch.cat([x, torch.ones_like(x[:1])])", "torch.cat([x, torch.zeros_like(x[:1])])", "constant"),
    ),
    *of(
        "nodes/photo_crop.py", "tests/host/inside/test_photo_crop.py",
        ("cell = int(vae.spacial_compression_encode())", "cell = 8", "constant"),
    ),
    *of(
        "nodes/loading.py", "tests/host/inside/test_grounder.py tests/host/inside/test_folders.py",
        ("else model_folders.state_of(found)", "else str(found)", "stale key"),
    ),
    *of(
        "nodes/compare.py", "tests/host/inside/test_compare.py",
        ("(check_mask(mask, one, NAME) > 0.5).float()", "check_mask(mask, one, NAME).float()", "condition dropped"),
    ),
    *of(
        "fireedit_core/checkpoints/index.py", "tests/core/checkpoints/test_first_minute.py",
        ('return not {"qformer", "hvca"} <= set(untrained)', 'return not {"qformer", "hvca"} & set(untrained)', "condition"),
    ),
    *of(
        "nodes/host/streaming_patcher.py", "tests/host/inside/test_streaming.py",
        ("super().load(device_to, lowvram_model_memory - size,", "super().load(device_to, lowvram_model_memory,", "dropped term"),
    ),
    *of(
        "nodes/host/text_encoder.py", "tests/host/inside/test_grounder.py",
        ("torch.from_numpy(np.array(picture)).float()[None] / 255", "torch.from_numpy(np.array(picture)).float()[None]", "normalisation"),
    ),
    *of(
        "nodes/host/bundles.py", "tests/host/inside/test_folders.py",
        (
            "return [*(Path(p) for p in folder_paths.get_folder_paths(FOLDER)), OWN_MODELS]",
            "return [OWN_MODELS, *(Path(p) for p in folder_paths.get_folder_paths(FOLDER))]", "order",
        ),
    ),
    # training
    *of(
        "fireedit_core/training/loop.py", "tests/core/training/test_loop.py",
        ("self._older()[-1].rename(self._state)", "self._older()[0].rename(self._state)", "resume"),
    ),
    *of(
        "fireedit_core/training/endless.py", "tests/core/training/test_endless.py",
        (
            'steps = (progress.get("decay_from") or progress.get("step", 0)) + config.cooldown',
            'steps = progress.get("step", 0) + config.cooldown', "resume",
        ),
    ),
    *of(
        "fireedit_core/training/burst.py", "tests/core/training/test_burst.py",
        ("torch.randint(min(self.made, self.size), (count,))", "torch.randint(self.size, (count,))", "clamp"),
    ),
    *of(
        "fireedit_core/training/detector.py", "tests/core/regions/test_detectors.py tests/core/regions/test_own_detectors.py",
        ("            if hit:\n                overlap[:, overlap[i].argmax()] = -1.0\n", "", "dropped step"),
    ),
    *of(
        "fireedit_core/training/paper/features.py", "tests/core/training/paper/test_frozen.py",
        ("{name}-{max_regions}-{KEPT}-d", "{name}-{KEPT}-d", "stale key"),
    ),
    *of(
        "fireedit_core/training/paper/losses.py", "tests/core/training/paper/test_losses.py",
        (
            "rows, columns = mask[row].any(1).nonzero()[:, 0], mask[row].any(0).nonzero()[:, 0]",
            "rows, columns = mask[row].any(0).nonzero()[:, 0], mask[row].any(1).nonzero()[:, 0]", "axis",
        ),
    ),
    # data
    *of(
        "fireedit_core/data/scenes.py", "tests/core/data/test_scenes.py",
        ("        target = placed.index(chosen)\n", "", "row"),
    ),
    *of(
        "fireedit_core/data/mixture.py", "tests/core/data/test_mixture.py",
        ('f"{self.seed} {epoch} {source.name}"', 'f"{self.seed} {source.name}"', "stale key"),
    ),
    *of(
        "fireedit_core/data/streaming.py", "tests/core/data/test_public_formats.py",
        ("            first = 0\n", "", "resume"),
    ),
    *of(
        "fireedit_core/data/formats/refer.py", "tests/core/data/formats/test_refer.py",
        ("return x, y, x + width, y + height", "return x, y, width, height", "xyxy and xywh"),
    ),
    # evaluation
    *of(
        "fireedit_core/evaluation/benchmarks/score.py", "tests/core/evaluation/benchmarks",
        (
            "trials = [trial for trial in benchmark.trials(view) if trial.row in rows]", "trials = list(benchmark.trials(view))",
            "dropped option",
        ),
    ),
    *of(
        "fireedit_core/evaluation/familiarity.py", "tests/core/evaluation/test_familiarity.py",
        ("return Familiarity(limit, own[1::2],", "return Familiarity(limit, own[::2],", "wrong half"),
    ),
    *of(
        "fireedit_core/evaluation/scenes.py", "tests/core/evaluation/test_runs.py",
        ("            batch = []\n    if batch:\n        yield batch\n", "            batch = []\n", "off by one"),
    ),
    *of(
        "fireedit_core/evaluation/similarity.py", "tests/core/evaluation/benchmarks/test_similarity.py",
        (
            "size = (short_side, other) if width <= height else (other, short_side)",
            "size = (short_side, other) if width >= height else (other, short_side)", "width and height",
        ),
    ),
    # photo and segmentation
    *of(
        "fireedit_core/photo/backdrop.py", "tests/core/photo/test_quick_edit.py",
        (
            "scale = max(height / picture.shape[1], width / picture.shape[2])",
            "scale = min(height / picture.shape[1], width / picture.shape[2])", "condition",
        ),
    ),
    *of(
        "fireedit_core/photo/drift.py", "tests/core/photo/test_drift.py",
        ("one, across, down = self.matrix[:, 3:].T", "one, down, across = self.matrix[:, 3:].T", "axis"),
    ),
    *of(
        "fireedit_core/segmentation/transformers_segmenter.py", SEGMENTERS,
        ('mode="bilinear", align_corners=False)[..., :rows, :columns]', 'mode="bilinear", align_corners=False)', "dropped step"),
    ),
    *of(
        "fireedit_core/segmentation/ultralytics_segmenter.py", SEGMENTERS,
        ("(box - box.new_tensor([left, top, left, top]))[None]", "box[None]", "offset"),
    ),
    # grounding
    *of(
        "fireedit_core/grounding/resolve.py", "tests/core/grounding/test_resolve.py tests/core/grounding/test_table.py",
        ("middle = place % len(row)", "middle = place", "sign"),
    ),
    *of(
        "fireedit_core/grounding/dialects.py", "tests/core/grounding/test_dialects.py tests/core/grounding/test_protocol.py",
        ("(size[1] / across, size[0] / down) * 2", "(size[0] / down, size[1] / across) * 2", "width and height"),
    ),
    *of(
        "fireedit_core/grounding/colours.py", "tests/core/grounding",
        ("torch.where(brightness < 0.55, share, 0.3 * share)", "torch.where(brightness > 0.55, share, 0.3 * share)", "condition"),
    ),
    *of(
        "fireedit_core/grounding/words.py", "tests/core/grounding/test_words.py",
        ("tuple(edits[alike:])", "tuple(edits[1:])", "off by one"),
    ),
    # regions
    *of(
        "fireedit_core/regions/second_look.py", "tests/core/regions/test_second_look.py",
        ("rows, columns = (evidence >=", "columns, rows = (evidence >=", "axis"),
    ),
    *of(
        "fireedit_core/regions/outlines.py", "tests/core/regions/test_outlines.py",
        (
            "    top, left, bottom, right = top * step, left * step, min(bottom * step, mask.shape[0]), min(right * step, mask.shape[1])\n",
            "", "unit",
        ),
    ),
    *of(
        "fireedit_core/regions/detector.py", "tests/core/regions/test_detectors.py",
        ("if per_label and labels is not None:", "if not per_label and labels is not None:", "condition"),
    ),
    # diffusion and vlm
    *of(
        "fireedit_core/diffusion/pipeline.py", "tests/core/diffusion/test_pipeline.py",
        (
            'extra = {"generator": generator} if "generator" in inspect.signature(scheduler.step).parameters else {}',
            "extra: dict[str, Any] = {}", "seed ignored",
        ),
    ),
    *of(
        "fireedit_core/diffusion/compositing.py", "tests/core/diffusion/test_compositing.py",
        ("if working_size and max(size) != working_size:", "if working_size and max(size) > working_size:", "condition"),
    ),
    *of(
        "fireedit_core/vlm/clip_reader.py", "tests/core/vlm",
        (
            'self.text_encoder(input_ids=given["input_ids"].to(self.text_encoder.device)).last_hidden_state',
            'self.text_encoder(*(given[key].to(self.text_encoder.device) for key in ("input_ids", "attention_mask"))).last_hidden_state',
            "mask",
        ),
    ),
    # checkpoints
    *of(
        "fireedit_core/checkpoints/sources/instructpix2pix.py", CHECKPOINTS,
        ("F.pad(x, (0, 0, 0, 0, 0, latent))", "F.pad(x, (0, 0, 0, 0, latent, 0))", "order"),
    ),
    *of(
        "fireedit_core/checkpoints/sources/groma.py", CHECKPOINTS,
        ("torch.cat([base, new.to(base.dtype)])", "torch.cat([new.to(base.dtype), base])", "order"),
    ),
    # the command line and many edits
    *of(
        "fireedit_cli/__main__.py", "tests/core/command_line/test_command_line.py",
        ("if options.again or not journal.done(job)]", "if not journal.done(job)]", "dropped option"),
    ),
    *of(
        "fireedit_core/bulk/rows.py", "tests/core/bulk/test_rows.py",
        ("        if results is None or not (source / name).resolve().is_relative_to(results)\n", "", "condition dropped"),
    ),
]  # fmt: skip

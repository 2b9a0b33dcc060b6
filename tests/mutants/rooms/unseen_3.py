# SPDX-License-Identifier: GPL-3.0-or-later
"""Twenty-nine more faults that were written from the code alone and committed before they were run, after every node's inputs and rows had
their tests (`tests/host/inside/every_node.py`). README says what came of it."""

from __future__ import annotations

from ..mutant import of

EVERY = "tests/host/inside/test_every_input.py"
DIALECTS = f"tests/core/regions/test_dialects.py tests/host/inside/test_regions.py {EVERY}"
FINISH = f"tests/host/inside/test_photo_finish.py {EVERY}"
FRAME = f"tests/core/photo/test_crop.py tests/core/photo/test_frame.py tests/host/inside/test_photo_crop.py {FINISH}"
GROUNDING = "tests/core/grounding/test_resolve.py tests/core/grounding/test_table.py tests/core/grounding/test_words.py"
TURNS = f"tests/host/inside/test_sampling.py tests/host/inside/test_golden.py {EVERY}"
CLI = "tests/core/command_line"
ENDLESS = "tests/core/training/test_endless.py"

MUTANTS = [
    *of(
        "nodes/conditioning.py", f"tests/host/inside/test_conditioning.py {EVERY}",
        ('side = working_size or int(fireedit.options["native_size"])', 'side = int(fireedit.options["native_size"])', "dropped option"),
        ("own.amax((1, 2), keepdim=True) > 0", "own.amax() > 0", "row"),
    ),
    *of(
        "nodes/ground.py", f"tests/host/inside/test_ground.py {EVERY}",
        ("_grounded(pictures[index], instruction", "_grounded(pictures[0], instruction", "first row"),
        ("torch.stack([one.mask for one in found])", "torch.stack([found[0].mask for _ in found])", "first row"),
    ),
    *of(
        "nodes/region_masks.py", f"tests/host/inside/test_region_masks.py {EVERY}",
        ("torch.stack([_union(one) for one in made])", "torch.stack([_union(made[0]) for _ in made])", "first row"),
        ("helpers, max_regions, step)", "helpers, 32, step)", "dropped option"),
    ),
    *of(
        "nodes/photo_finish.py", FINISH,
        ("at = i % len(originals)", "at = 0", "first row"),
        ('tone == "on", grow, feather, models', 'tone == "on", grow, grow, models', "swapped"),
        ("            if not others:\n", "            if True:\n", "special case"),
    ),
    *of(
        "nodes/region_selection.py", f"tests/core/regions/test_choice.py tests/host/inside/test_regions.py {EVERY}",
        ("parse_indices(numbers), top)", "parse_indices(numbers), 0)", "dropped option"),
    ),
    *of(
        "nodes/compare.py", f"tests/host/inside/test_compare.py {EVERY}",
        ("None if region is None else region[i : i + 1]) for i", "None if region is None else region[:1]) for i", "first row"),
    ),
    *of(
        "nodes/multi_turn.py", TURNS,
        ("(seed + number) % 2**64", "seed % 2**64", "constant"),
        ("touched = torch.maximum(touched, edit_mask(grounding).to(touched))", "touched = edit_mask(grounding).to(touched)", "stale state"),
    ),
    *of(
        "fireedit_core/regions/dialects.py", DIALECTS,
        ("regions.labels[i], None))", "regions.labels[0], None))", "first row"),
        ("(crop_factor - 1) * side / 2", "crop_factor * side / 2", "constant"),
        ('_numbers(_field(seg, "bbox", 4)) or crop', 'crop or _numbers(_field(seg, "bbox", 4))', "precedence"),
        ("off <= 0.01 * one[0] * two[1]", "off <= 0.1 * one[0] * two[1]", "bound"),
    ),
    *of(
        "fireedit_core/photo/frame.py", FRAME,
        ("1 / self.scale, -self.padding[1] / self.scale", "1 / self.scale, -self.padding[0] / self.scale", "axis"),
        ("scale=self.scale * ratio", "scale=self.scale / ratio", "inverse"),
    ),
    *of(
        "fireedit_core/grounding/places.py", GROUNDING,
        ("inside if y2 <= b2 else 0.5 * inside", "inside", "special case"),
        ("near = 2 ** -(apart / (0.15 * scale))", "near = 2 ** -(apart / (0.5 * scale))", "constant"),
    ),
    *of(
        "fireedit_core/grounding/resolve.py", GROUNDING,
        ("found.scores * _MISMATCH**wrong", "found.scores * (_MISMATCH if wrong else 1)", "constant"),
    ),
    *of(
        "fireedit_cli/jobs.py", f"{CLI} tests/host/test_command_line.py",
        ('target / f"{source.stem}.png" if target.is_dir() else target', "target", "special case"),
    ),
    *of(
        "fireedit_cli/__main__.py", f"{CLI} tests/host/test_command_line.py",
        ('own_server(options.way == "model")', "own_server(False)", "dropped option"),
        ('if options.detector and (options.way == "bundle" or told):', 'if options.detector and options.way == "bundle":', "check"),
        ("p.stat().st_size, p.stat().st_mtime_ns] for p in files", "p.stat().st_size] for p in files", "stale key"),
    ),
    *of(
        "fireedit_core/training/endless.py", ENDLESS,
        ("if stage.progress.finished or stage.progress.seconds -", "if stage.progress.seconds -", "special case"),
        ("looks_before // (LOOKS_PER_PAIR * config.pairs)", "looks_before // config.pairs", "constant"),
    ),
    *of(
        "fireedit_core/training/diffusion.py", "tests/core/training/test_diffusion.py",
        ("rows = ~(drop.text | drop.image | drop.detail)", "rows = ~(drop.text | drop.image)", "dropped part"),
    ),
]

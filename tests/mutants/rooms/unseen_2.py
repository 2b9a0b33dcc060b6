# SPDX-License-Identifier: GPL-3.0-or-later
"""Forty more faults that were written from the code alone, before the tests of these places were looked at, and committed before they were
run: how well the tests see what nobody had in mind, above all rows of a batch and the command line. README says what came of it."""

from __future__ import annotations

from ..mutant import of

ROWS = "tests/host/inside/test_rows.py tests/host/inside/test_bad_values.py"
CONDITIONING = f"tests/host/inside/test_conditioning.py tests/host/inside/test_first_minute.py {ROWS}"
SAMPLING = f"tests/core/diffusion/test_compositing.py tests/host/inside/test_sampling.py {ROWS}"
CROP = f"tests/core/photo/test_crop.py tests/host/inside/test_photo_crop.py tests/host/inside/test_photo_bad_input.py {ROWS}"
REGIONS = f"tests/core/regions/test_dialects.py tests/host/inside/test_regions.py {ROWS}"
SELECT = f"tests/core/regions/test_choice.py tests/host/inside/test_regions.py {ROWS}"
CONFINE = f"tests/core/diffusion/test_confinement.py tests/host/inside/test_confine.py {ROWS}"
CLI = "tests/core/command_line tests/host/test_command_line.py"

MUTANTS = [
    # rows of a batch
    *of(
        "nodes/region_select.py", SELECT,
        ("made.append(choice.apply(one))", "made.append(choice.apply(regions[0]))", "first row"),
    ),
    *of(
        "nodes/region_masks.py", f"tests/core/segmentation/test_region_masks.py tests/host/inside/test_region_masks.py {ROWS}",
        ("region_masks(picture, bare, chosen,", "region_masks(pictures[0], bare, chosen,", "first row"),
    ),
    *of(
        "nodes/region_dialects.py", REGIONS,
        ("rows = list(pictures.movedim(1, -1).split(1))", "rows = [pictures.movedim(1, -1)[:1]] * len(regions)", "first row"),
        ("((i, count) if len(segs) == 1 else ())", "((0, count) if len(segs) == 1 else ())", "first row"),
        ("return values * count if len(values) == 1 else values", "return values[:1] * count", "first row"),
    ),
    *of(
        "nodes/compare.py", f"tests/host/inside/test_compare.py {ROWS}",
        ("report(one[i : i + 1], two[i : i + 1],", "report(one[i : i + 1], two[:1],", "first row"),
    ),
    *of(
        "nodes/multi_turn.py", f"{SAMPLING} tests/host/inside/test_golden.py",
        ("next_source(original, to_core", "next_source(original[:1], to_core", "first row"),
        ("torch.cat(turns)", "torch.cat(turns[-1:])", "dropped part"),
    ),
    *of(
        "nodes/photo_crop.py", CROP,
        ("frames_for(photos, masks,", "frames_for(photos, masks[:1] * len(photos),", "first row"),
        ("(mask_meant(one) if len(one)", "(mask_meant(regions[0]) if len(one)", "first row"),
        ("    if mask is not None:\n        raise", "    if False:\n        raise", "dropped check"),
    ),
    *of(
        "nodes/conditioning.py", CONDITIONING,
        ("[i in strange for i in range(count)]", "[0 in strange] * count", "first row"),
        ("float(errors[index]), limit)", "float(errors[0]), limit)", "first row"),
        ("    if \"\" in lines:\n", "    if not any(lines):\n", "check"),
    ),
    *of(
        "nodes/sampling.py", SAMPLING,
        ("plan.hold_mask(region).to(source)", "plan.hold_mask(region[:1]).to(source)", "first row"),
        ("if not same_picture(options.get(PICTURE), thumbnail(pictures)):", "if False:", "dropped check"),
    ),
    *of(
        "nodes/quick_edit.py", f"tests/core/photo/test_quick_edit.py tests/host/inside/test_quick_edit.py {ROWS}",
        ("quick_edit(row, meant[i].mask, answers[i], back,", "quick_edit(row, meant[i].mask, answers[0], back,", "first row"),
    ),
    *of(
        "nodes/confine.py", CONFINE,
        ("vae.encode(to_host(one[None])) for one in pictures", "vae.encode(to_host(pictures[:1])) for one in pictures", "first row"),
        ("if high <= 0.5:", "if high == 0:", "message"),
        ("    if source is not None:\n        raise", "    if False:\n        raise", "dropped check"),
    ),
    *of(
        "nodes/host/confined_masks.py", CONFINE,
        ("torch.stack([mask for mask, _ in found])", "torch.stack([found[0][0]] * len(found))", "first row"),
    ),
    # the command line
    *of(
        "fireedit_cli/__main__.py", CLI,
        (
            "    except (HostError, *BROKEN) as error:\n        log.error(\"fireedit: %s\", error)\n        return NO_SERVER",
            "    except (HostError, *BROKEN) as error:\n        log.error(\"fireedit: %s\", error)\n        return FAILED", "exit code",
        ),
        ("        return CANCELLED\n", "        return FAILED\n", "exit code"),
        ("        flow.set(\"FireEditRegionDetect\", \"score_threshold\", OWN_THRESHOLD)\n", "", "dropped option"),
        ("patience=options.patience, timeout=options.timeout)", "patience=options.patience)", "dropped option"),
        ("if options.bundle and options.server:", "if options.bundle and not options.server:", "dropped option"),
    ),
    *of(
        "fireedit_cli/jobs.py", CLI,
        ("folder / (value[\"output\"] or f\"{picture.stem}.png\")", "folder / f\"{picture.stem}.png\"", "wrong file"),
        ("picture = source.parent / value[\"image\"]", "picture = Path(value[\"image\"])", "wrong file"),
        ("place, int(own) if own else seed))", "place, int(own) if own else 0))", "dropped option"),
        ("if place in pictures:", "if place == job.source.resolve():", "check"),
    ),
    *of(
        "fireedit_cli/pictures.py", f"{CLI} tests/host/test_pictures.py",
        ("picture = ImageOps.exif_transpose(opened)", "picture = opened.copy()", "axis"),
    ),
    *of("fireedit_cli/fetch.py", "tests/core/test_fetch.py", ("            return REFUSED\n", "            return DONE\n", "exit code")),
    *of(
        "fireedit_core/bulk/__main__.py", "tests/core/bulk/test_command.py",
        ("read_rows(o.source, o.instruction, o.seed, o.out)", "read_rows(o.source, o.instruction, 0, o.out)", "dropped option"),
    ),
    *of(
        "fireedit_core/training/paper/__main__.py", "tests/core/training/paper/test_train.py tests/core/training/paper/test_own_pairs.py",
        ("            return STOPPED\n", "            return 0\n", "exit code"),
    ),
    # axes
    *of(
        "fireedit_core/regions/record.py", "tests/core/regions/test_record.py",
        (
            "limit = self.boxes.new_tensor([width, height, width, height])", "limit = self.boxes.new_tensor([height, width, height, width])",
            "axis",
        ),
        ("values.repeat_interleave(counts).reshape(height, width)", "values.repeat_interleave(counts).reshape(width, height).T", "axis"),
    ),
    *of(
        "fireedit_core/photo/frame.py", "tests/core/photo/test_frame.py",
        ("-self.padding[0] / self.scale)", "-self.padding[1] / self.scale)", "axis"),
    ),
    *of(
        "fireedit_core/diffusion/compositing.py", "tests/core/diffusion/test_compositing.py",
        ("(0, self.padded[1] - self.inner[1], 0, self.padded[0]", "(self.padded[1] - self.inner[1], 0, 0, self.padded[0]", "axis"),
    ),
    # checks and state
    *of(
        "fireedit_core/regions/choice.py", SELECT,
        ("(*self.picked, *self.moved, *self.names):", "self.picked:", "dropped check"),
        ("limit = boxes.new_tensor([width, height, width, height])", "limit = boxes.new_tensor([height, width, height, width])", "axis"),
    ),
]  # fmt: skip

# SPDX-License-Identifier: GPL-3.0-or-later
"""Forty faults that were written from the code alone, before any test was looked at, and then run: how well the tests see what nobody had
in mind. README says what came of it."""

from __future__ import annotations

from ..mutant import of

BAD = "tests/host/inside/test_bad_values.py tests/host/inside/test_rows.py"
DIALECTS = "tests/core/regions/test_dialects.py tests/host/inside/test_regions.py"
GROUNDING = "tests/core/grounding/test_resolve.py tests/core/grounding/test_words.py tests/core/grounding/test_answer.py tests/core/grounding/test_table.py"
FINISH = f"tests/host/inside/test_photo_finish.py tests/host/inside/test_photo_bad_input.py {BAD}"
QUICK = f"tests/host/inside/test_quick_edit.py tests/host/inside/test_photo_bad_input.py {BAD}"
CLI = "tests/core/command_line"

MUTANTS = [
    *of(
        "nodes/ground.py", f"tests/host/inside/test_ground.py tests/host/inside/test_grounder.py {BAD}",
        ("[from_answer(record, one) for record, one in zip", "[from_answer(records[0], one) for record, one in zip", "first row"),
        ("_grounded(pictures[index], instruction", "_grounded(pictures[0], instruction", "first row"),
        ("f\"{NAME}: picture {index + 1} of {count}\"", "f\"{NAME}: picture {index} of {count}\"", "off by one"),
    ),
    *of(
        "nodes/photo_finish.py", FINISH,
        ("at = i % len(originals)", "at = 0", "first row"),
        ("one, masks[i], align", "one, masks[0], align", "first row"),
        ("if mask is not None and not bool((mask > 0).any()):", "if False:", "special case"),
        ("list(models.intermediate(with_alpha(original, NAME)))", "list(models.intermediate(without_alpha(original)))", "dropped part"),
    ),
    *of(
        "nodes/quick_edit.py", QUICK,
        ("behind[i % len(behind)]", "behind[0]", "first row"),
        # in place of all -> any in `_whole`, whose survival showed that batches of both kinds were wrong
        ("_Meant(torch.ones(size)) if everything else _among(one, answer)", "_among(one, answer)", "special case"),
        ("[_BOXED] * meant[i].boxed + warned", "warned", "message"),
    ),
    *of(
        "nodes/region_masks.py", "tests/host/inside/test_region_masks.py",
        ("bare = one if segmenter is None else replace(one, masks=None)", "bare = one", "stale state"),
    ),
    *of(
        "nodes/detection.py", f"tests/host/inside/test_regions.py {BAD}",
        ("if score_threshold < 0 else", "if score_threshold <= 0 else", "bound"),
        ("replace(one, picture=fingerprint(picture)) for one", "replace(one, picture=fingerprint(pictures[0])) for one", "first row"),
        ("    if prompt.strip():\n", "    if prompt.strip() and not instruction.strip():\n", "precedence"),
    ),
    *of(
        "fireedit_core/regions/dialects.py", DIALECTS,
        ("(height, width, height, width), strict=True)", "(width, height, width, height), strict=True)", "axis"),
        ("each[frame if len(each) > 1 else 0]", "each[0]", "first row"),
        ("int(columns[-1]) + 1, int(rows[-1]) + 1]", "int(columns[-1]), int(rows[-1])]", "off by one"),
    ),
    *of(
        "fireedit_core/photo/crop.py", "tests/core/photo/test_crop.py tests/host/inside/test_photo_crop.py",
        ("((bottom - top) + (right - left)) / 2)", "((bottom - top) + (right - left)))", "formula"),
        ("start = min(max(start, 0), limit - length)", "start = max(start, 0)", "clamp"),
    ),
    *of(
        "fireedit_core/photo/finish.py", "tests/core/photo/test_finish.py tests/host/inside/test_photo_finish.py",
        ("grow / frame.scale, feather / frame.scale", "grow * frame.scale, feather * frame.scale", "scale"),
        ("(1, x0, x1, box[2:], frame.size[1])", "(1, x0, x1, box[2:], frame.size[0])", "axis"),
    ),
    *of(
        "fireedit_core/photo/quick_edit.py", f"tests/core/photo/test_quick_edit.py {QUICK}",
        ("    mask[mask > 1 - _DECIDED] = 1\n", "", "clamp"),
        ("alpha = torch.where(matte >= 1, image[3], image[3] * matte.to(image))", "alpha = matte.to(image)", "dropped part"),
    ),
    *of(
        "fireedit_core/photo/recolour.py", "tests/core/photo/test_recolour.py tests/core/photo/test_quick_edit.py",
        ("((x, size[1]), (y, size[0]))", "((x, size[0]), (y, size[1]))", "axis"),
    ),
    *of(
        "fireedit_core/bulk/__main__.py", "tests/core/bulk/test_command.py",
        ("return STOPPED if report.failed else DONE", "return DONE", "exit code"),
    ),
    *of(
        "fireedit_core/bulk/results.py", "tests/core/bulk/test_results.py tests/core/bulk/test_local.py",
        ("if line.endswith(\"}\\n\"):", "if line.strip():", "check"),
        ("        self.path.unlink(missing_ok=True)\n", "", "stale state"),
    ),
    *of(
        "fireedit_core/bulk/on_ray.py", "tests/core/bulk/test_on_ray.py",
        ("(row.key, str(row.image), row.instruction, row.seed)", "(row.key, str(row.image), row.instruction)", "default"),
    ),
    *of(
        "fireedit_core/evaluation/benchmarks/generate.py", "tests/core/evaluation/benchmarks/test_generate.py",
        ("f\"{seed}/{key}\".encode()", "key.encode()", "dropped option"),
    ),
    *of(
        "fireedit_core/evaluation/benchmarks/score.py",
        "tests/core/evaluation/benchmarks/test_magicbrush.py tests/core/evaluation/benchmarks/test_commands.py tests/core/evaluation/benchmarks/test_masked.py",
        ("\"expected\": len(trials), \"used\": len(cases)", "\"expected\": len(trials), \"used\": len(trials)", "count"),
    ),
    *of(
        "fireedit_cli/comfy_client.py", CLI,
        ("answer.status_code not in (408, 425, 429)", "answer.status_code != 408", "check"),
    ),
    *of("fireedit_cli/__main__.py", CLI, ("return FAILED if failed else DONE", "return DONE", "exit code")),
    *of(
        "fireedit_cli/jobs.py", CLI,
        ("not place.is_relative_to(folder.resolve())", "not str(place).startswith(str(folder.resolve()))", "check"),
    ),
    *of(
        "fireedit_core/grounding/ground.py", f"{GROUNDING} tests/host/inside/test_ground.py",
        ("scores.clamp(max=CHOSEN - 0.01))", "scores)", "clamp"),
        ("guess = guess or found.guess", "guess = found.guess", "stale state"),
        ("masks[row] = regions.masks[number]", "masks[row] = regions.masks[row]", "wrong row"),
    ),
    *of(
        "fireedit_core/grounding/clauses.py", GROUNDING,
        ("(_DARK, \"darker\")):\n        if re.fullmatch(pattern, bare", "(_DARK, \"brighter\")):\n        if re.fullmatch(pattern, bare", "swapped"),
    ),
    *of(
        "fireedit_core/checkpoints/convert.py", "tests/core/checkpoints/test_convert.py tests/core/checkpoints/test_convert_sources.py",
        ("parts[name] = part | parts[name]", "parts[name] = parts[name] | part", "precedence"),
    ),
    *of(
        "fireedit_core/checkpoints/bundle.py", "tests/core/checkpoints/test_bundle.py",
        ("sorted(loaded[\"missing_keys\"])", "sorted(loaded[\"unexpected_keys\"])", "check"),
        ("{key: options.get(key, OPTIONS[key]) for key in OPTIONS}", "{key: OPTIONS[key] for key in OPTIONS}", "default"),
    ),
]  # fmt: skip

# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists without ComfyUI."""

from __future__ import annotations

from ..mutant import of

LOCAL = "tests/core/bulk/test_editing.py tests/core/bulk/test_results.py tests/core/bulk/test_golden.py tests/core/bulk/test_local.py"

MUTANTS = [
    *of(
        "fireedit_core/bulk/editing.py", LOCAL,
        ("[r.instruction for r in rows], [r.seed for r in rows]", "[rows[0].instruction for r in rows], [r.seed for r in rows]", "first row"),
        ("[r.instruction for r in rows], [r.seed for r in rows]", "[r.instruction for r in rows], [rows[0].seed for r in rows]", "first row"),
        ("keep_outside=options.keep_outside", "keep_outside=\"off\"", "dropped option"),
        ("working_size=options.working_size, keep", "keep", "dropped option"),
        ("image_guidance=options.image_guidance", "image_guidance=options.text_guidance", "wrong option"),
        ("generator=generators,\n", "generator=generators[0],\n", "first row"),
        ("self.writer.write(row, edits[row.key], seconds=seconds)", "self.writer.write(row, edits[usable[0].key], seconds=seconds)", "first row"),
    ),
    *of(
        "fireedit_core/bulk/results.py", LOCAL,
        ("key=lambda line: line[0])[-1][1]", "key=lambda line: line[0])[0][1]", "latest line"),
        ("[line for line in lines if line[2] == there] or lines", "lines", "whose line"),
        ("if record.get(\"run\") == run for key", "if \"run\" in record for key", "wrong run"),
    ),
    *of(
        "fireedit_core/bulk/rows.py", f"tests/core/bulk/test_rows.py {LOCAL}",
        ("Path(row.image).name, row.instruction, row.seed,", "Path(row.image).name, row.instruction,", "stale key"),
        ("Path(bundle).resolve().name, asdict(options)]", "asdict(options)]", "stale key"),
        ("[Path(row.image).name, row.instruction", "[row.key, row.instruction", "stale key"),
        ("text = value[\"instruction\"] or (instruction or \"\").strip()", "text = (instruction or \"\").strip() or value[\"instruction\"]", "precedence"),
        ("own = value[\"seed\"] or str(seed)", "own = str(seed)", "dropped option"),
    ),
    *of(
        "fireedit_core/bulk/__main__.py", "tests/core/bulk/test_golden.py tests/core/bulk/test_command.py",
        ("EditOptions(o.steps, o.text_guidance, o.image_guidance, o", "EditOptions(o.steps, o.image_guidance, o.text_guidance, o", "wrong option"),
        ("o.working_size, o.keep_outside)", "o.working_size)", "dropped option"),
    ),
]  # fmt: skip

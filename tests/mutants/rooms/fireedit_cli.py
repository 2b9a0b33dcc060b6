# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line."""

from __future__ import annotations

from ..mutant import of

FAST = "tests/core/command_line"

MUTANTS = [
    *of(
        "fireedit_cli/jobs.py", FAST,
        ("value[\"instruction\"] or instruction or \"\"", "instruction or value[\"instruction\"] or \"\"", "precedence"),
        ("int(own) if own else seed))", "seed))", "dropped option"),
    ),
    *of(
        "fireedit_cli/journal.py", FAST,
        ("digest = hashlib.sha256(job.source.read_bytes())", "digest = hashlib.sha256(job.source.name.encode())", "stale key"),
        ("json.dumps([job.instruction, job.seed, self.settings])", "json.dumps([job.seed, self.settings])", "stale key"),
        ("json.dumps([job.instruction, job.seed, self.settings])", "json.dumps([job.instruction, job.seed])", "stale key"),
        ("for line in reversed(lines) if", "for line in lines if", "latest line"),
        ("            lines.append(record)", "            pass", "stale state"),
        ("stamp or self.stamp(job)", "self.stamp(job)", "stale key"),
        ("== made and _of_one_picture(line, job)", "== made", "wrong row"),
        ("\"seed\": job.seed, \"server\": server", "\"seed\": 0, \"server\": server", "journal"),
    ),
    *of(
        "fireedit_cli/batch.py", FAST,
        ("places.fill(flow, name, job.instruction, job.seed)", "places.fill(base, name, job.instruction, job.seed)",
         "wrong row"),
        ("flow.nodes[key][\"inputs\"][name] = seed", "flow.nodes[key][\"inputs\"].setdefault(name, seed)", "dropped option"),
        ("flow.nodes[self.picture][\"inputs\"][\"image\"] = picture", "flow.set(\"LoadImage\", \"image\", picture)", "wrong node"),
        ("f\"fireedit_{content}{job.source.suffix.lower()", "f\"fireedit_{job.source.stem}{job.source.suffix.lower()", "stale key"),
        ("{\"quality\": 95, \"subsampling\": 0}, \".jpeg\"", "{\"quality\": 75}, \".jpeg\"", "constant"),
        ("_as_wanted(pictures[0], job, said)", "_as_wanted(pictures[-1], job, said)", "wrong row"),
        ("if url not in job.refused:", "if True:", "bookkeeping"),
        ("if reader[0] == node or not told:", "if reader[0] == node:", "missing check"),
        ("MAKERS = (\"FireEditSample\", \"FireEditQuickEdit\", \"FireEditPhotoFinish\")", "MAKERS = (\"FireEditConfine\",)", "wrong node"),
    ),
    *of("fireedit_cli/pictures.py", FAST, ("if frames > 1 and", "if frames > 2 and", "bound"), ("/ 257).round().clip", "/ 257).clip", "rounding")),
    *of("fireedit_cli/comfy_client.py", FAST, ("np.round(np.clip(array.astype(np.float32), 0.0, 1.0) * 255.0)", "(np.clip(array.astype(np.float32), 0.0, 1.0) * 255.0)", "rounding")),
    *of(
        "fireedit_cli/workflow.py", FAST,
        ("return [origin] if link[1] == 0 else []", "return [origin]", "wrong output"),
        ("return origin, \"value\"", "return node, name", "wrong node"),
        ("return Workflow(copy.deepcopy(self.nodes), self.origin)", "return Workflow(dict(self.nodes), self.origin)", "shared state"),
    ),
    *of(
        "fireedit_cli/__main__.py", FAST,
        ("json.dumps([*graphs, options.bundle, weights_stamp(options, flow)]", "json.dumps([*graphs, options.bundle]", "stale key"),
        ("\"image_guidance\": (\"FireEditSample\", \"image_guidance\")", "\"image_guidance\": (\"FireEditSample\", \"text_guidance\")", "wrong option"),
        ("options.output, options.seed)", "options.output)", "dropped option"),
        ("p.stat().st_size, p.stat().st_mtime_ns]", "p.stat().st_size]", "stale key"),
        ("return [[name, file.stat().st_size, file.stat().st_mtime_ns] for name, file in found]", "return []", "stale key"),
    ),
]  # fmt: skip

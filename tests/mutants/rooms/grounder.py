# SPDX-License-Identifier: GPL-3.0-or-later
"""Language models as grounders: what they are asked, how their replies are read, and the host's text encoder made to speak."""

from __future__ import annotations

from ..mutant import of

CHAT = "tests/core/grounding/test_chat_models.py"
PROTOCOL = "tests/core/grounding/test_protocol.py"
HOST = "tests/host/inside/test_grounder.py"

MUTANTS = [
    *of(
        "fireedit_core/grounding/chat.py", CHAT,
        ("return rows * processor.patch_size, columns * processor.patch_size", "return picture.height, picture.width", "wrong size"),
        ("        _allow_large_pictures(processor", "        (lambda *a: 0)(processor", "dropped limit"),
        ("self._progress(input_ids.shape[1] - self._length)", "self._progress(input_ids.shape[1])", "count"),
    ),
    *of(
        "fireedit_core/grounding/constraint.py", CHAT,
        ("for token in input_ids[0, self._length :].tolist():", "for token in []:", "state"),
    ),
    *of(
        "fireedit_core/grounding/by_model.py", f"{CHAT} {PROTOCOL}",
        ("_ROUNDS = 2", "_ROUNDS = 1", "constant"),
        ("chosen = [marked[number] for number in reply.targets]", "chosen = list(reply.targets)", "wrong row"),
    ),
    *of(
        "fireedit_core/grounding/protocol.py", PROTOCOL,
        ("text = text.rsplit(\"</think>\", 1)[-1]", "pass", "dropped step"),
    ),
    *of(
        "fireedit_core/grounding/loading.py", CHAT,
        ("if missing := sorted(loaded[\"missing_keys\"]):", "if missing := []:", "check"),
    ),
    *of(
        "nodes/host/text_encoder.py", HOST,
        ("return self.host.weight.to(device=x.device, dtype=x.dtype) * wide.to(x.dtype)",
         "return (self.host.weight.to(device=x.device).float() * wide).to(x.dtype)", "rounding"),
        ("    _answer(sight, dtype=dtype)\n", "", "type"),
        ("include_buffers=False", "include_buffers=True", "buffers"),
        ("if not torch.equal(handle.get_tensor(names[1]).to(norm.dtype), norm):", "if False:", "wrong file"),
        ("return False  # some encoders", "pass  # some encoders", "check"),
        ("kind.startswith(\"Qwen3VL\") and width in _TIED_WIDTHS", "kind.startswith(\"Qwen3VL\")", "check"),
    ),
    *of(
        "nodes/ground.py", HOST,
        ("        models.check_interrupted()\n        bar", "        bar", "cancel"),
    ),
    *of(
        "nodes/host/grounders.py", HOST,
        ("_DEPTH = 2", "_DEPTH = 3", "constant"),
    ),
]  # fmt: skip

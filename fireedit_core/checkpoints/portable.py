# SPDX-License-Identifier: GPL-3.0-or-later
"""One form on disk, whichever release of transformers wrote it: 5.x renames things that 4.57 does not find again."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save_file


def portable_name(class_name: str) -> str:
    """The name of a transformers class that every supported release has."""
    # transformers 5 has merged the two and writes the new name; the old one stays as an alias
    return "PreTrainedTokenizerFast" if class_name == "TokenizersBackend" else class_name


def make_portable(path: Path | str) -> None:
    """Rewrite a component folder, just written by `save_pretrained`, in the form of the published checkpoints.

    - tokenizers are `PreTrainedTokenizerFast` (5.x: `TokenizersBackend`);
    - the keys of a `CLIPVisionModel` start with `vision_model.`, those of a `CLIPTextModel` with `text_model.` (5.x leaves them out, 4.57
      would load nothing);
    - `rope_theta` stands in the config itself too (5.x: only inside `rope_parameters`, 4.57 would take its default);
    - no `_name_or_path`: the folder that the trainer read a part from means nothing elsewhere.
    """
    path = Path(path)
    with _edited(path / "tokenizer_config.json") as config:
        if "tokenizer_class" in config:
            config["tokenizer_class"] = portable_name(config["tokenizer_class"])
    with _edited(path / "config.json") as config:
        config.pop("_name_or_path", None)
        rope = config.get("rope_parameters")
        if isinstance(rope, dict) and "rope_theta" in rope:
            config.setdefault("rope_theta", rope["rope_theta"])
        prefix = {"clip_vision_model": "vision_model.", "clip_text_model": "text_model."}.get(config.get("model_type"))
    if prefix:
        _prefix_keys(path / "model.safetensors", prefix)


def _prefix_keys(file: Path, prefix: str) -> None:
    with safe_open(str(file), "pt") as handle:
        keys, metadata = list(handle.keys()), handle.metadata()
    if all(key.startswith(prefix) for key in keys):
        return
    weights = {key if key.startswith(prefix) else prefix + key: x.clone() for key, x in load_file(str(file)).items()}
    save_file(weights, str(file), metadata)


class _edited:
    """Context manager: the dict of a JSON file (empty if there is none), written back where it was changed."""

    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> dict:
        self.before = self.path.read_text(encoding="utf-8") if self.path.is_file() else "{}"
        self.value = json.loads(self.before)
        return self.value

    def __exit__(self, *error) -> None:
        if error[0] is None and self.value != json.loads(self.before):
            self.path.write_text(json.dumps(self.value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")

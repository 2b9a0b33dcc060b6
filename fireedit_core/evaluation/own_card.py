# SPDX-License-Identifier: GPL-3.0-or-later
"""The model card of a bundle that somebody trained on datasets: where its parts come from, how it was trained, what was measured.

Nothing is typed by hand: sources are read from the records that `fireedit convert` and `fireedit train` leave in a bundle, tables from
results of `score`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..checkpoints.index import CONVERTED, read_index
from .benchmarks import report
from .card import TRAINING, _parts, put_card
from .scenes import bundle_fingerprint

SAID = ("stage", "size", "steps", "batch", "accumulate", "lr", "fresh_lr", "optimizer", "precision", "train_parts", "detector", "seed")


def write_own_card(bundle: str | Path, scores: Sequence[str | Path], licence: str = "") -> Path:
    """Write `README.md` of a bundle from results of `score`.

    Args:
        licence: under which the bundle is shared; "": the card says that none is stated.

    Raises:
        ValueError: for a bundle without a training record, a file that is no result, or one of edits that other weights made, and
            for a README.md of somebody's own.
    """
    folder = Path(bundle)
    index, own = read_index(folder), bundle_fingerprint(folder)
    record = _record(folder / TRAINING)
    if "config" not in record:
        raise ValueError(f"{folder / TRAINING} is no record of `fireedit train`, so a card could not say how the bundle was trained")
    results = [_result(Path(path), own) for path in scores]
    converted = _record(folder / CONVERTED)
    text = [
        f"---\nlicense: {licence or 'other'}\nlibrary_name: diffusers\ntags: [image-editing, fireedit, comfyui]\n---",
        f"# {folder.name}",
        "A FireEdit (CVPR 2025, arXiv 2503.19839) trained with FireEdit for ComfyUI. It is not the paper's model, whose weights were "
        "never published. This card is written by `python -m fireedit_core.evaluation card --score`.",
        "## Licence", _licence(licence),
        "## Where its parts come from", _sources(converted),
        "## Training", _training(record),
        "## Measured", *(report.markdown(result).replace("\n#", "\n##").replace("# ", "### ", 1) for result in results),
        "## Parts", _parts(folder, index),
    ]  # fmt: skip
    return put_card(folder, "\n\n".join(text) + "\n")


def _record(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))
    return found if isinstance(found, dict) else {}


def _result(path: Path, own: str) -> dict[str, Any]:
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as a result of `score` ({error})") from error
    if not isinstance(result, dict) or "benchmark" not in result or "views" not in result:
        raise ValueError(f"{path} is no result of `python -m fireedit_core.evaluation score`")
    made = (result.get("generation") or {}).get("bundle_fingerprint")
    if made != own:
        raise ValueError(f"{path} was measured on edits of the weights {made or 'of somebody else'}, the bundle has {own}; generate anew")
    return result


def _licence(licence: str) -> str:
    bound = "It is bound by the licences of all parts below and by those of its training data; read each where it comes from."
    return f"{f'Shared under {licence}.' if licence else 'No licence is stated.'} {bound}"


def _sources(converted: Mapping[str, Any]) -> str:
    sources = converted.get("sources") or []
    if not sources:
        return "The bundle carries no record of a conversion."
    fresh = [part["name"] for part in converted.get("components", ()) if part.get("fresh")]
    lines = [f"- {source['name'].replace('_', '-')}: `{source['file']}`, {source['taken']} tensors" for source in sources]
    return "\n".join([*lines, f"- random before training, in part or whole: {', '.join(fresh) or 'nothing'}"])


def _training(record: Mapping[str, Any]) -> str:
    config = record["config"]
    lines = [f"- {key.replace('_', ' ')}: {config[key]}" for key in SAID if config.get(key) not in (None, "", [])]
    data = config.get("sources") or config.get("captions")
    return "\n".join([*lines, f"- data: the list `{Path(str(data)).name}`", f"- steps done: {record.get('step')}"])

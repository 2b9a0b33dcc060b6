# SPDX-License-Identifier: GPL-3.0-or-later
"""The model card of a bundle, written from measured results and the training record: no figure is typed by hand."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..checkpoints.bundle import COMPONENTS, bundle_options, read_index
from ..data import EDIT_TYPES, WORLD, WORLDS, World
from ..diffusion.rows import FLOORS, collapsed
from ..whole_files import write_text
from . import ablation as modules
from . import summary
from .scenes import bundle_fingerprint, report

TRAINING = "training.json"
CARD = "README.md"
WRITTEN = "written by `python -m fireedit_core.evaluation card"  # stands in every card, and in no text of a person's


def write_card(
    bundle: str | Path, results: Sequence[str | Path], training: str | Path | None = None, ablation: str | Path | None = None
) -> Path:
    """Write `README.md` of a bundle from result files of `evaluation scenes`.

    Args:
        results: JSON files; the first with enough scenes per type says what is mastered.
        training: the training record; None takes `training.json` of the bundle where it has one.
        ablation: `ablation.json` of `evaluation ablation`; None leaves that table out.

    Raises:
        ValueError: for no result, a file that is none, or one that was measured on other weights, and for a README.md of somebody's own.
    """
    folder = Path(bundle)
    index = read_index(folder)
    own = bundle_fingerprint(folder)
    loaded = [_read_result(path, own) for path in results]
    if not loaded:
        raise ValueError("a card needs at least one result: run `python -m fireedit_core.evaluation scenes --out DIR` first")
    record_path = Path(training) if training else folder / TRAINING
    record = _read_json(record_path) if training or record_path.is_file() else None
    measured = _read_json(Path(ablation)) if ablation else None
    return put_card(folder, card_text(folder, index, loaded, record, WORLDS.get(loaded[0]["config"]["world"], WORLD), measured))


def put_card(folder: Path, text: str) -> Path:
    """Write the card of a bundle. Raises ValueError where a person has written one."""
    path = folder / CARD
    if path.is_file() and WRITTEN not in path.read_text(encoding="utf-8", errors="replace"):
        raise ValueError(f"{path} is there already and was not written by this command; move it away")
    write_text(path, text)
    return path


def _read_json(path: Path) -> Any:
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # no JSON, or no UTF-8
        raise ValueError(f"{path} is no JSON ({error})") from error


def _read_result(path: str | Path, fingerprint: str) -> dict[str, Any]:
    result = _read_json(Path(path))
    if not isinstance(result, dict) or "edit" not in result.get("tables", {}):
        raise ValueError(f"{path} is no result of `python -m fireedit_core.evaluation scenes`")
    measured = result.get("bundle", {}).get("fingerprint")
    if measured != fingerprint:
        raise ValueError(f"{path} was measured on the weights {measured}, the bundle now has {fingerprint}; measure again")
    return result


def card_text(
    folder: Path, index: Mapping[str, Any], results: Sequence[Mapping[str, Any]], record: Mapping[str, Any] | None,
    world: World = WORLD, ablation: Mapping[str, Any] | None = None,
) -> str:  # fmt: skip
    """The whole card as Markdown."""
    parts = [
        "---\nlicense: gpl-3.0\nlibrary_name: diffusers\ntags: [image-editing, instruction-based-editing, fireedit, comfyui]\n---",
        f"# {folder.name}",
        "The embedded default of FireEdit for ComfyUI: the architecture of FireEdit (CVPR 2025, arXiv 2503.19839) with small "
        "dimensions, trained from scratch on synthetic scenes. Weights of the paper were never published; these are our own.",
        "This file is written by `python -m fireedit_core.evaluation card`; every figure comes from the commands below.",
        _released(results),
        "## What it can do", _abilities(results),
        "## Measured", _measured(results),
        _modules(ablation) if ablation else "",
        "## Data", _data(world),
        "## Training", _training(record),
        "## Parts", _parts(folder, index),
        "## Limits", _limits(results, world),
    ]  # fmt: skip
    return "\n\n".join(p for p in parts if p) + "\n"


def verdict(results: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[str], list[str]]:
    """(mastered, not mastered, not measured on enough scenes) edit types, by the first result that has enough of a type.

    Only results with both injections at full strength count; the others are ablations.
    """
    good, bad = [], []
    for result in filter(_is_whole, results):
        known = {*good, *bad}
        good += [k for k in summary.mastered(result) if k not in known]
        bad += [k for k in summary.not_mastered(result) if k not in known]
    order = lambda kinds: [k for k in EDIT_TYPES if k in kinds]  # noqa: E731
    return order(good), order(bad), [k for k in EDIT_TYPES if k not in {*good, *bad}]


def released(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Why this bundle is not to be called released; empty if it may be. The resamplers' rows must differ (`rows.FLOORS`)."""
    power = next((result["power"] for result in results if "power" in result), None)
    if power is None:
        return ["no result says how much power lies between the rows of TATI and HVCA; measure again"]
    return collapsed(power)


def _released(results: Sequence[Mapping[str, Any]]) -> str:
    faults = released(results)
    power = next((result["power"] for result in results if "power" in result), {})
    said = ", ".join(f"{name} {value:.4f}" for name, value in power.items())
    if faults:
        return f"**Not a released bundle**: {'; '.join(faults)}. A resampler whose rows are one can only add a constant."
    floors = ", ".join(f"{name} {value}" for name, value in FLOORS.items())
    return f"Share of power between the rows of what a module gives to the UNet: {said} (floors: {floors})."


def _is_whole(result: Mapping[str, Any]) -> bool:
    return result["config"]["tati_strength"] == 1 and result["config"]["hvca_strength"] == 1


def _abilities(results: Sequence[Mapping[str, Any]]) -> str:
    good, bad, open_ = verdict(results)
    lines = [
        f"An edit type is **mastered** when more than {100 * summary.MASTERED_SUCCESS:.0f} % of at least {summary.MASTERED_SCENES} "
        "held-out scenes succeed strictly (squared error inside the edited mask below 10 % of the wanted change, every other "
        "object intact). Sampler, steps and guidance were fixed on validation scenes before.",
        f"- mastered: {', '.join(good) or 'none'}",
        f"- not mastered: {', '.join(bad) or 'none'}",
    ]
    if open_:
        lines.append(f"- not measured on enough scenes: {', '.join(open_)}")
    return "\n".join([lines[0], "", *lines[1:]])


def _measured(results: Sequence[Mapping[str, Any]]) -> str:
    parts = []
    for result in results:
        parts.append(f"```\n{result.get('command', 'python -m fireedit_core.evaluation scenes')}\n```\n\n{report(result, markdown=True)}")
    parts.append(
        "`identity` is the source itself as output; `autoencoder` is the exact target through the autoencoder: the floor of "
        "every error here, and the most that strict success can reach. A strict success is `inside right` (relative error "
        "below 0.10) and `bystanders intact`. Grounding counts the top-scored region (IoU 0.5 with the object that is meant; "
        "`twins`: another object shares its noun; `no region`: a background edit prefers none). Nothing was composited."
    )
    return "\n\n".join(parts)


def _modules(ablation: Mapping[str, Any]) -> str:
    return (
        "## What each module is worth\n\nNot these weights, but four smaller trainings that differ in one module each "
        f"(`python -m fireedit_core.evaluation ablation`; how, and what it means: docs/ablation.md):\n\n{modules.table(ablation)}"
    )


def _data(world: World) -> str:
    return (
        f"Synthetic scenes of the world `{world.name}` (fingerprint `{world.fingerprint()}`): {world.image_size} px, "
        f"{min(world.count_weights)}-{max(world.count_weights)} objects of {len(world.classes)} classes "
        f"({', '.join(world.classes)}) on {len(world.backgrounds)} kinds of background ({', '.join(world.backgrounds)}), "
        f"{len(world.palette)} colours ({', '.join(world.palette)}). Sprites: the 3D emoji of `@lobehub/fluent-emoji-3d` (MIT, "
        f"Microsoft). Held-out scenes come from another seed space, and each shows an object of a class that training never saw "
        f"({', '.join(world.heldout)}), as a bystander."
    )


def _training(record: Mapping[str, Any] | None) -> str:
    if not record:
        return "No training record lies beside the weights."
    lines = []
    for key, value in record.items():
        if key != "stages":
            lines.append(f"- {key.replace('_', ' ')}: {_brief(value)}")
    stages = record.get("stages") or []
    if isinstance(stages, Mapping):
        stages = [{"name": name, **(s if isinstance(s, Mapping) else {"value": s})} for name, s in stages.items()]
    if stages:
        head = list(dict.fromkeys(key for stage in stages for key in stage))
        rows = [[_brief(stage.get(key, "")) for key in head] for stage in stages]
        lines += ["", summary.markdown_table([h.replace("_", " ") for h in head], rows)]
    return "\n".join(lines).strip()


def _brief(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_brief(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_brief, value))
    return str(value)


def _parts(folder: Path, index: Mapping[str, Any]) -> str:
    rows, total = [], 0
    for name in COMPONENTS:
        size = sum(p.stat().st_size for p in (folder / name).glob("*.safetensors"))
        total += size
        rows.append([name, ".".join(index[name][:2]), f"{size / 1e6:.2f} MB" if size else "-"])
    options = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in bundle_options(index).items() if v != ())
    table = summary.markdown_table(("part", "class", "weights"), rows)
    return f"{total / 1e6:.1f} MB of safetensors in all, fingerprint `{bundle_fingerprint(folder)}`. Defaults: {options}.\n\n{table}"


def _limits(results: Sequence[Mapping[str, Any]], world: World) -> str:
    _, bad, open_ = verdict(results)
    lines = [
        f"- It knows its own world only: {len(world.classes)} kinds of sprite at {world.image_size} px. On photographs it shows how "
        "the graph works, not what the method can do; larger pictures are edited at the working size and enlarged.",
        "- The words are those of the training instructions; any other word is unknown to it.",
        "- Edges are as sharp as the autoencoder lets them be; see its error in the tables above.",
    ]
    if bad or open_:
        lines.insert(0, f"- Do not expect {', '.join([*bad, *open_])} to come out right.")
    found: dict[str, dict] = {}
    for goal in (g for result in filter(_is_whole, results) for g in summary.goals(result)):
        found.setdefault(goal["what"], goal)  # the first result that measured it
    missed = [f"{g['what']} {g['measured']:.3f} (wanted {g['goal']}, n = {g['n']})" for g in found.values() if not g["met"]]
    if missed:
        lines.append(f"- Goals that are not reached: {'; '.join(missed)}.")
    return "\n".join(lines)


def command_line(arguments: Sequence[str]) -> str:
    """The command that a result came from, as it can be typed again."""
    return "python -m fireedit_core.evaluation " + shlex.join(arguments)

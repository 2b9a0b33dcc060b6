# SPDX-License-Identifier: GPL-3.0-or-later
"""The bundle on disk: a diffusers folder with `model_index.json` and one safetensors subfolder per component (design D1)."""

from __future__ import annotations

import copy
import logging
import shutil
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from safetensors import SafetensorError

from ..diffusion.hvca import HVCA
from ..diffusion.tati import TATI
from ..diffusion.visual_attention import VisualCrossAttention
from ..regions.deformable_detr import DeformableDetrRegionDetector
from ..regions.yolo import YoloRegionDetector
from ..vlm import EditQFormer, GroundingHead, ImgTokens, RegionEncoder, VisionAdapter
from ..whole_files import write_json
from .index import COMPONENTS, EXTRAS, INDEX, OPTIONS, BundleError, bundle_options, parts_of, read_index
from .portable import make_portable, portable_name
from .weights import check_weights, stored_dtype, stored_keys

logger = logging.getLogger("fireedit")

__all__ = [
    "COMPONENTS", "EXTRAS", "INDEX", "LORA", "OPTIONS", "BundleError", "bundle_options", "load_component", "load_components", "read_index",
    "save_bundle",
]  # fmt: skip

LORA = "language_model_lora"
ROOM = ".saving"  # where `save_bundle` puts the parts until all are there

# What a bundle may name. Nothing else is imported, so a stranger's model_index.json cannot run code.
OWN_CLASSES = {
    c.__name__: c
    for c in (
        DeformableDetrRegionDetector, EditQFormer, GroundingHead, HVCA, ImgTokens, RegionEncoder, TATI, VisionAdapter,
        VisualCrossAttention, YoloRegionDetector,
    )
}  # fmt: skip
DIFFUSERS_CLASSES = (
    "AutoencoderDC", "AutoencoderKL", "AutoencoderTiny", "UNet2DConditionModel", "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler", "DDIMScheduler", "DPMSolverMultistepScheduler", "HeunDiscreteScheduler", "LCMScheduler",
)  # fmt: skip
TRANSFORMERS_CLASSES = (
    "CLIPTextModel", "CLIPVisionModel", "Dinov2Model", "LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM",
    "Qwen3ForCausalLM",
    "PreTrainedTokenizerFast", "LlamaTokenizerFast", "LlamaTokenizer",
)  # fmt: skip


def load_component(folder: Path | str, name: str, dtype: torch.dtype | None = torch.float32, index: dict | None = None) -> Any:
    """Load one component of a bundle on the CPU.

    Args:
        folder: the bundle. name: one of `COMPONENTS` or `EXTRAS`. dtype: floating point type of its weights, None for the one on disk.

    Raises:
        BundleError: for a class that bundles may not name, a missing, truncated or pickled weight file.
    """
    folder = Path(folder)
    index = index or read_index(folder)
    kind = component_class(folder, name, index)
    class_name = kind.__name__
    path = folder / name
    if not path.is_dir():
        raise BundleError(f"the bundle {folder.name} has no folder {name}/; copy the bundle again.")
    if issubclass(kind, (diffusers.SchedulerMixin, transformers.PreTrainedTokenizerBase)):
        try:
            return kind.from_pretrained(str(path), local_files_only=True)
        # a broken tokenizer.json ends in whatever the Rust side raises
        except Exception as error:
            raise BundleError(f"{path} could not be loaded as {class_name}: {error}") from error
    _check_weights(path)
    dtype = dtype or stored_dtype(path)
    options: dict[str, Any] = {"use_safetensors": True, "local_files_only": True, "output_loading_info": True}
    if issubclass(kind, transformers.PreTrainedModel):
        options["dtype"] = dtype
    else:
        options |= {"torch_dtype": dtype, "low_cpu_mem_usage": False}
    try:
        model, loaded = kind.from_pretrained(str(path), **options)
    except (SafetensorError, OSError, RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(f"{path} could not be loaded as {class_name}: {error}") from error
    # the libraries only warn and leave what is missing random, which would edit into noise
    if missing := sorted(loaded["missing_keys"]):
        raise BundleError(
            f"{path} has no weights for {len(missing)} parameters of {class_name}, the first is {missing[0]}; copy the bundle again."
        )
    if name == "language_model" and (folder / LORA).is_dir():
        model = _with_adapters(model, folder / LORA).to(dtype)
    return model.eval().requires_grad_(False)


def component_class(folder: Path | str, name: str, index: dict | None = None) -> type:
    """The class of one component of a bundle. Raises BundleError for one that bundles may not name."""
    return _resolve((index or read_index(folder))[name], name, Path(folder))


def blank_component(folder: Path | str, name: str, index: dict | None = None, device: str = "meta") -> torch.nn.Module:
    """One component of a bundle by its configuration alone: no weights are read, on the meta device there are none."""
    folder = Path(folder)
    kind = component_class(folder, name, index)
    with torch.device(device):
        if getattr(kind, "config_class", None) is not None:
            return kind(kind.config_class.from_pretrained(str(folder / name)))
        return kind.from_config(kind.load_config(str(folder / name)))


def load_components(folder: Path | str, dtype: torch.dtype = torch.float32, names: Iterable[str] | None = None) -> dict[str, Any]:
    """Several components of a bundle by name, by default all that it holds; see `load_component`."""
    index = read_index(folder)
    return {name: load_component(folder, name, dtype, index) for name in (parts_of(index) if names is None else names)}


def blank_language_model(folder: Path | str, index: dict | None = None) -> torch.nn.Module:
    """The language model without weights (on the meta device), for where none of what reads it is trained: it would fill the memory."""
    folder = Path(folder)
    kind = component_class(folder, "language_model", index)
    config = transformers.AutoConfig.from_pretrained(str(folder / "language_model"), local_files_only=True)
    with torch.device("meta"):
        return kind(config).eval().requires_grad_(False)


def save_bundle(
    folder: Path | str, components: dict[str, Any], options: dict[str, Any], dtype: torch.dtype | None = torch.float16
) -> None:
    """Write a bundle: every component with its own `save_pretrained`, LoRA in PEFT's format, then the index.

    A bundle that is there already stays as it is until all parts of the new one are on the disk; what else lies in its folder stays.

    Args:
        components: all of `COMPONENTS`, and those of `EXTRAS` that there are. options: values for the keys of `OPTIONS`.
        dtype: floating point type on disk; the given modules keep theirs. None keeps it.
    """
    folder = Path(folder)
    room = folder / ROOM
    if room.exists():  # of a save that did not end
        shutil.rmtree(room)
    room.mkdir(parents=True)
    index: dict[str, Any] = {"_class_name": "FireEditPipeline", "_diffusers_version": diffusers.__version__}
    for name in COMPONENTS + tuple(name for name in EXTRAS if components.get(name) is not None):
        component = components[name]
        if name == "language_model" and hasattr(component, "peft_config"):
            adapters = _cast(component, dtype) if dtype else component
            save_adapters(room / LORA, adapters)
            component = adapters.unload() if dtype else copy.deepcopy(component).unload()
        save_component(room / name, component, dtype)
        index[name] = [_library_of(type(component)), portable_name(type(component).__name__)]
    (folder / INDEX).unlink(missing_ok=True)  # a folder that is half the old and half the new is no bundle
    for name in (*COMPONENTS, *EXTRAS, LORA):
        _clear(folder / name)
        if (room / name).is_dir():
            (room / name).rename(folder / name)
    room.rmdir()
    write_json(folder / INDEX, index | {key: options.get(key, OPTIONS[key]) for key in OPTIONS})


def save_component(folder: Path, component: Any, dtype: torch.dtype | None) -> None:
    """Write one component; its weights in `dtype`, None as they are. The given module keeps its type."""
    if isinstance(component, torch.nn.Module) and dtype is not None:
        component = _cast(component, dtype)
    component.save_pretrained(str(folder))
    make_portable(folder)


def save_adapters(folder: Path, model: Any) -> None:
    """Write the adapters of a PEFT model, without the model itself."""
    # without save_embedding_layers=False peft asks the hub for the base model's vocabulary
    model.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False)


def _clear(path: Path) -> None:
    if path.is_symlink():  # the link only: what it leads to may be another bundle's
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)


def _with_adapters(model: torch.nn.Module, folder: Path) -> torch.nn.Module:
    """The language model with the adapters of a PEFT folder. Raises BundleError where they are not whole, or of another model."""
    from peft import PeftModel, get_peft_model_state_dict

    _check_weights(folder)
    try:
        with warnings.catch_warnings():  # peft only warns of what is missing, which the lines below refuse
            warnings.filterwarnings("ignore", message=".*missing adapter keys.*")
            adapted = PeftModel.from_pretrained(model, str(folder))
    except (SafetensorError, OSError, RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(f"{folder} could not be loaded as adapters: {error}") from error
    wanted = set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    found = {key for file in folder.glob("*.safetensors") for key in stored_keys(file)}
    unknown = found - wanted - set(adapted.state_dict())
    if missing := sorted(wanted - found):
        raise BundleError(f"{folder} has no weights for {len(missing)} of its adapters, the first is {missing[0]}; copy the bundle again.")
    if unknown:
        raise BundleError(f"{folder} has adapters for which the language model has no place, such as {min(unknown)}; it is of another one.")
    return adapted


def _cast(module: torch.nn.Module, dtype: torch.dtype) -> torch.nn.Module:
    # not module.to(): diffusers' own warns about layers to keep in float32 where there are none
    return torch.nn.Module.to(copy.deepcopy(module), dtype)


def _library_of(kind: type) -> str:
    root = kind.__module__.split(".")[0]
    return root if root in ("diffusers", "transformers") else "fireedit_core"


def _resolve(entry: Any, name: str, folder: Path) -> type:
    if not isinstance(entry, list) or len(entry) < 2 or not all(isinstance(x, str) for x in entry[:2]):
        raise BundleError(f"{folder / INDEX} must name [library, class] for {name}, got {entry!r}.")
    library, class_name = entry[0], portable_name(entry[1])
    allowed = {
        "fireedit_core": OWN_CLASSES,
        "diffusers": {c: diffusers for c in DIFFUSERS_CLASSES},
        "transformers": {c: transformers for c in TRANSFORMERS_CLASSES},
    }.get(library, {})
    if class_name not in allowed:
        raise BundleError(
            f"{folder / INDEX} wants {library}.{class_name} for {name}; FireEdit loads only {sorted(allowed) or 'its own classes'}."
        )
    found = allowed[class_name]
    kind = found if isinstance(found, type) else getattr(found, class_name, None)
    if kind is None:
        raise BundleError(f"this {library} has no {class_name} (for {name}); update {library}.")
    return kind


def _check_weights(path: Path) -> None:
    """Refuse pickles and broken safetensors with a message that names the file."""
    try:
        check_weights(path)
    except ValueError as error:
        raise BundleError(str(error)) from error

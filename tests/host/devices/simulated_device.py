# SPDX-License-Identifier: GPL-3.0-or-later
"""A second device for torch, "sim", that computes on the CPU and is as strict as a card.

Torch keeps the key PrivateUse1 for devices of strangers and lets Python serve it. A tensor of "sim" is an ordinary `torch.Tensor` without
memory of its own: its storage carries a CPU tensor with the values. Every operator runs on those. What a card refuses is refused here
too, in CUDA's words: a tensor of "sim" that meets one of the CPU.
"""

from __future__ import annotations

import functools
import gc
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

NAME = "sim"
_AFTER = ("CompositeExplicitAutograd", "CompositeExplicitAutogradNonFunctional")  # torch's own kernels, which would trust our strides
_NATIVE = ("_to_copy", "detach", "alias")  # of these, the ones that work as they are
_COPIES = ("aten::copy_", "aten::_copy_from")  # from device to device
_INDEXES = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")  # a card takes indices from the CPU

_alive: dict[int, weakref.ref] = {}
_libraries: list[torch.library.Library] = []


def missing() -> str:
    """Why this torch cannot have the device; "" where it can. The names are private, so that any release may lack them."""
    try:
        from torch.utils.backend_registration import _setup_privateuseone_for_python_backend  # noqa: F401

        torch._C._acc.create_empty_tensor  # noqa: B018
        torch.library.Library.fallback  # noqa: B018
    except (ImportError, AttributeError) as error:
        return f"torch {torch.__version__} has no devices in Python ({error})"
    return ""


def install() -> torch.device:
    """The device; makes it known to torch first, once per process. There is no way back."""
    if _libraries:
        return torch.device(NAME, 0)
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    _setup_privateuseone_for_python_backend(NAME)
    aten, rest = torch.library.Library("aten", "IMPL"), torch.library.Library("_", "IMPL")
    _libraries.extend((aten, rest))
    rest.fallback(_run, "PrivateUse1")
    own = {
        "convolution_overrideable": functools.partial(_run, torch.ops.aten.convolution.default),
        "convolution_backward_overrideable": _convolution_backward,
    }
    for name, function in own.items():
        aten.impl(name, function, "PrivateUse1")
    for full in torch._C._dispatch_get_all_op_names():
        space, _, name = full.partition("::")
        if space == "aten" and name not in (*_NATIVE, *own) and any(map(functools.partial(_has_kernel, full), _AFTER)):
            packet, _, overload = name.partition(".")
            operator = getattr(getattr(torch.ops.aten, packet), overload or "default")
            aten.impl(name, functools.partial(_run, operator), "PrivateUse1")
    return torch.device(NAME, 0)


def used_bytes() -> int:
    """Memory of the tensors that are alive on the device; views count once."""
    found = [values for values in (ref() for ref in list(_alive.values())) if values is not None]
    return sum({v.untyped_storage().data_ptr(): v.untyped_storage().nbytes() for v in found}.values())


def collect() -> int:
    """`used_bytes` after what nobody holds has been let go."""
    gc.collect()
    return used_bytes()


def _has_kernel(operator: str, key: str) -> bool:
    return torch._C._dispatch_has_kernel_for_dispatch_key(operator, key)


def _on_device(values: Tensor) -> Tensor:
    made = torch._C._acc.create_empty_tensor(tuple(values.shape), values.dtype)
    made.untyped_storage().values = values  # torch keeps a storage's Python object as long as the storage
    key = id(values)
    _alive[key] = weakref.ref(values, lambda _: _alive.pop(key, None))
    return made


def _values(x: Tensor) -> Tensor:
    values = x.untyped_storage().values
    if values.shape != x.shape:  # an operator has changed the shape of a tensor in place
        raise NotImplementedError(f"the simulated device lost track of a tensor of shape {tuple(x.shape)}")
    return values


def _each(change: Callable[[Any], Any], value: Any) -> Any:
    """`change` of a value, or of everything in a list or tuple of them."""
    return type(value)(_each(change, x) for x in value) if type(value) in (list, tuple) else change(value)


def _to_cpu(name: str, mixed: bool, x: Any) -> Any:
    if isinstance(x, Tensor):
        if x.device.type == NAME:
            return _values(x)
        if x.ndim and not mixed:
            raise RuntimeError(f"Expected all tensors to be on the same device, but found at least two devices, {NAME}:0 and cpu! ({name})")
        return x
    return torch.device("cpu") if isinstance(x, torch.device) and x.type == NAME else x


def _run(operator: Any, *args: Any, **kwargs: Any) -> Any:
    """The kernel of every operator: on the CPU with the values, and the result on the device."""
    schema = operator._schema
    given = dict(zip((argument.name for argument in schema.arguments), args)) | kwargs
    indexes = schema.name in _INDEXES and args[0].device.type == NAME
    lower = functools.partial(_to_cpu, schema.name, indexes or schema.name in _COPIES)
    low_args, low_kwargs = _each(lower, args), {name: _each(lower, value) for name, value in kwargs.items()}
    if schema.name == "aten::_copy_from":
        low_args[1].copy_(low_args[0])
        return args[1]
    if schema.name == "aten::view":  # torch asks for a view by strides that it believes to be contiguous
        operator = torch.ops.aten.reshape.default
    result = operator(*low_args, **low_kwargs)
    shared = [argument for argument in schema.arguments if argument.alias_info]
    written = [given[argument.name] for argument in shared if argument.alias_info.is_write]
    if written:
        count = len(schema.returns)
        return (None, written[0], tuple(written[:count]))[min(count, 2)]
    if isinstance(given.get("device"), torch.device) and given["device"].type != NAME:
        return result
    # a view of a tensor from outside of inference mode is none of inference mode either
    normal = [x for x in (given.get(argument.name) for argument in shared) if isinstance(x, Tensor) and not x.is_inference()]
    with torch.inference_mode(torch.is_inference_mode_enabled() and not normal):
        return _each(lambda x: _on_device(x) if isinstance(x, Tensor) else x, result)


def _convolution_backward(gradient: Tensor, x: Tensor, weight: Tensor, *rest: Any) -> Any:
    return _run(torch.ops.aten.convolution_backward.default, gradient, x, weight, [weight.shape[0]], *rest)

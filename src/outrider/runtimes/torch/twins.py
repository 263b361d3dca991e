"""Copies of a user's model that share its weights, so that the model itself is never changed, not for a moment.

A pass needs evaluation mode, and an attention function of ours in the config. Both are properties of the model object,
which the user may train, compile or call from another thread at the same time. So Outrider runs a twin: other modules,
another config, the same parameters.
"""

from __future__ import annotations

import copy
import types
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from outrider.errors import ModelError


class _SharedTensors(TorchFunctionMode):
    """While it is active, a deep copy of a tensor is the tensor itself."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return args[0] if func is torch.Tensor.__deepcopy__ else func(*args, **(kwargs or {}))


def twin_of(model: Any, name: str) -> Any | None:
    """A copy of the model in evaluation mode, with its own modules and config, over the same weights.

    Weights are shared by reference: nothing is duplicated, and what an optimizer does to them is seen. A compiled
    model's twin is not compiled.

    Returns:
        None where the model cannot be copied.

    Raises:
        ModelError: a module's `forward` was replaced by a function, which runs the model itself, and that is in
            training mode.
    """
    shared = {id(parameter): parameter for parameter in model.parameters()}
    try:
        with _SharedTensors():
            twin = copy.deepcopy(model, shared)
        pairs = list(zip(model.modules(), twin.modules(), strict=True))
    except Exception:  # of anything that a user may have put into a module
        _require_evaluation(model, model, name)
        return None
    for module, other in pairs:
        replaced = vars(module).get("forward")
        if isinstance(replaced, types.FunctionType):
            _require_evaluation(model, module, name)
        if replaced is None:  # an offloading hook puts weights into its module during each pass
            other._parameters = module._parameters
        other.training = False
        for buffer in other._non_persistent_buffers_set:
            # Such buffers are computed, and some are written in place: rotations, when a text grows.
            if other._buffers[buffer] is not None:
                other._buffers[buffer] = other._buffers[buffer].clone()
    return twin


def _require_evaluation(model: Any, module: Any, name: str) -> None:
    if module.training:
        raise ModelError(
            f"model {name} ({type(model).__name__}) is in training mode and runs code that is bound to it: call "
            "model.eval() before it is decoded with"
        )


def input_device(model: Any) -> torch.device:
    """Where the model takes its token ids. Offloaded weights are on the meta device until their module runs."""
    for module in (model, model.get_input_embeddings()):
        hook = vars(module).get("_hf_hook")
        place = None if hook is None else getattr(hook, "execution_device", None)  # accelerate's, of several classes
        if place is not None:
            return torch.device(place)
    weight = next(model.get_input_embeddings().parameters(), None)
    if weight is not None and weight.device.type != "meta":
        return torch.device(weight.device)
    held = (tensor.device for tensor in (*model.parameters(), *model.buffers()) if tensor.device.type != "meta")
    return next(held, torch.device("cpu"))


def with_windows(model: Any, name: str, size: int) -> Any | None:
    """A twin whose attention windows and chunks are no longer than `size` tokens; the model itself where none is.

    With it a few tokens show how the model reads a text longer than its window.
    """
    holders = [*model.modules(), *_configs(model)]
    if not any(_longer(holder, size) for holder in holders):
        return model
    twin = twin_of(model, name)
    if twin is not None:
        for holder in (*twin.modules(), *_configs(twin)):
            for attribute in _longer(holder, size):
                setattr(holder, attribute, size)
    return twin


def window_sizes(model: Any) -> set[int]:
    """All windows that a model and its configs name, in tokens."""
    holders = (*model.modules(), *_configs(model))
    return {getattr(holder, name) for holder in holders for name in _longer(holder, 0) if "window" in name}


def _longer(holder: Any, size: int) -> list[str]:
    """Names of the attributes that hold a window or chunk of more than `size` tokens."""
    return [
        attribute
        for attribute, value in vars(holder).items()
        if ("window" in attribute or "chunk" in attribute)
        and "layers" not in attribute
        and isinstance(value, int)
        and not isinstance(value, bool)
        and value > size
    ]


def _configs(model: Any) -> list[Any]:
    found: dict[int, Any] = {}
    for module in model.modules():
        config = vars(module).get("config")
        if config is not None:
            found[id(config)] = config
            if hasattr(config, "get_text_config"):
                text = config.get_text_config(decoder=True)
                found[id(text)] = text
    return list(found.values())


def move_buffers(twin: Any, device: torch.device) -> None:
    """Follow a model that was moved after its twin was made; its weights are shared and have moved."""
    for module in twin.modules():
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = buffer.to(device)

"""Modules around a model of transformers."""

from __future__ import annotations

from typing import Any, cast

import torch
from transformers import PreTrainedModel

from outrider.errors import ModelError


def unwrapped(module: torch.nn.Module) -> torch.nn.Module:
    """The model of transformers inside the wrappers of torch.compile and PEFT; any other module as it is.

    Raises:
        ModelError: a model of transformers is inside an unknown module. Called as a function, it would lose its cache,
            its stop tokens and its context length.
    """
    inner: Any = module
    while not isinstance(inner, PreTrainedModel):
        if isinstance(inner, torch._dynamo.OptimizedModule):
            inner = inner._orig_mod
        elif hasattr(inner, "get_base_model"):  # PEFT's, which need not be installed
            _require_no_virtual_tokens(inner)
            inner = inner.get_base_model()
        else:
            break
    if isinstance(inner, PreTrainedModel):
        return cast(torch.nn.Module, inner)
    held = next((name for name, part in inner.named_modules() if isinstance(part, PreTrainedModel)), None)
    if held is not None:
        raise ModelError(
            f"a {type(inner).__name__} around a model of transformers is not known: give the model inside (.{held}), "
            "or outrider.FunctionModel(model), which is slower"
        )
    return module


def _require_no_virtual_tokens(wrapper: Any) -> None:
    """Prompt and prefix tuning are not in the base model: the wrapper adds them to every text."""
    settings = getattr(wrapper, "peft_config", None) or {}
    for setting in settings.values():
        if getattr(setting, "is_prompt_learning", False):
            raise ModelError(
                f"{type(wrapper).__name__} puts learned tokens before every text, which Outrider does not: "
                "give a model with adapters in its weights (LoRA), or outrider.FunctionModel(model), which is slower"
            )

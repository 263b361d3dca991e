"""Loads a learner's file and finds what it defines."""

from __future__ import annotations

import importlib.util
import random
import re
import sys
from collections.abc import Collection, Mapping
from functools import lru_cache
from importlib.machinery import SourceFileLoader
from inspect import Parameter, Signature, isclass, signature
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from outrider.check.learner.chapter import TASKS
from outrider.check.learner.child.channel import Misfit

MODULE = "solution"
EOS = re.compile(r"(^|_)eos(_|$)|stop_(token|id)", re.IGNORECASE)
MOST_NAMES = 20


def load(path: Path) -> dict[str, Any]:
    """Run the file, and return what it defines. Raises whatever it raises."""
    sys.argv = [str(path)]
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_loader(MODULE, SourceFileLoader(MODULE, str(path)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.dont_write_bytecode = True
    sys.modules[MODULE] = module
    spec.loader.exec_module(module)
    return vars(module)


def framework_of(names: Mapping[str, Any], loaded: Collection[str]) -> str:
    """By the modules that the file names, else by those that it has loaded.

    Args:
        loaded: names of modules. What was there before the file tells nothing of it.
    """
    named = [value.__name__ for value in list(names.values()) if isinstance(value, ModuleType)]
    named += [str(getattr(value, "__module__", "")) for value in list(names.values()) if callable(value)]
    for known in (named, loaded):
        for framework in ("mlx", "torch"):
            if any(name.split(".")[0] == framework for name in known):
                return framework
        if "numpy" in known and known is named:
            return "numpy"
    return "numpy"


def seed_everything(seed: int) -> None:
    """The global generators of all libraries that are loaded. A file's own generators stay as they are."""
    random.seed(seed)
    np.random.seed(seed)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)
        sys.modules["torch"].set_num_threads(1)
    if "mlx.core" in sys.modules:
        sys.modules["mlx.core"].random.seed(seed)


class Found:
    """What a file defines of what the chapter asks for."""

    def __init__(self, names: dict[str, Any], path: Path) -> None:
        self.names = names
        self.path = path

    def kinds(self) -> dict[str, str]:
        """For each of the chapter's names: "missing", "right", or what it is instead."""
        return {task.name: self._kind(task.name, task.kind) for task in TASKS}

    def _kind(self, name: str, wanted: str) -> str:
        if name not in self.names:
            return "right" if name == "verify_speculation" and self._method() is not None else "missing"
        value = self.names[name]
        if wanted == "class":
            return "right" if isclass(value) else _kind_of(value)
        return "right" if callable(value) and not isclass(value) else _kind_of(value)

    def others(self) -> list[str]:
        """Other classes and functions of the file, for a hint."""
        mine = [
            name
            for name, value in list(self.names.items())
            if callable(value) and not name.startswith("_") and getattr(value, "__module__", None) == MODULE
        ]
        return sorted(name for name in mine if name not in self.kinds())[:MOST_NAMES]

    def _method(self) -> Any:
        """verify_speculation as a method of SpeculativeDecoder that takes what the function takes; None if not."""
        method = getattr(self.names.get("SpeculativeDecoder"), "verify_speculation", None)
        if method is None:
            return None
        try:
            taken = [name for name in signature(method).parameters if name != "self"]
        except (TypeError, ValueError):
            return None
        return method if len(taken) >= 3 and "target_logits" in taken else None

    def verification(self, decoder: Any) -> Any:
        """The function verify_speculation; of a method that of `decoder()`."""
        if "verify_speculation" in self.names:
            return self.names["verify_speculation"]
        return decoder().verify_speculation

    def stop_constants(self) -> list[str]:
        """Names in the file that hold a stop token: EOS_TOKEN_ID = 2."""
        return [
            name
            for name, value in list(self.names.items())
            if EOS.search(name) and isinstance(value, int) and not isinstance(value, bool)
        ]


def _kind_of(value: Any) -> str:
    if isclass(value):
        return "a class"
    if callable(value):
        return "a function"
    return f"{'an' if type(value).__name__[:1] in 'aeiou' else 'a'} {type(value).__name__}"


def parameters_of(function: Any) -> dict[str, Parameter]:
    """By name; empty where they cannot be known. Those of a class are its constructor's."""
    try:
        return dict(_signature(function).parameters)
    except Exception:  # also of an object of the file that cannot be hashed
        pass
    try:
        return dict(signature(function).parameters)
    except (TypeError, ValueError):
        return {}


@lru_cache(maxsize=64)
def _signature(function: Any) -> Signature:
    """It is asked for before every call."""
    return signature(function)


class Stub:
    """A tokenizer, where one is asked for."""

    eos_token_id = -1


SUPPLIED: dict[str, Any] = {"temperature": 1.0, "temp": 1.0}


def settings_of(function: Any, given: int, stop: int | None = None) -> dict[str, Any]:
    """Values for further parameters that have a meaning here; `given` are taken by position.

    Args:
        stop: the token that ends a text; None for none.

    Raises:
        Misfit: one is needed that has none.
    """
    settings: dict[str, Any] = {}
    for name, parameter in list(parameters_of(function).items())[given:]:
        if parameter.kind in (Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL, Parameter.POSITIONAL_ONLY):
            continue
        if EOS.search(name):
            if stop is not None:
                settings[name] = [stop] if name.endswith("s") else stop
            elif parameter.default is not None:
                settings[name] = [] if name.endswith("s") else -1
        elif name in SUPPLIED:
            settings[name] = SUPPLIED[name]
        elif parameter.default is Parameter.empty and name == "tokenizer":
            settings[name] = Stub()
        elif parameter.default is Parameter.empty:
            raise Misfit(f"it needs an argument {name}, which the chapter's signature does not have")
    return settings

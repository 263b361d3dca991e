"""The sampling settings that a GGUF file recommends, in its keys general.sampling.*."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from outrider.errors import ModelError
from outrider.runtimes.files.recommended import USUAL_TEMPERATURE, Recommended
from outrider.runtimes.llamacpp.header import Damaged, read_header

SOURCE = "the model's GGUF file"
PREFIX = "general.sampling."
TRUNCATION = ("top_k", "top_p", "min_p")
# What changes a text in llama.cpp and is not offered here, with the values that change nothing.
UNSUPPORTED: dict[str, tuple[Any, ...]] = {"xtc_probability": (0,), "mirostat": (0,)}
WHOLE_CONTEXT = -1


def recommended_in(file: Path) -> Recommended:
    """What llama.cpp's own programs take from the file.

    The order of its samplers (`sequence`) is not followed: it is that of transformers.

    Raises:
        ModelError: the file is damaged.
    """
    try:
        values = read_header(file).values
    except (Damaged, OSError, ValueError) as error:
        raise ModelError(f"model file {file} cannot be opened: {error}; download it again") from error
    given = {key.removeprefix(PREFIX): value for key, value in values.items() if key.startswith(PREFIX)}
    settings: dict[str, Any] = {}
    if any(name in given for name in ("temp", *TRUNCATION)):
        settings["temperature"] = _number(given, "temp", USUAL_TEMPERATURE)
        settings |= {name: _number(given, name) for name in TRUNCATION if name in given}
    if (penalty := _number(given, "penalty_repeat", 1.0)) != 1.0:
        settings["repetition_penalty"] = penalty
    unsupported = [name for name, neutral in UNSUPPORTED.items() if name in given and given[name] not in neutral]
    if penalty != 1.0 and given.get("penalty_last_n", WHOLE_CONTEXT) != WHOLE_CONTEXT:
        unsupported.append("penalty_last_n")
    return Recommended(SOURCE, settings, tuple(unsupported))


def _number(given: Mapping[str, Any], name: str, default: float = 0.0) -> Any:
    value = given.get(name, default)
    if not isinstance(value, float):
        return value
    return float(f"{value:.7g}")  # 0.6 in float32 is 0.6000000238

"""What a configuration of transformers states about a model; read without transformers."""

from __future__ import annotations

import warnings
from typing import Any

from outrider.runtimes.base import UNBOUNDED, stop_token_ids


def context_length_of(config: Any, name: str) -> int:
    """The longest text. Rotations that change where a text grows (longrope) end it there: what was read before would
    have to be read again, and the longest text of a batch would decide for all of them."""
    longest = int(getattr(config, "max_position_embeddings", None) or UNBOUNDED)
    parameters = getattr(config, "rope_parameters", None) or {}
    ends = [
        int(each["original_max_position_embeddings"])
        for each in (parameters, *parameters.values())
        if isinstance(each, dict) and each.get("rope_type") == "longrope" and "original_max_position_embeddings" in each
    ]
    if ends and min(ends) < longest:
        warnings.warn(
            f"model {name} takes texts of up to {min(ends)} tokens here, not {longest}: beyond that its rotations "
            "(longrope) change for the whole text",
            RuntimeWarning,
            stacklevel=4,
        )
    return min([longest, *ends])


def stop_token_ids_of(model: Any) -> frozenset[int]:
    generation = getattr(model, "generation_config", None)
    return stop_token_ids(getattr(generation, "eos_token_id", None), getattr(model.config, "eos_token_id", None))

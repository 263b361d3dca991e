"""What a result depends on, in a few letters: a run goes on only with results that it would have had itself."""

from __future__ import annotations

import hashlib
import json
from typing import Any

PARTS = ("model", "prompt", "settings")
LETTERS = 12


def fingerprint(model: Any, prompt: Any, settings: Any) -> str:
    """Equal where all three are; each is anything that JSON can say."""
    return "-".join(_digest(part)[:LETTERS] for part in (model, prompt, settings))


def differing(one: str, other: str) -> list[str]:
    """Which of the PARTS make two fingerprints differ; all where one of them is no fingerprint."""
    pairs = list(zip(one.split("-"), other.split("-"), strict=False))
    if len(pairs) != len(PARTS):
        return list(PARTS)
    return [name for name, (mine, yours) in zip(PARTS, pairs, strict=True) if mine != yours]


def derived_seed(seed: int, id: Any) -> int:
    """The seed of one prompt of a run; it depends on nothing but the run's seed and the prompt's id."""
    return int(_digest([seed, id])[:16], 16) >> 1  # 63 bits: more than a signed word holds troubles readers of JSON


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()

"""Settings of the proposer, which vLLM gives no place for: from a JSON file and the environment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from outrider.errors import SettingError

FILE = "OUTRIDER_VLLM_CONFIG"
PREFIX = "OUTRIDER_VLLM_"


class Settings(BaseModel):
    """What the proposer drafts with. Each may stand in the file of $OUTRIDER_VLLM_CONFIG, or in a variable of its own
    (OUTRIDER_VLLM_DRAFTER and so on), which counts more.

    Attributes:
        drafter: suffix copies from the text and from earlier requests; lookup adds successors of earlier tokens.
        memory_tokens: of earlier requests that are remembered; 0 remembers none.
        memory_prompts: whether prompts are remembered with the answers.
        lookahead: auto drafts as many tokens as pay by measured times, at most vLLM's num_speculative_tokens; fixed
            drafts that many where the drafter has them.
        log_seconds: between two lines about acceptance; 0 logs nothing.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    drafter: Literal["suffix", "lookup"] = "suffix"
    memory_tokens: int = Field(131_072, ge=0)
    memory_prompts: bool = True
    lookahead: Literal["auto", "fixed"] = "auto"
    log_seconds: float = Field(30.0, ge=0)


def read_settings(environment: Mapping[str, str]) -> Settings:
    """The settings of this process.

    Raises:
        SettingError: the file cannot be read, or a value is unknown or out of range.
    """
    values = _from_file(environment[FILE]) if FILE in environment else {}
    for name in Settings.model_fields:
        variable = PREFIX + name.upper()
        if variable in environment:
            values[name] = environment[variable]
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise SettingError(
            f"{name} of the vLLM proposer is {first['input']!r}: {first['msg']}; known are "
            f"{', '.join(Settings.model_fields)}"
        ) from error


def _from_file(name: str) -> dict[str, Any]:
    try:
        content = json.loads(Path(name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingError(f"{FILE} is {name}, which cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise SettingError(f"{FILE} is {name}, which holds no JSON object")
    return content

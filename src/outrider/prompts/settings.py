"""Sampling settings as plain keywords: the one list of their names and types that all doors take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypedDict

from outrider.maths.sampling import SamplingParams


class SamplingSettings(TypedDict, total=False):
    """The fields of SamplingParams, each of which may be left out."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    logit_bias: Mapping[int, float]
    seed: int | None


def sampling_of(sampling: SamplingParams | None, settings: SamplingSettings) -> SamplingParams:
    """The settings that hold: `sampling`, or the defaults, with those changed that are given by name.

    Raises:
        SettingError: a value is out of its range.
    """
    return replace(sampling if sampling is not None else SamplingParams(), **settings)

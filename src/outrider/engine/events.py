"""What an engine emits: tokens, where each came from, and why a text ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Origin(StrEnum):
    """Where a token came from."""

    DRAFTED = "drafted"  # proposed by the drafter and accepted
    CORRECTION = "correction"  # drawn by the target after a rejection
    BONUS = "bonus"  # drawn by the target after every draft token was accepted
    PLAIN = "plain"  # drawn by the target in a round without a draft


class FinishReason(StrEnum):
    """Why a sequence ended."""

    STOP = "stop"  # a stop token or a stop string
    LENGTH = "length"  # max_tokens, or the end of the model's context
    CANCELLED = "cancelled"  # by the caller
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Log probabilities of the target at one position, before any sampling setting.

    Attributes:
        chosen: of the emitted token; None if not asked for.
        top: of the most probable tokens, {token: log probability}, the most probable first; None if not asked for.
    """

    chosen: float | None = None
    top: Mapping[int, float] | None = None


NO_LOGPROBS = TokenLogprobs()


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """One emitted token.

    Attributes:
        sequence: the id of its sequence.
        index: its position in the output, from 0.
        token: the token id.
        text: the text that it completes. It may be empty, and may hold characters that earlier tokens began.
        origin: where it came from.
        source: the name of the drafter, for drafted tokens.
        logprob: the target's log probability before any sampling setting; None if not asked for.
        finish_reason: set on the last token.
        top_logprobs: the same for the most probable tokens, {token: log probability}, the most probable first; None if
            not asked for.
    """

    sequence: int
    index: int
    token: int
    text: str
    origin: Origin
    source: str = ""
    logprob: float | None = None
    finish_reason: FinishReason | None = None
    top_logprobs: Mapping[int, float] | None = None

"""What is asked for, and what comes back token by token."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from outrider.maths.sampling import SamplingParams
from outrider.text import Tokenizer


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
class Request:
    """One text to continue.

    Attributes:
        prompt: token ids, at least one.
        max_tokens: the most tokens to emit.
        sampling: how; its seed must be set.
        stop_token_ids: tokens that end the text. The stop token is emitted, its text is not.
        stop: strings that end the text; needs a tokenizer. The text ends before the string.
        predicted: tokens that the caller expects in the output, for drafters that can use them.
        logprobs: whether to report the target's log probability of every emitted token.
        tokenizer: to turn tokens into text; None emits tokens only.
    """

    prompt: tuple[int, ...]
    max_tokens: int
    sampling: SamplingParams
    stop_token_ids: frozenset[int] = frozenset()
    stop: tuple[str, ...] = ()
    predicted: tuple[int, ...] = ()
    logprobs: bool = False
    tokenizer: Tokenizer | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """One emitted token.

    Attributes:
        sequence: the id of its sequence.
        index: its place in the output, from 0.
        token: the token id.
        text: the text that it completes; may be empty, and may hold characters begun by earlier tokens.
        origin: where it came from.
        source: the name of the drafter, for drafted tokens.
        logprob: natural logarithm of the target's probability before any sampling setting; None if not asked for.
        finish_reason: set on the last token.
    """

    sequence: int
    index: int
    token: int
    text: str
    origin: Origin
    source: str = ""
    logprob: float | None = None
    finish_reason: FinishReason | None = None

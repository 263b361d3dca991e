"""What a server takes at most, so that no client can stop the others."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on a request, in the units that are named.

    Attributes:
        body_bytes: of a request.
        body_seconds: until a whole request must have come.
        stalled_seconds: how long a client may leave what was sent to it unread, before it is dropped.
        texts: that one request may ask for: prompts times `n`.
        stops: stop strings.
        stop_characters: of each of them.
        top_logprobs: in each place.
        biased_tokens: in `logit_bias`.
        tokenize_characters: of a text for /tokenize.
    """

    body_bytes: int = 10 * 2**20
    body_seconds: float = 30.0
    stalled_seconds: float = 60.0
    texts: int = 32
    stops: int = 16
    stop_characters: int = 1000
    top_logprobs: int = 20
    biased_tokens: int = 1024
    tokenize_characters: int = 2**20

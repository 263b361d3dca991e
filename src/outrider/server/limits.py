"""What a server takes at most, so that no client can stop the others."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on a request, in the units that are named.

    Attributes:
        body_bytes: of a request.
        bodies_bytes: of all requests that are on their way; beyond it only short ones are taken.
        values: in a body, counted by its commas: each takes time to read.
        body_seconds: until a whole request must have come.
        stalled_seconds: how long a client may leave what was sent to it unread, before it is dropped.
        texts: that one request may ask for: prompts times `n`.
        stops: stop strings.
        stop_characters: of each of them.
        top_logprobs: in each place.
        biased_tokens: in `logit_bias`.
        grammar_characters: of a grammar or schema: to compile one takes time that grows with the square.
        tokenize_characters: of a text for /tokenize.
    """

    body_bytes: int = 10 * 2**20
    bodies_bytes: int = 256 * 2**20
    values: int = 2**18
    body_seconds: float = 30.0
    stalled_seconds: float = 60.0
    texts: int = 32
    stops: int = 16
    stop_characters: int = 1000
    top_logprobs: int = 20
    biased_tokens: int = 1024
    grammar_characters: int = 2**16
    tokenize_characters: int = 2**20

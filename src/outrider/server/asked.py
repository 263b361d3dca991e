"""What a request asks for, in the same terms for every dialect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from outrider.prompts.request import Request
from outrider.structured.tools import Tool


@dataclass(frozen=True, slots=True)
class Extras:
    """What the field `outrider` of a request asks for besides.

    Attributes:
        tokens: each token with its origin.
        rounds: each round with its draft.
        metrics: the numbers of speculation, as vLLM names them.
    """

    tokens: bool = False
    rounds: bool = False
    metrics: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """Texts that are asked for.

    Attributes:
        requests: one for each prompt; `max_tokens` is cut to what fits into a row.
        n: how many texts for each of them.
        extras: what is reported besides.
        ignored: names of fields that were left out, with the reason.
        tools: that the model may call.
        salt: what else keeps caches apart, besides the API key.
    """

    requests: Sequence[Request]
    n: int = 1
    extras: Extras = Extras()
    ignored: Mapping[str, str] = field(default_factory=dict)
    tools: tuple[Tool, ...] = ()
    salt: str = ""

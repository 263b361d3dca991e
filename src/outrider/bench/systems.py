"""A system to measure: Outrider in some settings, or anything else that answers a prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from outrider.api.decoder import SpeculativeDecoder
from outrider.engine.statistics import Statistics
from outrider.maths.sampling import SamplingParams


@dataclass(frozen=True, slots=True)
class Measurement:
    """One answer of one system.

    Attributes:
        tokens: emitted.
        seconds_prefill: the time of the prefill.
        seconds_decoding: the rest.
        stats: None where the system is not Outrider.
    """

    tokens: list[int]
    seconds_prefill: float
    seconds_decoding: float
    stats: Statistics | None = None

    @property
    def seconds_per_token(self) -> float:
        return self.seconds_decoding / max(len(self.tokens), 1)


System = Callable[[Sequence[int], int], Measurement]


def outrider_system(decoder: SpeculativeDecoder, sampling: SamplingParams) -> System:
    """Outrider with the drafter, rule and lookahead of a decoder."""

    def run(prompt: Sequence[int], max_tokens: int) -> Measurement:
        generation = decoder.generate(prompt, max_tokens=max_tokens, sampling=sampling)
        stats = generation.stats
        return Measurement(generation.tokens, stats.seconds_prefill, stats.seconds_decoding, stats)

    return run

"""What is measured: Outrider in several settings, and the peers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from outrider.api.decoder import SpeculativeDecoder
from outrider.engine.statistics import Statistics
from outrider.maths.sampling import SamplingParams


@dataclass(frozen=True, slots=True)
class Measurement:
    """One answer of one system.

    Attributes:
        tokens: emitted.
        seconds_prefill: until the first token could be computed.
        seconds_decoding: from there to the end.
        stats: of Outrider's own systems.
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
    """Outrider with a given drafter, rule and lookahead."""

    def run(prompt: Sequence[int], max_tokens: int) -> Measurement:
        generation = decoder.generate(prompt, max_tokens=max_tokens, sampling=sampling)
        stats = generation.stats
        return Measurement(generation.tokens, stats.seconds_prefill, stats.seconds_decoding, stats)

    return run


class _Clock:
    """A transformers streamer that notes when tokens arrive."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, value: Any) -> None:
        self.times.append(time.perf_counter())

    def end(self) -> None:
        pass


def transformers_system(model: Any, stop_token_ids: Sequence[int]) -> System:
    """transformers' own greedy `generate` with its default cache.

    Its first token comes out of the prefill; decoding is what follows, scaled up by that one token.
    """
    import torch

    def run(prompt: Sequence[int], max_tokens: int) -> Measurement:
        clock = _Clock()
        ids = torch.tensor([list(prompt)], device=model.device)
        with torch.inference_mode():
            output = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=max_tokens,
                eos_token_id=list(stop_token_ids) or None,
                pad_token_id=0,
                streamer=clock,
            )
        tokens = output[0, len(prompt) :].tolist()
        # The streamer sees the prompt first, then one token at a time.
        prefill = clock.times[1] - clock.times[0]
        decoding = clock.times[-1] - clock.times[1]
        return Measurement(tokens, prefill, decoding * len(tokens) / max(len(tokens) - 1, 1))

    return run

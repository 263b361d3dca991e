"""The peers of PyTorch: transformers' own greedy `generate`, with and without its prompt lookup."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch

from benchmarks.peers.timing import measured
from outrider.bench.systems import Measurement, System


class _Clock:
    """A streamer that records when tokens arrive. It gets the prompt first, then the new tokens of each pass."""

    def __init__(self) -> None:
        self.started: float | None = None
        self.arrivals: list[float] = []

    def put(self, tokens: torch.Tensor) -> None:
        now = time.perf_counter()
        if self.started is None:
            self.started = now
        else:
            self.arrivals += [now] * tokens.numel()

    def end(self) -> None: ...


def transformers_system(model: Any, stop_token_ids: Sequence[int], lookup_tokens: int | None = None) -> System:
    """transformers' own greedy `generate` with its default cache.

    Args:
        model: of transformers.
        lookup_tokens: how many tokens its prompt lookup drafts; None decodes plainly.
    """

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
                prompt_lookup_num_tokens=lookup_tokens,
            )
        tokens: list[int] = output[0, len(prompt) :].tolist()
        assert clock.started is not None
        return measured(tokens, clock.started, clock.arrivals[: len(tokens)])

    return run

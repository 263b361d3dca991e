"""Greedy drafts that are rolled out on the device: one launch for each token, one read at the end."""

from __future__ import annotations

from collections.abc import Callable

import torch

from outrider.runtimes.torch.cuda.passes import Passes
from outrider.runtimes.torch.cuda.staging import Layout


def roll_out(passes: Passes, layout: Layout, count: int, vocab_size: int) -> torch.Tensor:
    """Choose the most probable token from the logits in the static outputs, feed it, and so on.

    Args:
        layout: one token of each row, staged for the place of the first drafted token.
        count: how many tokens to choose; the last one is not fed.
        vocab_size: only ids below it are chosen.

    Returns:
        int64 [count, rows], on the device.
    """
    step = _step(passes, layout, vocab_size)
    for _ in range(count - 1):
        passes.run(("rollout", layout, vocab_size), step)
    drafted = passes.outputs.drafted
    drafted[count - 1, : layout.rows] = _most_probable(passes, layout, vocab_size)
    return drafted[:count, : layout.rows]


def _step(passes: Passes, layout: Layout, vocab_size: int) -> Callable[[], None]:
    numbers = passes.sections(layout)

    def step() -> None:
        chosen = _most_probable(passes, layout, vocab_size)
        numbers.tokens.copy_(chosen)
        passes.outputs.drafted[:, : layout.rows].index_copy_(0, numbers.step, chosen[None])
        passes.into_outputs(layout)
        numbers.counters.add_(1)

    return step


def _most_probable(passes: Passes, layout: Layout, vocab_size: int) -> torch.Tensor:
    found: torch.Tensor = passes.outputs.logits[: layout.rows, :vocab_size].argmax(dim=-1)
    return found

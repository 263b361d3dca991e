"""Drafts that are drawn on the device: a copy of random numbers, one launch for each token, one read at the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from outrider.errors import ModelError
from outrider.maths.arrays.torch import exponential_of
from outrider.maths.noise import uniform
from outrider.runtimes.base import Draws
from outrider.runtimes.torch.cuda.passes import Passes
from outrider.runtimes.torch.cuda.staging import Layout, Staging
from outrider.runtimes.torch.cuda.verdicts.draws import draw
from outrider.runtimes.torch.cuda.verdicts.settings import SETTINGS, Filters, distributions, settings_of, sound

NUMBERS = 2  # of a token: a uniform number, or the two words of a key
BAD = -1  # in place of a token: a logit is not finite


def area_size(rows: int, most: int) -> int:
    """Numbers that the host gives for drafts of so many tokens."""
    return rows * (SETTINGS + NUMBERS * most)


def draw_out(
    passes: Passes, staging: Staging, layout: Layout, draws: Draws, vocab_size: int
) -> tuple[list[list[int]], torch.Tensor]:
    """Draw a token from the logits in the static outputs, feed it, and so on.

    Args:
        staging: for the settings and the random numbers.
        layout: one token of each row, staged for the place of the first drafted token.
        vocab_size: only ids below it are drawn.

    Returns:
        the tokens of each row, of which the last one is not fed; and their distributions, float32 [tokens, rows,
        vocab_size] on the device.

    Raises:
        ModelError: a logit is not a finite number.
    """
    rows, count = len(draws.keys), draws.count
    area = staging.area()
    _fill(area, layout.rows, draws)
    staging.copy(area_size(layout.rows, count))
    filters = Filters.of(draws.samplings)
    q = passes.outputs.drawn(count, layout.rows, vocab_size)
    drawing = _drawing(passes, layout, staging.there, q, draws.shared, filters)
    key = (layout, len(q), vocab_size, draws.shared, filters)

    def step() -> None:
        drawing()
        passes.into_outputs(layout)
        passes.sections(layout).counters.add_(1)

    for _ in range(count - 1):
        passes.run(("drawn", *key), step)
    passes.run(("last drawn", *key), drawing)
    found: list[list[int]] = passes.outputs.drafted[:count, :rows].T.tolist()
    if any(BAD in tokens for tokens in found):
        raise ModelError(
            "the draft model produced a logit that is not a finite number: try --draft-dtype float32, or another model"
        )
    return found, q[:count, :rows]


def _fill(area: np.ndarray[Any, np.dtype[np.int64]], padded_rows: int, draws: Draws) -> None:
    rows = len(draws.keys)
    settings = area[: SETTINGS * padded_rows].view(np.float64).reshape(SETTINGS, padded_rows)
    settings[:] = np.array([1.0, 0.0, 1.0, 0.0])[:, None]
    settings[:, :rows] = np.stack([settings_of(sampling) for sampling in draws.samplings], axis=1)
    numbers = area[SETTINGS * padded_rows : area_size(padded_rows, draws.count)].reshape(-1, padded_rows, NUMBERS)
    numbers[:] = 0
    for row, keys in enumerate(draws.keys):
        if draws.shared:
            numbers[:, row] = np.array(keys, dtype=np.uint32).view(np.int32)
        else:
            numbers[:, row, 0].view(np.float64)[:] = [uniform(key) for key in keys]


def _drawing(
    passes: Passes, layout: Layout, area: torch.Tensor, q: torch.Tensor, shared: bool, filters: Filters
) -> Callable[[], None]:
    """What draws the token of a step, and leaves it where the next pass reads it."""
    rows, vocab_size = layout.rows, q.shape[-1]
    settings = area[: SETTINGS * rows].view(torch.float64).view(SETTINGS, rows)
    numbers = area[SETTINGS * rows : area_size(rows, len(q))].view(-1, rows, NUMBERS)
    into, outputs = passes.sections(layout), passes.outputs

    def drawing() -> None:
        logits = outputs.logits[:rows, :vocab_size].float()
        p = distributions(logits, settings, filters)
        given = numbers.index_select(0, into.step)[0]  # [rows, NUMBERS]
        if shared:
            chosen = (p / exponential_of(given.int(), vocab_size)).argmax(dim=-1)
        else:
            chosen = draw(p, given[:, 0].contiguous().view(torch.float64), p)
        q.index_copy_(0, into.step, p[None])
        into.tokens.copy_(chosen)
        found = torch.where(sound(logits), chosen, BAD)
        outputs.drafted[:, :rows].index_copy_(0, into.step, found[None])

    return drawing

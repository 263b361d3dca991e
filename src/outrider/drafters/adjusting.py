"""Logit bias, penalties and logits processors, for drafts."""

from __future__ import annotations

import math
from collections.abc import Sequence

from outrider.errors import InputError
from outrider.maths.arrays import Array, keep_where_at_least, largest
from outrider.maths.sampling import History, SamplingParams, adjust


def adjusted(logits: Array, sampling: SamplingParams, history: History, paths: Sequence[Sequence[int]]) -> Array:
    """As `adjust`; where a logits processor fails, or makes logits that are no numbers, no token is allowed, so that
    nothing is drafted.

    Its text fails by itself if it also fails on the target's logits. It is no fault of the drafter, which other texts
    share.
    """
    try:
        changed = adjust(logits, sampling, history, paths)
    except InputError:
        return _nothing(logits)
    if sampling.logits_processors and not all(value < math.inf for value in largest(changed)[0].tolist()):  # or NaN
        return _nothing(logits)
    return changed


def _nothing(logits: Array) -> Array:
    return keep_where_at_least(logits, math.inf, -math.inf)

"""How long rows may be, so that memory never runs out in the middle of a text.

An engine reserves the KV cache of all rows when it opens, the drafter's too. A request that gets a row has its memory;
a request that is too long for a row is refused when it is submitted.
"""

from __future__ import annotations

from collections.abc import Sequence

from outrider.drafters.base import Drafter
from outrider.errors import SettingError
from outrider.runtimes.base import Model

SHARE = 0.8  # of free memory, which an engine takes by default
LOGITS_OF_A_ROW = 17  # tokens scored in one round: the pending one and a draft of 16
BYTES_OF_A_LOGIT = 12  # of the logit, its probability and its noise
STEP = 256  # tokens, to a multiple of which a capacity is rounded down
NODES_OF_A_TREE = 64  # room after a row's last token for branches that are rejected


def plan_capacity(
    target: Model, drafters: Sequence[Drafter], rows: int, capacity: int | None, memory_limit: int | None
) -> int:
    """The tokens that each row holds.

    Args:
        drafters: all that may draft, each of which holds memory for every row.
        capacity: as asked for; None takes the model's context, or as much of it as fits.
        memory_limit: in bytes, for keys, values and logits of target and drafters; None takes most of the free memory.

    Raises:
        SettingError: `capacity` does not fit, or without one not even short rows do.
    """
    longest = target.traits.context_length if capacity is None else min(capacity, target.traits.context_length)
    per_token = rows * (target.traits.bytes_per_token + sum(drafter.bytes_per_token for drafter in drafters))
    branches = NODES_OF_A_TREE if any(drafter.trees for drafter in drafters) else 0
    free = target.free_bytes()
    limit = memory_limit if memory_limit is not None else None if free is None else int(SHARE * free)
    if limit is None or not per_token:
        return longest
    logits = rows * (LOGITS_OF_A_ROW + branches) * target.traits.vocab_size * BYTES_OF_A_LOGIT
    fits = (limit - logits) // per_token - branches
    if fits >= longest:
        return longest
    if capacity is None and fits >= STEP:
        return fits // STEP * STEP
    wanted = longest if capacity is not None else STEP
    raise SettingError(
        f"{rows} rows of {wanted} tokens need {_gigabytes(per_token * wanted)} for keys and values and "
        f"{_gigabytes(limit)} are available: open the engine with fewer rows (max_rows) or shorter ones (capacity)"
    )


def _gigabytes(count: int) -> str:
    return f"{max(count, 0) / 1e9:.2f} GB"

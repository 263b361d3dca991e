"""How long rows may be, so that memory never runs out in the middle of a text.

An engine reserves the KV cache of all rows when it opens, the drafter's too. A request that gets a row has its memory;
a request that is too long for a row is refused when it is submitted.
"""

from __future__ import annotations

from collections.abc import Sequence

from outrider.drafters.base import Drafter
from outrider.errors import SettingError
from outrider.maths.budget import USUAL_DRAFT
from outrider.runtimes.base import Model

SHARE = 0.8  # of free memory, which an engine takes by default
LOGITS_OF_A_ROW = 17  # tokens scored in one round: the pending one and a draft of 16
BYTES_OF_A_LOGIT = 12  # of the logit, its probability and its noise
DRAFTS_SHARE = 0.25  # of that memory, for the logits and branches of wide drafts
STEP = 256  # tokens; a capacity is rounded down to a multiple of it
NODES_OF_A_TREE = 64  # room after a row's last token for branches that are rejected


def plan_capacity(
    target: Model,
    drafters: Sequence[Drafter],
    rows: int,
    capacity: int | None,
    memory_limit: int | None,
    most: int | None = None,
) -> int:
    """The tokens that each row holds.

    Args:
        drafters: all that may draft, each of which holds memory for every row.
        capacity: as asked for; None takes the model's context, or as much of it as fits.
        memory_limit: in bytes, for keys, values and logits of target and drafters; None takes most of the free memory.
        most: tokens of the largest draft, where the policy says.

    Raises:
        SettingError: `capacity` does not fit, or without one not even short rows do.
    """
    longest = target.traits.context_length if capacity is None else min(capacity, target.traits.context_length)
    per_token = _per_token(target, drafters, rows)
    branches = room_for_branches(drafters, most)
    limit = _limit(target, memory_limit)
    if limit is None or not per_token:
        return longest
    scored = max(LOGITS_OF_A_ROW + min(branches, NODES_OF_A_TREE), 1 + (most or 0 if drafters else 0))
    logits = rows * scored * target.traits.vocab_size * BYTES_OF_A_LOGIT
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


def room_for_branches(drafters: Sequence[Drafter], most: int | None) -> int:
    """Tokens that a row holds beyond its capacity, while a tree is scored."""
    return max(NODES_OF_A_TREE, most or 0) if any(drafter.trees for drafter in drafters) else 0


def widest_draft(target: Model, drafters: Sequence[Drafter], rows: int, memory_limit: int | None) -> int:
    """The most tokens of a draft where nobody says: what the target is made for, halved until it fits into memory."""
    most, limit = target.traits.widest, _limit(target, memory_limit)
    if limit is None:
        return most
    of_a_token = rows * target.traits.vocab_size * BYTES_OF_A_LOGIT + _per_token(target, drafters, rows)
    while most > USUAL_DRAFT and most * of_a_token > DRAFTS_SHARE * limit:
        most = max(most // 2, USUAL_DRAFT)
    return most


def _per_token(target: Model, drafters: Sequence[Drafter], rows: int) -> int:
    return rows * (target.traits.bytes_per_token + sum(drafter.bytes_per_token for drafter in drafters))


def _limit(target: Model, memory_limit: int | None) -> int | None:
    free = target.free_bytes()
    return memory_limit if memory_limit is not None else None if free is None else int(SHARE * free)


def _gigabytes(count: int) -> str:
    return f"{max(count, 0) / 1e9:.2f} GB"

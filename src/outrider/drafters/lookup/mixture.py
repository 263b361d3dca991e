"""What several sources together expect after a context.

The source with the longest match comes first, the others follow in a fixed order. Each divides the probability that
those before it left over: the interpolation of prediction by partial matching (Cleary and Witten 1984), with the
target's own successors as the shortest contexts. So a token that several sources expect is likelier than one that a
single source expects, by the sum of their shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from outrider.drafters.lookup.source import Context, Foresight, Source

LEAST_LEFT = 1e-3  # where less probability is left, no further source has a say


@dataclass(slots=True)
class Expected:
    """What may follow a context.

    Attributes:
        shares: by token.
        proposers: by token, a bit for each source that expects it.
        evidence: of the first source that knows the context, as `number of the source, its own word for it`.
        cursors: for each source, where it stands after a token.
    """

    shares: dict[int, float]
    proposers: dict[int, int]
    evidence: tuple[int, int]
    cursors: list[Any]

    def after(self, token: int) -> list[Any]:
        """Where each source stands after one of the tokens; None where it does not know."""
        return [known.get(token) for known in self.cursors]


NOWHERE: dict[int, Any] = {}


def expected(sources: Sequence[Source], cursors: Sequence[Any], context: Context) -> Expected:
    """What the sources expect after a context, all together."""
    after: list[Any] = [NOWHERE] * len(sources)
    told: list[tuple[int, Foresight]] = []
    longest = 0
    for number, source in enumerate(sources):
        known = source.foresee(cursors[number], context)
        if known is not None:
            after[number] = known.cursors
            if known.reach > longest:
                longest = known.reach
                told.insert(0, (number, known))
            else:
                told.append((number, known))
    shares: dict[int, float] = {}
    proposers: dict[int, int] = {}
    left = 1.0
    for number, known in told:
        bit = 1 << number
        for token, share in known.shares:
            shares[token] = shares.get(token, 0.0) + left * share
            proposers[token] = proposers.get(token, 0) | bit
        left *= known.left
        if left < LEAST_LEFT:
            break
    evidence = (told[0][0], told[0][1].evidence) if told else (len(sources), 0)
    return Expected(shares, proposers, evidence, after)

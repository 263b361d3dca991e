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

LEAST_LEFT = 1e-3  # where less probability is left, no further source is asked


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
    if not told:
        return Expected({}, {}, (len(sources), 0), after)
    number, known = told[0]
    shares = dict(known.shares)  # mostly that is all: beyond the text's own suffixes one source is asked
    proposers = dict.fromkeys(shares, 1 << number)
    left = known.left
    for other, further in told[1:]:
        if left < LEAST_LEFT:
            break
        bit = 1 << other
        for token, share in further.shares:
            shares[token] = shares.get(token, 0.0) + left * share
            proposers[token] = proposers.get(token, 0) | bit
        left *= further.left
    return Expected(shares, proposers, (number, known.evidence), after)

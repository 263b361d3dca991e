"""What several sources together expect after a context.

The sources are asked in a fixed order. Each divides the probability that those before it left over: the interpolation
of prediction by partial matching (Cleary and Witten 1984), with the target's own successors as the shortest contexts.
So a token that several sources expect is likelier than one that a single source expects, by the sum of their shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from outrider.drafters.lookup.source import Context, Source

LEAST_LEFT = 1e-3  # where less probability is left, no further source is asked


@dataclass(slots=True)
class Expected:
    """What may follow a context.

    Attributes:
        shares: by token.
        proposers: by token, a bit for each source that expects it.
        evidence: of the first source that knows the context, as `number of the source, its own word for it`.
        cursors: for each source that was asked, where it stands after a token.
    """

    shares: dict[int, float]
    proposers: dict[int, int]
    evidence: tuple[int, int]
    cursors: list[Any]

    def after(self, token: int, sources: int) -> list[Any]:
        """Where each source stands after one of the tokens; None where it does not know."""
        cursors = [known.get(token) for known in self.cursors]
        return cursors + [None] * (sources - len(cursors))


NOWHERE: dict[int, Any] = {}


def expected(sources: Sequence[Source], cursors: Sequence[Any], context: Context) -> Expected:
    """What the sources expect after a context, all together."""
    shares: dict[int, float] = {}
    proposers: dict[int, int] = {}
    evidence: tuple[int, int] | None = None
    after: list[Any] = []
    left = 1.0
    for number, source in enumerate(sources):
        known = source.foresee(cursors[number], context)
        if known is None:
            after.append(NOWHERE)
            continue
        if evidence is None:
            evidence = number, known.evidence
        bit = 1 << number
        for token, share in known.shares:
            shares[token] = shares.get(token, 0.0) + left * share
            proposers[token] = proposers.get(token, 0) | bit
        after.append(known.cursors)
        left *= known.left
        if left < LEAST_LEFT:
            break
    return Expected(shares, proposers, evidence or (len(sources), 0), after)

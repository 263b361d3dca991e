"""Which contexts to keep where there is room for a few only."""

from __future__ import annotations

from collections.abc import Mapping

from outrider.drafters.recycling.memory import last_of
from outrider.drafters.recycling.successors import Known


def worth(known: Known, shorter: Known | None) -> float:
    """The value of a context of two tokens: how often it occurred, times the probability that it predicts and the last
    token alone does not.
    """
    alone = dict(shorter.successors) if shorter is not None else {}
    return known.times * sum(max(share - alone.get(token, 0.0), 0.0) for token, share in known.successors)


def most_useful(pairs: Mapping[int, Known], single: Mapping[int, Known], most: int) -> dict[int, Known]:
    """At most `most` of the contexts of two tokens: those of the largest `worth`."""
    if len(pairs) <= most:
        return dict(pairs)
    ranked = sorted(pairs, key=lambda key: -worth(pairs[key], single.get(last_of(key))))
    return {key: pairs[key] for key in ranked[:most]}

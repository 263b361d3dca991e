"""The tokens after a match, with their estimated probabilities."""

from __future__ import annotations

from typing import NamedTuple

from outrider.drafters.suffix.automaton import Cursor, SuffixAutomaton

# The pseudo-count of tokens never seen behind a match of length 1 (additive smoothing): of N occurrences, n of them
# followed by the same token, that token comes again with probability n / (N + NOVELTY / length). Measured on greedy
# answers of SmolLM2 to questions of Spec-Bench, a single earlier occurrence of 1, 2, 4 or 8 matching tokens is right in
# 31, 52, 74 and 80 per cent of cases, which is about 2. But drafts come from the matches that look best, and these look
# better than they are (the winner's curse): with 3, fewer texts lose by drafting.
NOVELTY = 3.0
MOST_CHILDREN = 4


class Foreseen(NamedTuple):
    """The likeliest tokens after a match.

    Attributes:
        continuations: likeliest first, at most MOST_CHILDREN; each with its share, which is its estimated probability,
            and the match that is longer by this token.
        unseen: the estimated probability of all tokens that were not found after the match or its suffixes.
    """

    continuations: list[tuple[int, float, Cursor]]
    unseen: float


def foreseen(automaton: SuffixAutomaton, cursor: Cursor, *, widest: int | None = None, least: float = 0.0) -> Foreseen:
    """The likeliest tokens after a match.

    A match of length l that occurred N times, n of them followed by a token, gives that token the probability
    n / (N + NOVELTY / l). What is left is spread over the continuations of the next shorter match in the same way, and
    so on, as prediction by partial matching does (Cleary and Witten 1984), until MOST_CHILDREN tokens are found.

    Args:
        widest: matches that more different tokens followed are not looked at; None looks at all. What they cost grows
            with these tokens, and what they say falls.
        least: no shorter match is looked at where less than this is left to spread.
    """
    found: dict[int, tuple[float, Cursor]] = {}
    left = 1.0
    shorter: Cursor | None = cursor
    while shorter is not None and shorter.length > 0 and len(found) < MOST_CHILDREN and left >= least:
        if widest is not None and automaton.width(shorter) > widest:
            break
        followed = [known for known in automaton.followers(shorter) if known[0] not in found]
        novelty = NOVELTY / shorter.length
        total = sum([count for _, count, _ in followed]) + novelty
        for token, count, longer in followed:
            found[token] = left * count / total, longer
        left *= novelty / total
        shorter = automaton.shorter(shorter)
    ranked = sorted(found, key=lambda token: -found[token][0])[:MOST_CHILDREN]
    return Foreseen([(token, *found[token]) for token in ranked], left)

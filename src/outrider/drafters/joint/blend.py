"""How a head and lookups are believed together, and what asking the head brings: learned from what came."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from outrider.drafters.lookup.calibration import Calibration

SURENESS = (0.95, 0.9, 0.8, 0.65, 0.5, 0.3, 0.1)  # the best share of the lookups; classes end at these
DEEPEST = 2  # levels from here on count as one
FIRST_WEIGHT = 0.5  # of the head, before anything is known
WEIGHT_PRIOR = 4.0  # pseudo-counts of it
WEIGHT_MEMORY = 0.98  # EMA decay of weights, per context
FIRST_BEST = 0.6  # the best share after asking, before anything is known
LEAST_BETTER = 0.1  # what asking adds to the best share, before anything is known; more where lookups know little
PRIOR = 4.0  # pseudo-counts of these
MEMORY = 0.98  # EMA decay of what asking brings, per question
PATIENCE = 16  # times that a question is left out before it is asked to see what it brings now
LONGEST_PATIENCE = 512
LOOKED_UP, ASKED, BOTH = range(3)  # who expects a token

Evidence = tuple[int, int]  # of the lookups: whose it is, and how good
Family = tuple[int, int, int]  # the same, and the level
Kind = tuple[int, int, int]  # whose it is, the level, and how sure the lookups are


def family_of(evidence: Evidence, level: int) -> Family:
    return *evidence, min(level, DEEPEST)


def kind_of(family: Family, surest: float) -> Kind:
    """The class of a question.

    Args:
        surest: the largest share that the lookups give.
    """
    sureness = next((number for number, least in enumerate(SURENESS) if surest >= least), len(SURENESS))
    return family[0], family[2], sureness


@dataclass(slots=True)
class _Brought:
    """What questions of one kind brought."""

    weight: float
    best: float
    better: float
    left_out: int = 0
    patience: int = PATIENCE


class Blend:
    """Interpolates the probabilities of a head with those of lookups.

    The weight of the head depends on the evidence behind the lookups, and is learned by online
    expectation-maximisation: it moves towards the share that the head has in what was expected of the token that came.
    The sums are corrected by the ratio of hits to expected hits, by level and by who expects the token, so that a token
    that both expect is likelier than either says.

    What asking the head brings is learned from its answers: the best share among the children after it was asked, and
    how much better that is than the share, as it is then known, of the child that the lookups would have taken. Kinds
    of questions that are left out are asked now and then, ever more rarely (exploration with exponential back-off).
    """

    def __init__(self) -> None:
        self.drawn = Calibration()  # of drawn children: how often they are accepted
        self._joint = Calibration()
        self._weights: dict[Evidence, tuple[float, float]] = {}  # with how many contexts they rest on
        self._brought: dict[Kind, _Brought] = {}

    def mixed(self, asked: Mapping[int, float], looked_up: Mapping[int, float], family: Family) -> dict[int, float]:
        """The shares of all tokens that either expects, before correction.

        Args:
            asked: of the head, its likeliest tokens.
            looked_up: of the lookups.
        """
        weight = self._weight(family)[0] if looked_up else 1.0
        shares = {token: (1.0 - weight) * share for token, share in looked_up.items()}
        for token, share in asked.items():
            shares[token] = shares.get(token, 0.0) + weight * share
        return shares

    def corrected(self, share: float, level: int, who: int) -> float:
        return self._joint.calibrated(share, (min(level, DEEPEST), who))

    def benefit(self, kind: Kind) -> tuple[float, float]:
        """The best share expected after asking, and how much better that is than without."""
        known = self._known(kind)
        return known.best, known.better

    def is_due(self, kind: Kind) -> bool:
        """Whether a question is asked to see what it brings; a question that is not due is left out once more."""
        known = self._known(kind)
        known.left_out += 1
        if known.left_out <= known.patience:
            return False
        known.left_out = 0
        known.patience = min(2 * known.patience, LONGEST_PATIENCE)
        return True

    def paid(self, kind: Kind) -> None:
        """A question of this kind is asked because it pays: if it ceases to, it is tried again soon."""
        self._known(kind).patience = PATIENCE

    def answered(self, kind: Kind, best: float, without: float) -> None:
        """Learn what an answer brought.

        Args:
            best: the largest share now.
            without: the share, as it is known now, of the child that the lookups would have taken.
        """
        known = self._known(kind)
        known.weight = MEMORY * known.weight + 1.0
        known.best += (best - known.best) / known.weight
        known.better += (best - without - known.better) / known.weight

    def learn(
        self,
        asked: Mapping[int, float],
        looked_up: Mapping[int, float],
        family: Family,
        shares: Mapping[int, float],
        came: int,
    ) -> None:
        """Learn from a context whose next token is known.

        Args:
            asked, looked_up: as for `mixed`.
            shares: what `mixed` made of them.
        """
        level = family[2]
        for token, share in shares.items():
            self._joint.learn({token: share}, (level, _who(token, asked, looked_up)), came)
        if not looked_up:
            return
        weight, count = self._weight(family)
        by_head, by_lookups = weight * asked.get(came, 0.0), (1.0 - weight) * looked_up.get(came, 0.0)
        if by_head + by_lookups > 0:
            count = WEIGHT_MEMORY * count + 1.0
            self._weights[family[:2]] = weight + (by_head / (by_head + by_lookups) - weight) / count, count

    def _weight(self, family: Family) -> tuple[float, float]:
        return self._weights.get(family[:2], (FIRST_WEIGHT, WEIGHT_PRIOR))

    def _known(self, kind: Kind) -> _Brought:
        known = self._brought.get(kind)
        if known is None:
            sureness = kind[2]
            surest = 1.0 if not sureness else SURENESS[sureness - 1] if sureness < len(SURENESS) else 0.0
            better = max(LEAST_BETTER, FIRST_BEST - surest)
            known = self._brought[kind] = _Brought(PRIOR, max(FIRST_BEST, surest), better)
        return known


def _who(token: int, asked: Mapping[int, float], looked_up: Mapping[int, float]) -> int:
    if token not in asked:
        return LOOKED_UP
    return BOTH if token in looked_up else ASKED

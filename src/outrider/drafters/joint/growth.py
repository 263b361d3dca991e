"""How one tree grows from lookups and a head: best first, where each question to the head has a price.

Lookups are asked at every node, as in lookup/growth.py: that costs next to nothing. The head is slow, so a question to
it waits among the candidates, with the chance of the best child that it may bring. When its turn comes, it is asked if
what it is expected to bring, in tokens, exceeds the time that it takes. Its answer is interpolated with the lookups'
probabilities of the same children, and adds others.

Where the target samples, children from the head are drawn from its distribution q without those that the node already
has. A child that was looked up may stand before or after a drawn one: siblings are tried in the order in which they
joined. Whether a node joins depends on chances that were estimated before it was drawn, and on nodes that joined
before, which stay. So q is the very distribution of each drawn token, given all that is tried before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from heapq import heappop, heappush
from typing import Any, NamedTuple

from outrider.drafters.growth import LARGEST_SHARE
from outrider.drafters.joint.blend import ASKED, BOTH, LOOKED_UP, Blend, family_of, kind_of
from outrider.drafters.joint.lessons import teach
from outrider.drafters.joint.nodes import Nodes, Place
from outrider.drafters.joint.reads import HeadReads
from outrider.drafters.joint.terms import JointTerms, StepPrices, Wish
from outrider.drafters.lookup.calibration import Calibration
from outrider.drafters.lookup.mixture import expected
from outrider.drafters.lookup.source import CONTEXT, Context, Source
from outrider.maths.arrays import Array
from outrider.maths.budget import Budget
from outrider.maths.draft import CHOSEN, ROOT

TINY = 1e-4  # a chance that no price is worth
TOLD = 0.01  # tokens to which the head gives less are not said to be its own


class _Waiting(NamedTuple):
    """A candidate, a question or a draw; the heap takes the largest chance first, of equal ones the oldest."""

    negative: float
    order: int
    node: int
    task: int
    token: int = -1
    answers: int = 0
    proposers: int = 0


CHILD, QUESTION, DRAW = range(3)


class JointTree(Nodes):
    """One tree while it grows.

    `advance` grows it until it needs the head, and says what for; `answer` or `drew` is called then.

    Args:
        sources: the lookups.
        cursors, context: as for Lookups.grow.
        calibration: of the lookups.
        blend: what is known of the head.
        prices: of questions; None where the head cannot be asked.
        draws: whether children from the head are drawn.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        cursors: Sequence[Any],
        context: Context,
        budget: Budget,
        calibration: Calibration,
        blend: Blend,
        prices: StepPrices | None,
        terms: JointTerms,
        *,
        draws: bool,
    ) -> None:
        super().__init__(budget)
        self._sources = sources
        self._calibration = calibration
        self._blend = blend
        self._reads = None if prices is None else HeadReads(self, prices)
        self._draws = draws
        self._children = terms.children
        self._least = max(budget.prices.cheapest if budget.prices.totals else terms.least, TINY)
        self._waiting: list[_Waiting] = []
        self._order = 0
        self._arrive(ROOT, Place(cursors, context, 0, 1.0))

    def advance(self) -> Wish | None:
        """Grow until the head is needed; None where the tree is complete."""
        while self._waiting and len(self.tokens) < self.budget.nodes:
            if self.budget.prices.ends(len(self.tokens), -self._waiting[0].negative):
                return None
            next_one = heappop(self._waiting)
            place = self.places[next_one.node]
            if next_one.task == QUESTION:
                assert self._reads is not None
                if self._pays_to_ask(self._reads, next_one.node, place):
                    self._reads.note(next_one.node)
                    return Wish(next_one.node, draws=False)
            elif next_one.task == DRAW:
                if self._pays_to_draw(next_one, place):
                    return Wish(next_one.node, draws=True)
            elif next_one.answers == place.answers and next_one.token not in place.children:
                self._join(next_one.node, next_one.token, -next_one.negative, next_one.proposers, CHOSEN)
        return None

    def answer(self, node: int, tokens: Sequence[int], shares: Sequence[float]) -> None:
        """What the head expects after a node.

        Args:
            tokens: its likeliest ones.
            shares: their probabilities, falling.
        """
        place = self.places[node]
        place.asked = dict(zip(tokens, shares, strict=False))
        place.ranks = list(shares)
        place.answers += 1
        place.shares = self._blend.mixed(place.asked, place.looked_up, place.family)
        corrected = {token: self._corrected(place, token) for token in place.shares}
        surest = max(place.looked_up, key=place.looked_up.__getitem__, default=None)
        best = max(corrected.values(), default=0.0)
        if self._draws:
            drawn = self._share_of_a_draw(place)
            best = max([corrected[token] for token in place.looked_up] + [drawn])
            self._wait(DRAW, node, place.chance * drawn)
            corrected = {token: corrected[token] for token in place.looked_up}
        self._blend.answered(place.kind, best, 0.0 if surest is None else corrected[surest])
        self._offer(node, place, corrected)

    def drew(self, node: int, token: int, q: Array) -> None:
        """The child that was drawn.

        Args:
            q: [vocab], what it was drawn from.
        """
        place = self.places[node]
        self.q.append(q)
        chance = place.chance * self._share_of_a_draw(place)
        self._join(node, token, chance, 1 << len(self._sources), len(self.q) - 1)
        if self._children > 1:
            self._wait(DRAW, node, place.chance * self._share_of_a_draw(place))

    def teach(self, path: Sequence[int], came: Sequence[int]) -> None:
        """Learn from a verdict: see `lessons.teach`."""
        teach(self, self._calibration, self._blend, path, came)

    def _arrive(self, node: int, place: Place) -> None:
        """A node has joined: what follows it."""
        self.places[node] = place
        if place.depth >= self.budget.depth or len(self.tokens) >= self.budget.nodes:
            return
        known = place.expected = expected(self._sources, place.cursors, place.context)
        calibrated = self._calibration.calibrated
        place.looked_up = {token: calibrated(share, known.evidence) for token, share in known.shares.items()}
        surest = max(place.looked_up.values(), default=0.0)
        place.family = family_of(known.evidence, place.depth)
        place.kind = kind_of(place.family, surest)
        if self._reads is not None:
            best, _ = self._blend.benefit(place.kind)
            self._wait(QUESTION, node, place.chance * max(best, surest))
        self._offer(node, place, place.looked_up)

    def _offer(self, node: int, place: Place, shares: Mapping[int, float]) -> None:
        """The likeliest children wait to join."""
        head = 1 << len(self._sources)
        ranked = sorted(shares.items(), key=_share)[: -self._children - 1 : -1]
        for token, share in ranked:
            bits = 0 if place.expected is None else place.expected.proposers.get(token, 0)
            if place.asked is not None and (place.asked.get(token, 0.0) >= TOLD or not bits):
                bits |= head
            self._wait(CHILD, node, place.chance * share, token, place.answers, bits)

    def _wait(self, task: int, node: int, chance: float, token: int = -1, answers: int = 0, proposers: int = 0) -> None:
        if chance >= self._least:
            self._order += 1
            heappush(self._waiting, _Waiting(-chance, self._order, node, task, token, answers, proposers))

    def _join(self, parent: int, token: int, chance: float, proposers: int, q_row: int) -> None:
        node = self.join(parent, token, chance, proposers, q_row)
        if self._children == 1:
            self._waiting.clear()
        above = self.places[parent]
        assert above.expected is not None
        context = (*above.context, token)[-CONTEXT:]
        self._arrive(node, Place(above.expected.after(token), context, above.depth + 1, chance))

    def _pays_to_ask(self, reads: HeadReads, node: int, place: Place) -> bool:
        if not reads.fits(node):
            return False
        if not self.budget.prices.totals:
            return True
        best, better = self._blend.benefit(place.kind)
        net = place.chance * best - self.budget.prices.next(len(self.tokens))
        if min(place.chance * better, net) > reads.price(node):
            self._blend.paid(place.kind)
            return True
        return net > 0 and reads.missing(node) <= 1 and self._blend.is_due(place.kind)

    def _pays_to_draw(self, waiting: _Waiting, place: Place) -> bool:
        """Whether to draw now; where siblings joined meanwhile, the draw waits for its turn."""
        chance = place.chance * self._share_of_a_draw(place)
        if chance < -waiting.negative:
            self._wait(DRAW, waiting.node, chance)
            return False
        return self.budget.prices.pays(len(self.tokens), chance)

    def _share_of_a_draw(self, place: Place) -> float:
        """The chance of the next drawn child to be accepted if the node is: estimated before it is drawn."""
        rank = len(place.children)
        if rank >= min(len(place.ranks), self._children):
            return 0.0
        share = self._blend.drawn.calibrated(place.ranks[rank], (place.family[2], min(rank, 1)))
        return min(share, LARGEST_SHARE)

    def _corrected(self, place: Place, token: int) -> float:
        assert place.asked is not None
        who = LOOKED_UP if token not in place.asked else BOTH if token in place.looked_up else ASKED
        return min(self._blend.corrected(place.shares[token], place.family[2], who), LARGEST_SHARE)


def _share(pair: tuple[int, float]) -> float:
    return pair[1]

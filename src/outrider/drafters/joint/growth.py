"""How one tree grows from lookups and a head: best first, and the head is a question that has a price.

Lookups are asked at every node, as in lookup/growth.py: that costs next to nothing. The head is slow, so a question to
it waits among the candidates, with the chance of the best child that it may bring. When its turn comes, it is asked if
what it is expected to bring, in tokens, exceeds the time that it takes. Its answer then changes what the lookups said
of the same children, and adds others.

Where the target samples, children from the head are drawn from its distribution q without those that the node already
has. A child that was looked up may stand before or after a drawn one: siblings are tried in the order in which they
joined. Whether a node joins depends on chances that were estimated before it was drawn, and on nodes that joined
before, which stay. So q is the very distribution of each drawn token, given all that is tried before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any, NamedTuple

from outrider.drafters.growth import LARGEST_SHARE
from outrider.drafters.joint.blend import ASKED, BOTH, LOOKED_UP, Blend, Family, Kind, family_of, kind_of
from outrider.drafters.lookup.calibration import Calibration
from outrider.drafters.lookup.growth import Terms
from outrider.drafters.lookup.mixture import Expected, expected
from outrider.drafters.lookup.source import CONTEXT, Context, Source
from outrider.maths.arrays import Array, stack
from outrider.maths.budget import Budget
from outrider.maths.draft import CHOSEN, EMPTY, ROOT, Draft

TINY = 1e-4  # a chance that no price is worth
MOST_READ = 32  # nodes that the head reads in one round
TOLD = 0.01  # tokens to which the head gives less are not said to be its own


class Wish(NamedTuple):
    """What a tree needs to grow on.

    Attributes:
        node: whose children the head is asked for.
        draws: whether one child is to be drawn, from what the head answered before.
    """

    node: int
    draws: bool


class StepPrices(NamedTuple):
    """What questions cost, in tokens.

    Attributes:
        first: the first one, about the text itself.
        further: each node that the head reads.
    """

    first: float = 0.0
    further: float = 0.0


class JointTerms(NamedTuple):
    """What all trees of a drafter have in common.

    Attributes:
        children: the most that a node may have; 1 grows chains.
        least: nodes with a smaller chance stay out where nothing has a price.
    """

    children: int
    least: float


@dataclass(slots=True)
class _Place:
    """The text, or a node: what is known of what follows it.

    Attributes:
        chance: of the node.
        looked_up: calibrated shares of the lookups.
        asked: what the head answered; None where it was not asked.
        shares: of both together, before correction.
        read: whether the head has read the node.
        answers: how often children were ranked; what waits from an earlier ranking is out of date.
        children: the tokens that joined, in their order.
        ranks: what the head gives to its likeliest tokens, falling.
    """

    cursors: Sequence[Any]
    context: Context
    depth: int
    chance: float
    expected: Expected | None = None
    family: Family = (0, 0, 0)
    kind: Kind = (0, 0, 0)
    looked_up: dict[int, float] = field(default_factory=dict)
    asked: Mapping[int, float] | None = None
    shares: dict[int, float] = field(default_factory=dict)
    read: bool = False
    answers: int = 0
    children: list[int] = field(default_factory=list)
    ranks: list[float] = field(default_factory=list)


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


class JointTree:
    """One tree while it grows.

    `advance` grows it until it needs the head, and says what for; `answer` or `drew` is called then.

    Args:
        sources: the lookups.
        cursors, context: as for Lookups.grow.
        calibration: of the lookups.
        blend: what is known of the head.
        prices: of questions; None where the head cannot be asked.
        draws: whether children from the head are drawn.

    Attributes:
        tokens, parents, chances, proposers: of its nodes, in the order in which they joined.
        q_rows: of its nodes.
        q: the distributions from which nodes were drawn.
        questions: that were asked.
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
        self.tokens: list[int] = []
        self.parents: list[int] = []
        self.chances: list[float] = []
        self.proposers: list[int] = []
        self.q_rows: list[int] = []
        self.q: list[Array] = []
        self.questions = 0
        self._read = 0
        self._sources = sources
        self._budget = budget
        self._calibration = calibration
        self._blend = blend
        self._prices = prices
        self._draws = draws
        self._children = terms.children
        self._least = max(budget.prices.cheapest if budget.prices.totals else terms.least, TINY)
        self._waiting: list[_Waiting] = []
        self._order = 0
        self._places: dict[int, _Place] = {}
        self._arrive(ROOT, _Place(cursors, context, 0, 1.0))

    def advance(self) -> Wish | None:
        """Grow until the head is needed; None where the tree is complete."""
        while self._waiting and len(self.tokens) < self._budget.nodes:
            if self._budget.prices.ends(len(self.tokens), -self._waiting[0].negative):
                return None
            next_one = heappop(self._waiting)
            place = self._places[next_one.node]
            if next_one.task == QUESTION:
                if self._pays_to_ask(next_one.node, place):
                    self._note_question(next_one.node)
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
        place = self._places[node]
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
        place = self._places[node]
        self.q.append(q)
        chance = place.chance * self._share_of_a_draw(place)
        self._join(node, token, chance, 1 << len(self._sources), len(self.q) - 1)
        if self._children > 1:
            self._wait(DRAW, node, place.chance * self._share_of_a_draw(place))

    def __len__(self) -> int:
        return len(self.tokens)

    def token(self, node: int) -> int:
        return self.tokens[node]

    def parent(self, node: int) -> int:
        return self.parents[node]

    def children_of(self, node: int) -> list[int]:
        """The tokens that joined below a node."""
        return self._places[node].children

    def depth(self, node: int) -> int:
        return self._places[node].depth

    def path(self, node: int) -> list[int]:
        """The tokens from the root's child to `node`."""
        tokens = []
        while node != ROOT:
            tokens.append(self.tokens[node])
            node = self.parents[node]
        return tokens[::-1]

    def draft(self, terms: Terms) -> Draft:
        """The tree, as far as it is worth its price. What was drawn stays."""
        drawn = max((node + 1 for node, row in enumerate(self.q_rows) if row != CHOSEN), default=0)
        count = drawn + self._budget.prices.beyond(drawn).worthwhile(self.chances[drawn:])
        if not count:
            return EMPTY.knowing(terms.experience)
        return Draft(
            tuple(self.tokens[:count]),
            tuple(self.parents[:count]),
            stack(self.q) if self.q else None,
            tuple(self.q_rows[:count]) if self.q else None,
            source=terms.source,
            sources=tuple([terms.names[bits] for bits in self.proposers[:count]]),
            chances=tuple(self.chances[:count]),
            experience=terms.experience,
        )

    def teach(self, path: Sequence[int], came: Sequence[int]) -> None:
        """Learn from a verdict.

        Args:
            path: the accepted nodes.
            came: what came after the root and after each of these, as far as it is known.
        """
        for node, token in zip((ROOT, *path), came, strict=False):
            place = self._places.get(node)
            if place is None or place.expected is None:
                return
            self._calibration.learn(place.expected.shares, place.expected.evidence, token)
            if place.asked is not None:
                self._blend.learn(place.asked, place.looked_up, place.family, place.shares, token)
        self._learn_drawn(set(path))

    def _learn_drawn(self, path: set[int]) -> None:
        reached = {ROOT, *path}
        ranks: dict[int, int] = {}
        for node, (parent, row) in enumerate(zip(self.parents, self.q_rows, strict=True)):
            rank = ranks[parent] = ranks.get(parent, -1) + 1
            if row != CHOSEN and parent in reached:
                place = self._places[parent]
                if rank < len(place.ranks):
                    hit = int(node in path)
                    self._blend.drawn.learn({1: place.ranks[rank]}, (place.family[2], min(rank, 1)), hit)

    def _arrive(self, node: int, place: _Place) -> None:
        """A node has joined: what follows it."""
        self._places[node] = place
        if place.depth >= self._budget.depth or len(self.tokens) >= self._budget.nodes:
            return
        known = place.expected = expected(self._sources, place.cursors, place.context)
        calibrated = self._calibration.calibrated
        place.looked_up = {token: calibrated(share, known.evidence) for token, share in known.shares.items()}
        surest = max(place.looked_up.values(), default=0.0)
        place.family = family_of(known.evidence, place.depth)
        place.kind = kind_of(place.family, surest)
        if self._prices is not None:
            best, _ = self._blend.benefit(place.kind)
            self._wait(QUESTION, node, place.chance * max(best, surest))
        self._offer(node, place, place.looked_up)

    def _offer(self, node: int, place: _Place, shares: Mapping[int, float]) -> None:
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
        above = self._places[parent]
        node = len(self.tokens)
        self.tokens.append(token)
        self.parents.append(parent)
        self.chances.append(chance)
        self.proposers.append(proposers)
        self.q_rows.append(q_row)
        above.children.append(token)
        if self._children == 1:
            self._waiting.clear()
        assert above.expected is not None
        context = (*above.context, token)[-CONTEXT:]
        self._arrive(node, _Place(above.expected.after(token), context, above.depth + 1, chance))

    def _pays_to_ask(self, node: int, place: _Place) -> bool:
        assert self._prices is not None
        if self._read + self._unread(node) > MOST_READ:
            return False
        if not self._budget.prices.totals:
            return True
        best, better = self._blend.benefit(place.kind)
        net = place.chance * best - self._budget.prices.next(len(self.tokens))
        if min(place.chance * better, net) > self._price_of(node):
            self._blend.paid(place.kind)
            return True
        return net > 0 and self._unread(node) <= 1 and self._blend.is_due(place.kind)

    def _note_question(self, node: int) -> None:
        self.questions += 1
        self._read += self._unread(node)
        while node != ROOT and not self._places[node].read:
            self._places[node].read = True
            node = self.parents[node]
        self._places[ROOT].read = True  # the text itself comes first

    def _price_of(self, node: int) -> float:
        """Of a question: nodes above that the head has not read are read first."""
        assert self._prices is not None
        first = 0.0 if self._places[ROOT].read else self._prices.first
        return first + self._prices.further * self._unread(node)

    def _unread(self, node: int) -> int:
        """How many nodes the head has to read before it can be asked about this one."""
        count = 0
        while node != ROOT and not self._places[node].read:
            count += 1
            node = self.parents[node]
        return count

    def _pays_to_draw(self, waiting: _Waiting, place: _Place) -> bool:
        """Whether to draw now; where siblings joined meanwhile, the draw waits for its turn."""
        chance = place.chance * self._share_of_a_draw(place)
        if chance < -waiting.negative:
            self._wait(DRAW, waiting.node, chance)
            return False
        return self._budget.prices.pays(len(self.tokens), chance)

    def _share_of_a_draw(self, place: _Place) -> float:
        """The chance of the next drawn child to be accepted if the node is: estimated before it is drawn."""
        rank = len(place.children)
        if rank >= min(len(place.ranks), self._children):
            return 0.0
        share = self._blend.drawn.calibrated(place.ranks[rank], (place.family[2], min(rank, 1)))
        return min(share, LARGEST_SHARE)

    def _corrected(self, place: _Place, token: int) -> float:
        assert place.asked is not None
        who = LOOKED_UP if token not in place.asked else BOTH if token in place.looked_up else ASKED
        return min(self._blend.corrected(place.shares[token], place.family[2], who), LARGEST_SHARE)


def _share(pair: tuple[int, float]) -> float:
    return pair[1]

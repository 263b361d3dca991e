"""The drafter that reads the target's hidden states with a trained head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate

from outrider.drafters.base import DraftedSequence, Drafter, Reading
from outrider.drafters.grown import open_all, plan_of
from outrider.drafters.growth import Growth
from outrider.drafters.heads.expectations import Expectations
from outrider.drafters.heads.learner import Learner
from outrider.drafters.heads.network import Chains, GrowsOut, HeadNetwork, RollsOut
from outrider.drafters.heads.texts import HeadTexts
from outrider.drafters.heads.vocabulary import DraftVocabulary
from outrider.drafters.tree_shapes import DynamicTree, StaticTree, TreeShape
from outrider.maths.arrays import Array, HostFloats, HostFloats32, HostInts, concatenate, race_order, top
from outrider.maths.budget import Budget
from outrider.maths.draft import CHOSEN, EMPTY, ROOT, Draft, Verdict
from outrider.maths.noise import Key, exponential
from outrider.maths.sampling import UNCHANGED, adjust, distribution, live_rows
from outrider.runtimes.base import Features
from outrider.runtimes.growing import TreePlan, TreeRow

DEEPEST_CHAIN = 16
SHAPE = DynamicTree(most_children=4, depth=6, beam=4)
TINY = 1e-3  # a chance that no price is worth


@dataclass(slots=True, eq=False)
class _Tree:
    """A tree while it grows.

    Attributes:
        asked: the nodes whose children come next; ROOT for the text itself.
        level: their depth; 0 is that of ROOT.
        states: [asked, hidden size], what the head made of the way to each of them.
        cached: of each node that was fed, its number among the tentative entries of the row.
    """

    sequence: DraftedSequence
    row: int
    growth: Growth
    states: Array
    asked: list[int] = field(default_factory=lambda: [ROOT])
    level: int = 0
    cached: dict[int, int] = field(default_factory=dict)


class HeadDrafter(Drafter):
    """Drafts with an EAGLE-3 head (arXiv 2503.01840), by the same sampling settings as the target's.

    q is zero for tokens that the head cannot draft. Trees grow best node first; where the target samples, children are
    drawn without replacement. Each node states its chance, and drafting ends where prices say that it does not pay.

    Args:
        network: the head with its weights, as a runtime computes it.
        shape: of the trees; None is DynamicTree, narrow where the head is sure.
        trees: False proposes chains, which rule `block` can judge.
        greedy: always take the most probable tokens, each with a one-hot q, even where the target samples.
        name: what its tokens are attributed to.
        deepest: the longest chain.
        learner: teaches the head while no text is open, from texts that have ended.

    Attributes:
        texts: what it knows of the texts that it follows.
        draws: whether it draws where the target samples.
    """

    estimates = True

    def __init__(
        self,
        network: HeadNetwork,
        *,
        shape: TreeShape | None = None,
        trees: bool = True,
        greedy: bool = False,
        name: str = "head",
        deepest: int = DEEPEST_CHAIN,
        learner: Learner | None = None,
    ) -> None:
        self.name = name
        self.trees = trees
        self.wants = Features(hidden=network.layers)
        self.shape = (SHAPE if shape is None else shape) if trees else StaticTree((1,) * deepest)
        self.draws = not greedy
        self.texts = HeadTexts(network)
        self._vocabulary: DraftVocabulary | None = None
        self._expectations = Expectations()
        self._learner = learner

    @property
    def network(self) -> HeadNetwork:
        """The head that drafts."""
        return self.texts.network

    @property
    def experience(self) -> tuple[int, ...]:
        """Hashes of what the head learned from other texts (`Draft.experience`)."""
        return () if self._learner is None else self._learner.experience

    def __repr__(self) -> str:
        return f"{type(self).__name__}(layers {self.network.layers}, {len(self.network.ids)} tokens)"

    @property
    def bytes_per_token(self) -> int:  # type: ignore[override]
        return self.network.bytes_per_entry

    def prepare(self, rows: int, capacity: int, vocab_size: int) -> None:
        branches = self.shape.beam * (self.shape.depth - 1)
        self.texts.open(rows, capacity + branches)
        self._vocabulary = DraftVocabulary(self.network.ids, vocab_size)

    def read(self, sequences: Sequence[DraftedSequence], readings: Sequence[Reading]) -> None:
        self.texts.read(sequences, readings)

    def propose(self, sequences: Sequence[DraftedSequence], budgets: Sequence[Budget]) -> list[Draft]:
        able = [
            (sequence, budget)
            for sequence, budget in zip(sequences, budgets, strict=True)
            if budget.longest > 0 and self.texts.is_ready(sequence)
        ]
        newest = self.texts.catch_up([sequence for sequence, _ in able]) if able else []
        trees = {
            sequence.id: self._begin(sequence, budget, state)
            for (sequence, budget), state in zip(able, newest, strict=True)
        }
        active = list(trees.values())
        q_of: dict[int, Array] = {}
        if active and self._rolls_out(active):
            q_of = self._roll_out(active)
            active = []
        elif active and (plan := self._plan(active)) is not None:
            q_of = self._grow_out(active, plan)
            active = []
        while active:
            self._open_level(active)
            active = self._feed_level(active)
        drafts = [
            trees[sequence.id].growth.draft(self.name, q_of.get(sequence.id)) if sequence.id in trees else EMPTY
            for sequence in sequences
        ]
        return [draft.knowing(self.experience) for draft in drafts]

    def observe(self, sequence: DraftedSequence, draft: Draft, verdict: Verdict) -> None:
        self._expectations.learn(sequence.id, sequence.tokens)

    def forget(self, sequence: DraftedSequence) -> None:
        self.texts.forget(sequence)
        self._expectations.forget(sequence.id)
        written = len(sequence.history.tokens)
        if self._learner is not None and written:
            self._learner.remember(sequence.tokens, len(sequence.tokens) - written)

    def rest(self) -> bool:
        if self._learner is None:
            return False
        more = self._learner.step()
        network = self._learner.take()
        if network is not None:
            self.texts.exchange(network)
        return more

    # Trees

    def _begin(self, sequence: DraftedSequence, budget: Budget, state: Array) -> _Tree:
        self._expectations.begin(sequence.id, len(sequence.tokens))
        depth = min(budget.depth, self.shape.depth)
        nodes = budget.nodes if self.trees else budget.longest
        least = max(budget.prices.cheapest, TINY) if budget.prices.totals else 0.0
        growth = Growth(Budget(nodes, depth, budget.prices), beam=self.shape.beam, least=least)
        return _Tree(sequence, self.texts.row_of(sequence), growth, state)

    def _open_level(self, trees: Sequence[_Tree]) -> None:
        """The children of all nodes that were asked about."""
        made = concatenate([tree.states for tree in trees])
        samplings = [tree.sequence.sampling for tree in trees]
        ends = list(accumulate(len(tree.asked) for tree in trees))
        if all(sampling.greedy and not sampling.adjusts_logits for sampling in samplings):
            # Nobody needs whole distributions: the most probable tokens are found where the logits are made.
            places, probabilities = self.network.likely(made, max(self.shape.width(tree.level) for tree in trees))
            for tree, end in zip(trees, ends, strict=True):
                own = slice(end - len(tree.asked), end)
                self._open_children(tree, probabilities[own], places[own])
            return
        logits = self.network.logits(made)
        for tree, end in zip(trees, ends, strict=True):
            self._open(tree, logits[end - len(tree.asked) : end])

    def _open(self, tree: _Tree, logits: Array) -> None:
        """The same for one text; logits [asked, draft vocabulary]."""
        sequence, vocabulary = tree.sequence, self._known_vocabulary()
        sampling = sequence.sampling
        paths = [tree.growth.path(node) for node in tree.asked]
        if sampling.adjusts_logits:
            # Penalties and grammars speak of the target's tokens.
            wide = adjust(vocabulary.widened(logits), sampling, sequence.history, paths)
            logits = vocabulary.narrowed(wide)
            live = live_rows(logits)
            if not live:
                tree.asked = []
                return
            if len(live) < len(tree.asked):
                tree.asked = [tree.asked[row] for row in live]
                logits, tree.states, paths = logits[live], tree.states[live], [paths[row] for row in live]
        q = distribution(logits, UNCHANGED if sampling.greedy else sampling)
        probabilities, places = top(q, self.shape.width(tree.level))
        self._open_children(tree, probabilities, places, None if sampling.greedy or not self.draws else q)

    def _open_children(
        self, tree: _Tree, probabilities: HostFloats | HostFloats32, places: HostInts, q: Array | None = None
    ) -> None:
        """The children of the nodes of a level, chosen, or drawn from q [asked, draft vocabulary].

        Args:
            probabilities, places: [asked, children], falling.
        """
        vocabulary, level = self._known_vocabulary(), tree.level
        width = self.shape.width(level)
        for index, node in enumerate(tree.asked):
            possible = [share for share in probabilities[index].tolist()[:width] if share > 0]
            likely = vocabulary.in_target(places[index, : len(possible)])
            if q is None:
                tokens, row = likely, None
            else:
                row = vocabulary.spread(q[index])
                tokens = self._draw_children(tree.sequence, row, level, node, len(possible))
            tree.growth.open(node, tokens, self._shares(tree, level, node, tokens, possible, row is None), row)

    def _shares(
        self, tree: _Tree, level: int, node: int, tokens: Sequence[int], probabilities: Sequence[float], chosen: bool
    ) -> list[float]:
        """The chances of the children of one node; what is expected of them is remembered.

        Args:
            probabilities: the largest of q, or of what they were chosen by.
            chosen: whether they were chosen, not drawn.
        """
        estimates = list(self.shape.shares(probabilities))
        self._expectations.note(tree.sequence.id, tree.growth.path(node), tokens, estimates, chosen)
        return self._expectations.corrected(estimates, level, chosen)

    def _draw_children(self, sequence: DraftedSequence, q: Array, depth: int, node: int, count: int) -> list[int]:
        """`count` draws from q [vocabulary] without replacement, in their order."""
        return race_order(q, exponential([self._key(sequence, depth, node)], q.shape[-1], q)[0], count)

    def _key(self, sequence: DraftedSequence, depth: int, node: int) -> Key:
        """For drawing the children of a node."""
        return sequence.noise.knowing(self.experience).draft(len(sequence.tokens) + depth, branch=node + 1)

    def _plan(self, trees: Sequence[_Tree]) -> TreePlan | None:
        """How these trees grow where the head computes; None where they cannot."""
        entries, samplings = self.texts.entries, [tree.sequence.sampling for tree in trees]
        if not self.trees or not isinstance(entries, GrowsOut) or any(each.adjusts_logits for each in samplings):
            return None
        rows = []
        for tree, sampling in zip(trees, samplings, strict=True):
            chosen, growth = not self.draws or sampling.greedy, tree.growth
            keys = tree.sequence.noise.knowing(self.experience).tree(len(tree.sequence.tokens))
            own = UNCHANGED if sampling.greedy else sampling
            steps = () if chosen else growth.steps
            rows.append(TreeRow(own, chosen, keys, growth.most, growth.longest, growth.least, steps))
        plan = plan_of(self.shape, rows, self._expectations.factors())
        return plan if plan is not None and entries.can_grow(plan, self._known_vocabulary().size) else None

    def _grow_out(self, trees: Sequence[_Tree], plan: TreePlan) -> dict[int, Array]:
        """All levels of all trees; the distributions of those that were drawn."""
        entries = self.texts.entries
        assert isinstance(entries, GrowsOut)
        made = concatenate([tree.states for tree in trees])
        grown = entries.grow_trees([tree.row for tree in trees], made, plan, self._known_vocabulary().size)
        openings = [partial(partial, self._open_grown, tree) for tree in trees]
        return open_all(grown, plan, [tree.sequence.id for tree in trees], openings)

    def _open_grown(
        self, tree: _Tree, chosen: bool, node: int, tokens: list[int], possible: list[float], place: int
    ) -> range:
        level = 0 if place == 0 else 1 + (place - 1) // self.shape.beam
        shares = self._shares(tree, level, node, tokens, possible, chosen)
        return tree.growth.open_from(node, tokens, shares, CHOSEN if chosen else place)

    def _rolls_out(self, trees: Sequence[_Tree]) -> bool:
        """Whether the chains of these texts are rolled out where the head computes."""
        adjusted = any(tree.sequence.sampling.adjusts_logits for tree in trees)
        return not self.trees and not adjusted and isinstance(self.texts.entries, RollsOut)

    def _roll_out(self, trees: Sequence[_Tree]) -> dict[int, Array]:
        """All tokens of all chains; the distributions of those that were drawn.

        Where a chain ends depends on what was known before its next token was drawn.
        """
        states, count = self.texts.entries, max(tree.growth.longest for tree in trees)
        assert isinstance(states, RollsOut)
        samplings = [tree.sequence.sampling for tree in trees]
        chains = Chains(
            [UNCHANGED if sampling.greedy else sampling for sampling in samplings],
            [not self.draws or sampling.greedy for sampling in samplings],
            [[self._key(tree.sequence, level, level - 1) for level in range(count)] for tree in trees],
            self._known_vocabulary().size,
        )
        rolled = states.roll_out([tree.row for tree in trees], concatenate([tree.states for tree in trees]), chains)
        for index, (tree, chosen) in enumerate(zip(trees, chains.chosen, strict=True)):
            for step, token in enumerate(rolled.tokens[index]):
                node, largest = tree.asked[0], [rolled.largest[index][step]]
                shares = self._shares(tree, tree.level, node, [token], largest, chosen)
                tree.growth.open_from(node, [token], shares, CHOSEN if chosen else step)
                tree.asked = tree.growth.next_level()
                tree.level += 1
                if not tree.asked:
                    break
        drawn = enumerate(zip(trees, chains.chosen, strict=True))
        return {tree.sequence.id: rolled.q[:, index] for index, (tree, chosen) in drawn if not chosen}

    def _feed_level(self, trees: Sequence[_Tree]) -> list[_Tree]:
        """Read the newest nodes that may have children, in one pass; the trees that go on."""
        going: list[_Tree] = []
        parents: list[list[int]] = []
        origins: list[Array] = []
        for tree in trees:
            above = {node: place for place, node in enumerate(tree.asked)}
            nodes = tree.growth.next_level() if tree.asked else []
            if not nodes:
                continue
            came_from = [tree.growth.node(node)[1] for node in nodes]
            parents.append([tree.cached.get(node, -1) for node in came_from])
            origins.append(self.network.passed_on(tree.states[[above[node] for node in came_from]]))
            for node in nodes:
                tree.cached[node] = len(tree.cached)
            tree.asked = nodes
            tree.level += 1
            going.append(tree)
        if going:
            tokens = [[tree.growth.node(node)[0] for node in tree.asked] for tree in going]
            made = self.texts.entries.extend([tree.row for tree in going], concatenate(origins), tokens, parents)
            first = 0
            for tree in going:
                tree.states = made[first : first + len(tree.asked)]
                first += len(tree.asked)
        return going

    def _known_vocabulary(self) -> DraftVocabulary:
        assert self._vocabulary is not None, "prepare() comes before propose()"
        return self._vocabulary

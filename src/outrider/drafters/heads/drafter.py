"""The drafter that reads the target's hidden states with a trained head."""

from __future__ import annotations

from collections.abc import Sequence

from outrider.drafters.base import DraftedSequence, Drafter, Reading
from outrider.drafters.heads.expectations import Expectations
from outrider.drafters.heads.growing import HeadGrower
from outrider.drafters.heads.learner import Learner
from outrider.drafters.heads.network import HeadNetwork
from outrider.drafters.heads.texts import HeadTexts
from outrider.drafters.heads.vocabulary import DraftVocabulary
from outrider.drafters.tree_shapes import DynamicTree, StaticTree, TreeShape
from outrider.maths.budget import Budget
from outrider.maths.draft import EMPTY, Draft, Verdict
from outrider.runtimes.base import Features

DEEPEST_CHAIN = 16
SHAPE = DynamicTree(most_children=4, depth=6, beam=4)


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
        self._grower: HeadGrower | None = None
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
        self._grower = HeadGrower(
            self.texts,
            self.shape,
            trees=self.trees,
            draws=self.draws,
            vocabulary=DraftVocabulary(self.network.ids, vocab_size),
            expectations=self._expectations,
        )

    def read(self, sequences: Sequence[DraftedSequence], readings: Sequence[Reading]) -> None:
        self.texts.read(sequences, readings)

    def propose(self, sequences: Sequence[DraftedSequence], budgets: Sequence[Budget]) -> list[Draft]:
        grower, experience = self._grower, self.experience
        assert grower is not None, "prepare() comes before propose()"
        able = [
            (sequence, budget)
            for sequence, budget in zip(sequences, budgets, strict=True)
            if budget.longest > 0 and self.texts.is_ready(sequence)
        ]
        newest = self.texts.catch_up([sequence for sequence, _ in able]) if able else []
        trees = {
            sequence.id: grower.begin(sequence, budget, sequence.noise.knowing(experience), state)
            for (sequence, budget), state in zip(able, newest, strict=True)
        }
        q_of = grower.grow(list(trees.values()))
        drafts = [
            trees[sequence.id].growth.draft(self.name, q_of.get(sequence.id)) if sequence.id in trees else EMPTY
            for sequence in sequences
        ]
        return [draft.knowing(experience) for draft in drafts]

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

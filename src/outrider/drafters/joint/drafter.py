"""The drafter that grows one tree from lookups and a draft head."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from outrider.drafters.base import DraftedSequence, Drafter, Reading
from outrider.drafters.heads.drafter import HeadDrafter
from outrider.drafters.heads.vocabulary import DraftVocabulary
from outrider.drafters.joint.answering import Answering
from outrider.drafters.joint.compiled import CompiledJointTree, Trees
from outrider.drafters.joint.costs import QuestionCosts
from outrider.drafters.joint.grown import HeadTrees
from outrider.drafters.joint.growth import JointTree
from outrider.drafters.joint.questions import Asked, Questions
from outrider.drafters.joint.reads import MOST_READ
from outrider.drafters.joint.terms import JointTerms
from outrider.drafters.lookup.drafter import MOST_CHILDREN, LookupDrafter, names_of
from outrider.drafters.lookup.growth import Terms
from outrider.drafters.lookup.source import CONTEXT
from outrider.drafters.several.base import told_to, union_of
from outrider.errors import SettingError
from outrider.maths.budget import Budget
from outrider.maths.draft import EMPTY, Draft, Verdict

REACH = 256  # of a prompt that the head reads: lookups copy from what lies before


class JointDrafter(Drafter):
    """Lookups and a head grow one tree, and the head is asked only where its answer pays.

    Every node has a chance, from what lookups and head say together; the likeliest nodes join, whoever proposed them
    (growth.py). A question to the head has a price, the time that it takes. The weights of both, the gain of questions
    and their time are learned while texts are decoded.

    Where the target samples, lookups are chosen and children from the head are drawn, and both mix exactly.

    Args:
        lookups: asked at every node. The tree is of its kind: a tree or a chain.
        head: its network is asked.
        name: what the tree is attributed to; each node to those that proposed it.
        clock: seconds.

    Raises:
        SettingError: one drafts trees and the other chains.
    """

    estimates = True

    def __init__(
        self,
        lookups: LookupDrafter,
        head: HeadDrafter,
        *,
        name: str = "joint",
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if lookups.trees != head.trees:
            kinds = {True: "trees", False: "chains"}
            raise SettingError(
                f"the lookups draft {kinds[lookups.trees]} and the head {kinds[head.trees]}: give both the same trees="
            )
        self.name = name
        self.trees = lookups.trees
        self.wants = union_of([lookups.wants, head.wants])
        self.lookups = lookups
        self.head = head
        self._clock = clock
        self._names = names_of([*(source.name for source in lookups.sources), head.name])
        self._trees = Trees(lookups.grower, JointTerms(MOST_CHILDREN if lookups.trees else 1, lookups.min_chance))
        self._calibrations = {greedy: lookups.grower.calibration() for greedy in (True, False)}
        self._blends = {greedy: self._trees.blend() for greedy in (True, False)}
        self._costs = QuestionCosts()
        self._answering: Answering | None = None
        self._open: dict[int, JointTree | CompiledJointTree] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.lookups}, {self.head})"

    @property
    def bytes_per_token(self) -> int:  # type: ignore[override]
        return self.head.bytes_per_token

    def prepare(self, rows: int, capacity: int, vocab_size: int) -> None:
        self._open = {}
        self.lookups.prepare(rows, capacity, vocab_size)
        vocabulary = DraftVocabulary(self.head.network.ids, vocab_size)
        questions = Questions(self.head.texts, vocabulary, MOST_CHILDREN)
        grown = HeadTrees(self.head.texts, self.head.shape, MOST_CHILDREN, vocab_size)
        self.head.texts.open(rows, capacity + max(MOST_READ, grown.branches), REACH)
        self._answering = Answering(self.head.texts, questions, grown, self._costs, self._clock)

    def read(self, sequences: Sequence[DraftedSequence], readings: Sequence[Reading]) -> None:
        self.lookups.read(sequences, told_to(self.lookups.wants, self.wants, readings))
        self.head.texts.read(sequences, told_to(self.head.wants, self.wants, readings))

    def propose(self, sequences: Sequence[DraftedSequence], budgets: Sequence[Budget]) -> list[Draft]:
        answering = self._answering
        assert answering is not None, "prepare() comes before propose()"
        with self.lookups.locked():
            opened = {
                sequence.id: self._begin(sequence, budget, answering)
                for sequence, budget in zip(sequences, budgets, strict=True)
                if budget.longest > 0
            }
            answering.answer_all([asked for asked, _ in opened.values()])
        drafts = []
        for sequence in sequences:
            if sequence.id not in opened:
                drafts.append(EMPTY.knowing(self._experience(sequence)))
                continue
            asked, terms = opened[sequence.id]
            self._open[sequence.id] = asked.tree
            draft = asked.tree.draft(terms)
            drafts.append(replace(draft, weighed=asked.seconds) if asked.seconds else draft)
        return drafts

    def observe(self, sequence: DraftedSequence, draft: Draft, verdict: Verdict) -> None:
        tree = self._open.pop(sequence.id, None)
        if tree is not None:
            tree.teach(verdict.path, verdict.emitted(draft))

    def forget(self, sequence: DraftedSequence) -> None:
        self._open.pop(sequence.id, None)
        self.lookups.forget(sequence)
        self.head.forget(sequence)

    def rest(self) -> bool:
        return self.head.rest()

    def _begin(self, sequence: DraftedSequence, budget: Budget, answering: Answering) -> tuple[Asked, Terms]:
        """A tree of which nothing has grown, and in whose name it is drafted."""
        greedy, lookups = sequence.sampling.greedy, self.lookups
        draws = not greedy and self.head.draws
        prices = answering.prices(sequence, budget.prices.rate, draws)
        nodes = budget.nodes if self.trees else budget.longest
        cursors = lookups.at_the_end_of(sequence)
        experience = self._experience(sequence)
        tree = self._trees.begin(
            cursors,
            tuple(sequence.tokens[-CONTEXT:]),
            budget._replace(nodes=nodes),
            self._calibrations[greedy],
            self._blends[greedy],
            prices,
            draws,
        )
        noise = sequence.noise.knowing(experience)
        return Asked(sequence, tree, noise, draws, budget), Terms(self.name, self._names, experience)

    def _experience(self, sequence: DraftedSequence) -> tuple[int, ...]:
        return (*self.lookups.experience(sequence), *self.head.experience)

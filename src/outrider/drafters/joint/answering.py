"""Answers what trees ask of the head until none asks any more, and learns what that takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from outrider.drafters.base import DraftedSequence
from outrider.drafters.heads.texts import HeadTexts
from outrider.drafters.joint.costs import QuestionCosts
from outrider.drafters.joint.grown import HeadTrees
from outrider.drafters.joint.questions import Asked, Questions
from outrider.drafters.joint.terms import StepPrices, Wish
from outrider.maths.draft import ROOT


class Answering:
    """The head's part in all trees of a round.

    Args:
        texts: what the head knows of each text.
        questions: answers about one node of each tree at a time.
        head_trees: answers about all nodes of a tree at once, where the head computes on a device.
        costs: of questions.
        clock: seconds.
    """

    def __init__(
        self,
        texts: HeadTexts,
        questions: Questions,
        head_trees: HeadTrees,
        costs: QuestionCosts,
        clock: Callable[[], float],
    ) -> None:
        self._texts = texts
        self._questions = questions
        self._head_trees = head_trees
        self._costs = costs
        self._clock = clock

    def prices(self, sequence: DraftedSequence, rate: float, draws: bool) -> StepPrices | None:
        """What questions about a text cost; None where the head does not know the whole text.

        Args:
            rate: tokens per second.
            draws: whether children are drawn from the answers.
        """
        if not self._texts.is_ready(sequence):
            return None
        prices = self._costs.prices(self._texts.missing(sequence), rate)
        if self._head_trees.answers_for(sequence, draws):
            return prices._replace(further=0.0)  # all answers come at once
        return prices

    def answer_all(self, growing: Sequence[Asked]) -> None:
        """Answer until no tree asks any more."""
        while growing:
            wishes = [(each, self._next_question(each)) for each in growing]
            going = [(each, wish.node) for each, wish in wishes if wish is not None]
            if not going:
                return
            growing = [each for each, _ in going]
            if len(growing) == 1 and self._questions.grows_alone(growing[0]):
                self._grow_alone(*going[0])
                return
            texts = [each for each, node in going if ROOT not in each.made]
            if texts:
                self._ask_about_texts(texts)
            further = [(each, node) for each, node in going if node != ROOT]
            for each, node in further:
                if each.grown is not None:
                    each.answer(node)
            nodes = [(each, node) for each, node in further if each.grown is None]
            if nodes:
                self._ask_about_nodes(nodes)

    def _next_question(self, each: Asked) -> Wish | None:
        wish = each.tree.advance()
        while wish is not None and (wish.draws or each.grown is not None):
            if wish.draws:
                self._questions.draw(each, wish.node)
            elif wish.node != ROOT:  # whose answer came first
                each.answer(wish.node)
            wish = each.tree.advance()
        return wish

    def _ask_about_texts(self, asked: Sequence[Asked]) -> None:
        """The first questions of these trees, and what they take."""
        missing = [self._texts.missing(each.sequence) for each in asked]
        started = self._clock()
        self._questions.read_texts(asked)
        self._grow_heads_trees([each for each in asked if self._head_trees.answers_for(each.sequence, each.draws)])
        others = [each for each in asked if each.grown is None]
        if others:
            self._questions.ask(others, [ROOT] * len(others))
        seconds = (self._clock() - started) / len(asked)
        self._costs.learn_first(seconds, sum(missing) // len(asked))
        for each in asked:
            each.seconds += seconds

    def _grow_heads_trees(self, asked: Sequence[Asked]) -> None:
        """Grow a tree of the head for each of these, and answer what follows the text."""
        if not asked:
            return
        sequences, budgets = [each.sequence for each in asked], [each.budget for each in asked]
        found = self._head_trees.grow(sequences, budgets, [each.made[ROOT] for each in asked])
        for each, answers in zip(asked, found or (), strict=False):
            each.grown = answers
            each.answer(ROOT)

    def _grow_alone(self, each: Asked, node: int) -> None:
        """Grow a tree that asks about a node to its end, and measure how long questions take."""
        missing = self._texts.missing(each.sequence)
        started = self._clock()
        self._questions.read_texts([each])
        caught_up = self._clock()
        read = self._questions.grow_alone(each, node)
        ended = self._clock()
        self._costs.learn_together(caught_up - started, missing, ended - caught_up, read)
        each.seconds += ended - started

    def _ask_about_nodes(self, pairs: Sequence[tuple[Asked, int]]) -> None:
        """Further questions, one of each tree, and what they take."""
        started = self._clock()
        read = self._questions.ask([each for each, _ in pairs], [node for _, node in pairs])
        seconds = self._clock() - started
        self._costs.learn_further(seconds / read)
        for each, _ in pairs:
            each.seconds += seconds / len(pairs)

"""What the engine asks of a lookahead policy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property

from outrider.lookahead.costs.passes import CostCurve
from outrider.maths.budget import Budget
from outrider.maths.lessons import Lessons

ANY_DEPTH = 2**20  # levels of a tree: no bound


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one sequence's draft in one round.

    Attributes:
        sequence: the name that the policy planned for.
        planned: how many tokens the drafter was allowed.
        drafted: how many it proposed; drafters may stop earlier.
        accepted: how many of them were accepted.
        depths: the level of each token of a tree, in the order in which they joined it; empty for chains.
        path: the accepted ones among them, by their index.
        levels: how deep a tree was allowed to be.
        expected: how many tokens the drafter expected to be accepted, where it estimates that.
        weighed: seconds of drafting that the drafter weighed by itself (`Draft.weighed`).
    """

    sequence: Hashable
    planned: int
    drafted: int
    accepted: int
    depths: tuple[int, ...] = ()
    path: tuple[int, ...] = ()
    levels: int = 0
    expected: float = 0.0
    weighed: float = 0.0

    @property
    def longest(self) -> int:
        """Tokens on the longest path of the draft."""
        return max(self.depths) if self.depths else self.drafted


@dataclass(frozen=True, slots=True)
class Times:
    """How long the phases of one round took, in seconds.

    Attributes:
        drafting: proposing.
        verification: the target's forward pass.
        elsewhere: everything else.
    """

    drafting: float
    verification: float
    elsewhere: float

    @property
    def overhead(self) -> float:
        """What a round takes besides drafting and the pass; at most as long as the pass, else something held it up."""
        return min(self.elsewhere, self.verification)


@dataclass(frozen=True, slots=True)
class DraftingTraits:
    """What a drafter states about its drafts.

    Attributes:
        trees: it proposes trees, not only chains.
        estimates: it estimates the chance that each of its tokens is accepted, and follows the prices of its budget.
    """

    trees: bool = False
    estimates: bool = False


class LookaheadPolicy(ABC):
    """Plans the lookahead of each sequence; any hashable name tells sequences apart.

    A policy that only overrides `plan` is complete. It must plan from what it observed in earlier rounds alone: a
    lookahead that depends on the tokens drafted in the same round would change the distribution of the output.

    An engine calls `bind` once when it opens, `budgets` and `observe` in every round, `forget` when a sequence ends.

    Attributes:
        wants_costs: the policy needs a cost curve; where `costs` is None, the engine measures one before it binds.
        costs: what passes of the target cost; the engine refines the curve with every pass that it runs.
        drafting: what the drafter states about its drafts.
    """

    wants_costs = False
    costs: CostCurve | None = None
    drafting = DraftingTraits()

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    @property
    def learns(self) -> bool:
        """Whether what became of one text's drafts may change the plans of another.

        Where it may, texts of one seed have other noise each (`lessons`). True for a policy that overrides `observe`.
        """
        return type(self).observe is not LookaheadPolicy.observe

    @cached_property
    def lessons(self) -> Lessons:
        """Which seeds the texts had from which it learned; the engine fills it in."""
        return Lessons()

    @property
    def most(self) -> int | None:
        """The most tokens of a draft that this policy ever plans; None where it does not say. An engine reserves room
        for trees of so many nodes."""
        return None

    def bind(self, drafting: DraftingTraits, costs: CostCurve) -> None:
        """Learn which drafter and which target the next rounds use.

        A policy may serve several engines one after the other; each binds it. What it learned before stays, and so do
        its costs: an engine that finds `costs` set binds that same curve.

        Args:
            costs: of the target's passes; ignored by policies that do not want costs.
        """
        self.drafting = drafting
        if self.wants_costs:
            self.costs = costs

    @abstractmethod
    def plan(self, sequences: Sequence[Hashable]) -> list[int]:
        """How many tokens each sequence may draft in the coming round; 0 decodes plainly."""

    def budgets(self, sequences: Sequence[Hashable]) -> list[Budget]:
        """What the engine asks before each round: like `plan`, with a bound on the depth of trees, and prices."""
        return [Budget(nodes, ANY_DEPTH) for nodes in self.plan(sequences)]

    def observe(self, outcomes: Sequence[Outcome], times: Times | None) -> None:  # noqa: B027 (a choice, not a duty)
        """Learn from a round.

        Args:
            outcomes: one for each sequence that took part.
            times: None where the round also did other work, such as prefill.
        """

    def forget(self, sequence: Hashable) -> None:  # noqa: B027
        """The sequence has ended."""

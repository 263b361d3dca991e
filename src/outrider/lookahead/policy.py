"""What the engine asks of a lookahead policy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from outrider.lookahead.costs.passes import CostCurve
from outrider.maths.budget import Budget

UNBOUNDED = 2**20


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one sequence's draft in one round.

    Attributes:
        sequence: the name that the policy planned for.
        planned: how many tokens the drafter was allowed.
        drafted: how many it proposed; drafters may stop earlier.
        accepted: how many of them were accepted.
        depths: of the proposed tokens where they are a tree, in the order in which they joined it; empty for chains.
        path: the accepted ones among them.
        levels: how deep a tree was allowed to be.
        expected: how many the drafter expected to be accepted, where it estimates that.
    """

    sequence: Hashable
    planned: int
    drafted: int
    accepted: int
    depths: tuple[int, ...] = ()
    path: tuple[int, ...] = ()
    levels: int = 0
    expected: float = 0.0


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
        """What a round takes besides drafting and the pass; no more than the pass, where something held it up."""
        return min(self.elsewhere, self.verification)


class LookaheadPolicy(ABC):
    """Plans the lookahead of each sequence; sequences are told apart by any hashable name.

    A policy that only overrides `plan` is complete. It must plan from what it has observed of earlier rounds alone: a
    lookahead that depends on the tokens drafted in the same round would change the distribution of the output.

    Attributes:
        wants_costs: whether the engine shall measure what passes of the target cost, where `costs` is None.
        costs: the engine refines them with every pass that it runs.
        trees: whether the drafter proposes trees; the engine says so when it opens.
        estimates: whether the drafter estimates how far its drafts are accepted, and heeds prices; as above.
    """

    wants_costs = False
    trees = False
    estimates = False
    costs: CostCurve | None = None

    @abstractmethod
    def plan(self, sequences: Sequence[Hashable]) -> list[int]:
        """How many tokens each sequence may draft in the coming round; 0 decodes plainly."""

    def budgets(self, sequences: Sequence[Hashable]) -> list[Budget]:
        """The same for drafters that propose trees, or heed prices, with a bound on the depth."""
        return [Budget(nodes, UNBOUNDED) for nodes in self.plan(sequences)]

    def observe(self, outcomes: Sequence[Outcome], times: Times | None) -> None:  # noqa: B027 (a choice, not a duty)
        """Learn from a round.

        Args:
            outcomes: one for each sequence that took part.
            times: None where the round also did other work, such as reading prompts.
        """

    def forget(self, sequence: Hashable) -> None:  # noqa: B027
        """The sequence has ended."""

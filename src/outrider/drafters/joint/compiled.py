"""Trees of lookups and a head that the compiled library grows: those of growth.py for a small part of the time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from outrider.drafters.joint.blend import Blend
from outrider.drafters.joint.growth import JointTree
from outrider.drafters.joint.terms import JointTerms, StepPrices, Wish
from outrider.drafters.lookup.compiled import CompiledLookups
from outrider.drafters.lookup.growth import Lookups, Terms
from outrider.drafters.lookup.source import Context
from outrider.maths.arrays import Array, stack
from outrider.maths.budget import Budget
from outrider.maths.draft import EMPTY, Draft


class CompiledJointTree:
    """As JointTree.

    Args:
        core: the library's own object.
        cursors: kept, for the tree points into them.

    Attributes:
        core: that object.
    """

    def __init__(self, core: Any, cursors: Sequence[Any]) -> None:
        self.core = core
        self._cursors = cursors
        self._q: list[Array] = []
        self.answer = core.answer
        self.children_of = core.children_of
        self.depth = core.depth
        self.parent = core.parent
        self.token = core.token
        self.teach = core.teach

    def __len__(self) -> int:
        return len(self.core)

    @property
    def questions(self) -> int:
        return self.core.questions  # type: ignore[no-any-return]

    def advance(self) -> Wish | None:
        """As `JointTree.advance`."""
        needed = self.core.advance()
        return None if needed is None else Wish(*needed)

    def drew(self, node: int, token: int, q: Array) -> None:
        """As `JointTree.drew`."""
        self._q.append(q)
        self.core.drew(node, token)

    def path(self, node: int) -> list[int]:
        """As `JointTree.path`."""
        tokens = []
        while node >= 0:
            tokens.append(self.core.token(node))
            node = self.core.parent(node)
        return tokens[::-1]

    def draft(self, terms: Terms) -> Draft:
        """As `JointTree.draft`."""
        tokens, parents, chances, proposers, q_rows = self.core.draft(terms.names)
        if not tokens:
            return EMPTY.knowing(terms.experience)
        return Draft(
            tokens,
            parents,
            stack(self._q) if self._q else None,
            q_rows if self._q else None,
            source=terms.source,
            sources=proposers,
            chances=chances,
            experience=terms.experience,
        )


class Trees:
    """Begins trees: in the compiled library where it knows all lookups, else in Python.

    Args:
        lookups: as LookupDrafter grows its own.
        terms: of all of them.
    """

    def __init__(self, lookups: Lookups | CompiledLookups, terms: JointTerms) -> None:
        self._lookups = lookups
        self._terms = terms
        self._library = lookups.library if isinstance(lookups, CompiledLookups) else None

    def blend(self) -> Any:
        """One that has learned nothing yet."""
        return Blend() if self._library is None else self._library.Blend()

    def begin(
        self,
        cursors: Sequence[Any],
        context: Context,
        budget: Budget,
        calibration: Any,
        blend: Any,
        prices: StepPrices | None,
        draws: bool,
    ) -> JointTree | CompiledJointTree:
        """A tree of which nothing has grown; arguments as JointTree."""
        lookups, terms = self._lookups, self._terms
        if isinstance(lookups, Lookups):
            return JointTree(lookups.sources, cursors, context, budget, calibration, blend, prices, terms, draws=draws)
        core = lookups.library.JointTree(
            lookups.core,
            cursors,
            context,
            (budget.nodes, budget.depth),
            budget.prices.totals,
            calibration,
            blend,
            prices,
            draws,
            terms.children,
            terms.least,
        )
        return CompiledJointTree(core, cursors)

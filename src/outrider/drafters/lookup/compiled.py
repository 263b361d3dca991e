"""Trees of lookups that the compiled library grows: those of growth.py, bit for bit, for a small part of the time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from outrider.drafters.lookup.growth import Lookups, Terms
from outrider.drafters.lookup.source import Context, Source
from outrider.maths.budget import Budget
from outrider.maths.draft import EMPTY, Draft
from outrider.runtimes.native.library import drafting


class CompiledLookups:
    """Grows trees in the compiled library.

    Args:
        library: the compiled library.
        core: its own object, which knows the sources.
    """

    def __init__(self, library: Any, core: Any) -> None:
        self.library = library
        self.core = core

    def calibration(self) -> Any:
        """One that has learned nothing yet."""
        return self.library.Calibration()

    def drafted(
        self, cursors: Sequence[Any], context: Context, budget: Budget, calibration: Any, terms: Terms
    ) -> tuple[Draft, Any]:
        """As `Lookups.drafted`."""
        tokens, parents, chances, proposers, tree = self.core.grow(
            cursors, context, budget.nodes, budget.depth, budget.prices.totals, calibration, terms.names
        )
        if not tokens:
            return EMPTY.knowing(terms.experience), tree
        draft = Draft(
            tokens, parents, source=terms.source, sources=proposers, chances=chances, experience=terms.experience
        )
        return draft, tree


def lookups_over(sources: Sequence[Source], least: float, children: int) -> Lookups | CompiledLookups:
    """Grows trees in the compiled library where it is installed and knows all of the sources; arguments as Lookups."""
    library = drafting()
    if library is not None:
        core = library.Lookups(least, children)
        if all(source.join(core) for source in sources):
            return CompiledLookups(library, core)
    return Lookups(sources, least, children)

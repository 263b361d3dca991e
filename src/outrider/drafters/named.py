"""The drafters that are made from their target alone, by name."""

from __future__ import annotations

from collections.abc import Callable

from outrider.drafters.base import Drafter
from outrider.drafters.lookup.drafter import RecyclingDrafter
from outrider.drafters.lookup.loading import lookup_drafter, recycling_memory
from outrider.drafters.recycling.state import DrafterState
from outrider.drafters.suffix.drafter import SuffixDrafter
from outrider.drafters.suffix.tree import SuffixTreeDrafter
from outrider.runtimes.base import Model

LOOKUP = "lookup"
RECYCLING = "recycling"
SUFFIX = "suffix"
SUFFIX_TREE = "suffix-tree"


def recycling(target: Model, trees: bool = True, state: DrafterState | None = None) -> RecyclingDrafter:
    """Recycled successors alone; a target that reads trees branch by branch gets chains."""
    return RecyclingDrafter(recycling_memory(target, state), trees=trees and not target.traits.reads_branches)


NAMED: dict[str, Callable[[Model], Drafter]] = {
    LOOKUP: lookup_drafter,
    SUFFIX: lambda target: SuffixDrafter(),
    SUFFIX_TREE: lambda target: SuffixTreeDrafter(),
    RECYCLING: recycling,
}

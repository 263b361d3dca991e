"""What is compared: drafters with and without a memory of earlier requests. A new system is one line in SYSTEMS."""

from __future__ import annotations

from collections.abc import Callable

from outrider.api.decoder import SpeculativeDecoder
from outrider.drafters.base import Drafter
from outrider.drafters.lookup.loading import lookup_drafter
from outrider.drafters.suffix.drafter import SuffixDrafter
from outrider.drafters.suffix.memory import SuffixMemory
from outrider.drafters.suffix.tree import SuffixTreeDrafter
from outrider.errors import SettingError
from outrider.runtimes.base import Model

SYSTEMS: dict[str, Callable[[Model], Drafter | None]] = {
    "plain": lambda target: None,
    "suffix": lambda target: SuffixDrafter(),
    "suffix-memory": lambda target: SuffixDrafter(memory=SuffixMemory()),
    "suffix-tree": lambda target: SuffixTreeDrafter(),
    "suffix-tree-memory": lambda target: SuffixTreeDrafter(memory=SuffixMemory()),
    "lookup": lambda target: lookup_drafter(target),
    "lookup-memory": lambda target: lookup_drafter(target, memory=SuffixMemory()),
}


def check_systems(names: str) -> list[str]:
    """The names between commas.

    Raises:
        SettingError: one is unknown, or there is none.
    """
    found = [name.strip() for name in names.split(",") if name.strip()]
    if not found or not set(found) <= set(SYSTEMS):
        raise SettingError(f"--systems is {names!r}: choose from {', '.join(SYSTEMS)}")
    return found


def open_system(name: str, target: Model, lookahead: int | None) -> SpeculativeDecoder:
    """A decoder with a memory of its own, if it has one. A lookahead of None is chosen by measured goodput."""
    drafter = SYSTEMS[name](target)
    return SpeculativeDecoder(drafter, target, 0 if drafter is None else lookahead)

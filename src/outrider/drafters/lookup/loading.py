"""The lookup drafter for a target, with what is already known of it."""

from __future__ import annotations

from pathlib import Path

from outrider.drafters.lookup.drafter import LookupDrafter
from outrider.drafters.lookup.memories import MemorySource
from outrider.drafters.lookup.source import Source
from outrider.drafters.lookup.suffixes import SuffixSource
from outrider.drafters.recycling.memory import RecyclingMemory
from outrider.drafters.recycling.source import RecyclingSource
from outrider.drafters.recycling.state import DrafterState, load_state, tokenizer_of
from outrider.drafters.suffix.memory import SuffixMemory
from outrider.errors import InputError
from outrider.runtimes.base import Model
from outrider.runtimes.files.smollm2 import cache_folder
from outrider.runtimes.loading import as_model

SHIPPED = Path(__file__).parents[1] / "recycling" / "smollm2.npz"  # made by `outrider warm smollm2`


def lookup_drafter(
    target: Model, state: Path | DrafterState | None = None, *, memory: SuffixMemory | None = None, trees: bool = True
) -> LookupDrafter:
    """The default drafter: suffixes of the text and recycled successors, in one tree.

    It starts from what is known of the target's tokenizer: the given file, or what `outrider warm` made on this
    machine, or what ships with Outrider, or nothing. A target that reads trees branch by branch gets chains.

    Args:
        state: a file of drafter state, or one that was read, instead of the other places. A file that does not exist
            yet is passed over.
        memory: of earlier texts, to copy from; the documents of the file join it. None remembers no texts.
        trees: False proposes chains.

    Raises:
        InputError: the file is damaged, or of another tokenizer.
    """
    target = as_model(target)
    known = known_state(target, state)
    sources: list[Source] = [SuffixSource()]
    if memory is not None:
        for document in known.documents if known is not None else ():
            memory.add(document)
        sources.append(MemorySource(memory))
    sources.append(RecyclingSource(_memory_of(known, target)))
    return LookupDrafter(sources, trees=trees and not target.traits.reads_branches)


def recycling_memory(target: Model, state: Path | DrafterState | None = None) -> RecyclingMemory:
    """What is known of a target's successors; arguments and errors as for `lookup_drafter`."""
    return _memory_of(known_state(target, state), target)


def _memory_of(known: DrafterState | None, target: Model) -> RecyclingMemory:
    if known is not None:
        return known.memory()
    return RecyclingMemory(vocab_size=target.traits.vocab_size, tokenizer=fingerprint(target))


def known_state(target: Model, state: Path | DrafterState | None = None) -> DrafterState | None:
    """The state to start from; None where nothing is known. Arguments and errors as for `lookup_drafter`."""
    own = fingerprint(target)
    if isinstance(state, Path):
        state = load_state(state) if state.exists() else None
    if state is not None:
        state.require(own, target.traits.vocab_size)
        return state
    if not own:
        return None
    for file in (warm_file(target), SHIPPED):
        try:
            if tokenizer_of(file) == own:
                found = load_state(file)
                found.require(own, target.traits.vocab_size)
                return found
        except InputError:
            continue  # a file that nobody asked for: without it drafts are only worse
    return None


def warm_file(target: Model) -> Path:
    """Where `outrider warm` keeps the state of a target, unless it is told another place."""
    return cache_folder() / "drafter-states" / f"{fingerprint(target)[:32] or 'unnamed'}.npz"


def fingerprint(target: Model) -> str:
    """Of the target's tokenizer; empty where it has none."""
    return "" if target.tokenizer is None else target.tokenizer.fingerprint

"""What drafts on a server: its own drafter, those that requests may name, and a memory for each API key."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import outrider
from outrider.cli.options.drafters import DRAFTERS, MERGED, DrafterKind, merged
from outrider.cli.options.drafting import SelfTuningOptions
from outrider.cli.options.models import ModelOptions
from outrider.drafters.base import Drafter
from outrider.drafters.lookup.drafter import LookupDrafter
from outrider.drafters.lookup.loading import known_state
from outrider.drafters.named import LOOKUP, RECYCLING, SUFFIX, SUFFIX_TREE, recycling
from outrider.drafters.recycling.state import DrafterState
from outrider.drafters.several.apart import Apart
from outrider.engine.admission import require_features
from outrider.errors import SettingError
from outrider.runtimes.base import Model

if TYPE_CHECKING:
    from outrider.server.offers import Offer

LEARNING = (LOOKUP, RECYCLING)  # from the texts that they have drafted for
COSTLESS = (*LEARNING, SUFFIX, SUFFIX_TREE)  # to open: requests may always name them
IN_CHAINS = "{} in chains"


@dataclass(frozen=True, slots=True)
class Memories:
    """What a server remembers of its texts, and where it is kept.

    Attributes:
        apart: whether each API key has a memory of its own.
        files: for one memory the file of all; else one for each isolation key. Empty where nothing is kept.
    """

    apart: bool
    files: Mapping[str, Path] = field(default_factory=dict)

    def save(self, drafter: Drafter | None) -> None:
        """Write what the server's own drafter has learned.

        Raises:
            InputError: a file cannot be written.
        """
        for isolation, file in self.files.items():
            its = drafter.known.get(isolation) if isinstance(drafter, Apart) else drafter
            if isinstance(its, LookupDrafter):
                its.save(file)


def memories(state: Path | None, isolations: Sequence[str], share: bool) -> Memories:
    """The memories of a server.

    Args:
        state: the file of --drafter-state. With several keys each has a file beside it, whose name tells no key.
        isolations: one for each API key.
        share: whether all keys teach one memory.
    """
    if len(isolations) < 2 or share:
        return Memories(False, {} if state is None else {"": state})
    return Memories(True, {} if state is None else {each: _file_of(state, each) for each in isolations})


def own_kind(kind: DrafterKind, drafting: SelfTuningOptions, models: ModelOptions, kept: Memories) -> DrafterKind:
    """The kind of the server's own drafter, with its memories.

    Raises:
        SettingError: it keeps nothing.
        InputError: a file cannot be used.
    """
    if not kept.apart:
        return drafting.with_state(kind, many=False)
    if kind.name == MERGED:
        found = merged(lambda target: Apart(lambda: outrider.lookup_drafter(target)))
        head = models.draft_model if kind.make_with is None else None
        return drafting.with_state(found if head is None else found.of_head(head), many=False)
    of_keys = {
        isolation: replace(drafting, drafter_state=file).with_state(kind, many=False)
        for isolation, file in kept.files.items()
    }
    return _apart(kind, of_keys)


def _apart(kind: DrafterKind, of_keys: Mapping[str, DrafterKind] | None = None) -> DrafterKind:
    """The kind with a memory for each key, where it learns at all.

    Args:
        of_keys: what makes the drafters of those that begin with what was kept.
    """
    make = kind.make
    if kind.name not in LEARNING or make is None:
        return kind

    def apart(target: Model) -> Drafter:
        kinds = {key: its.make for key, its in (of_keys or {}).items()}
        return Apart(lambda: make(target), known={key: its(target) for key, its in kinds.items() if its is not None})

    return replace(kind, make=apart)


@dataclass(frozen=True, slots=True)
class Offered:
    """What requests may name.

    Attributes:
        drafters: for the engine, by its own names.
        offers: by the names for requests.
    """

    drafters: Mapping[str, Drafter]
    offers: Mapping[str, Offer]


def offered(own: DrafterKind, target: Model, apart: bool) -> Offered:
    """The drafters that cost nothing to open, as far as the target gives what they read.

    Room for the branches of trees is set aside only where the server's own drafter drafts trees: elsewhere the others
    draft chains as well.

    Args:
        own: the kind of the server's own drafter, which is not opened again.
        apart: whether each API key has a memory of its own.
    """
    from outrider.server.offers import Offer  # here, since other commands do without the packages of the server

    known = known_state(target)  # read once: what is known from the start is shared, what is learned is not
    drafters: dict[str, Drafter] = {}
    offers: dict[str, Offer] = {own.name: Offer(None, None, own.suffixes)}

    def opened(name: str, kind: DrafterKind) -> str | None:
        make = (_apart(kind) if apart else kind).make
        drafter = None if make is None else make(target)
        if drafter is None or not _is_fed(drafter, target):
            return None
        drafters[name] = drafter
        return name

    for name in COSTLESS:
        kind = _knowing(DRAFTERS[name], known)
        chains = kind if not kind.trees else None
        if kind.in_chains is not None:
            chains = replace(kind, make=kind.in_chains, trees=False)
        if own.trees:
            in_trees = None if name == own.name else opened(name, kind)
            if in_trees is None and name != own.name:
                continue
            in_chains = opened(IN_CHAINS.format(name), chains) if kind.trees and chains is not None else in_trees
            offers[name] = Offer(in_trees, in_chains, kind.suffixes)
        elif name != own.name and chains is not None:
            found = opened(name, chains)
            if found is not None:
                offers[name] = Offer(found, found, kind.suffixes)
    return Offered(drafters, offers)


def _knowing(kind: DrafterKind, known: DrafterState | None) -> DrafterKind:
    """The kind, which begins with what is known of the target."""
    if kind.name == LOOKUP:
        return replace(
            kind,
            make=lambda target: outrider.lookup_drafter(target, known),
            in_chains=lambda target: outrider.lookup_drafter(target, known, trees=False),
        )
    if kind.name == RECYCLING:
        return replace(
            kind,
            make=lambda target: recycling(target, True, known),
            in_chains=lambda target: recycling(target, False, known),
        )
    return kind


def _is_fed(drafter: Drafter, target: Model) -> bool:
    try:
        require_features(drafter, target)
    except SettingError:
        return False
    return True


def _file_of(state: Path, isolation: str) -> Path:
    digest = hashlib.sha256(f"outrider drafter state {isolation}".encode()).hexdigest()
    return state.with_name(f"{state.stem}-{digest[:16]}{state.suffix}")

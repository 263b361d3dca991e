"""What happened in one round, for observers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from outrider.engine.events import FinishReason, Origin


@dataclass(frozen=True, slots=True)
class JudgedDraft:
    """A draft and what became of it: a tree, or a chain, in which each node hangs on the one before it.

    Attributes:
        tokens: the proposed tokens; a parent stands before its children.
        parents: for each token the index of its parent; -1 for a child of the pending token.
        sources: for each token the names of the drafters that proposed it, joined by a plus.
        chances: for each token the drafter's own estimate that it is accepted; None where it makes none.
        path: the accepted nodes, from the pending token on.
    """

    tokens: tuple[int, ...]
    parents: tuple[int, ...]
    sources: tuple[str, ...]
    chances: tuple[float, ...] | None
    path: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SequenceRound:
    """One sequence's part in a round.

    Attributes:
        sequence: its id.
        read: how many prompt tokens it read besides the pending one.
        planned: the lookahead; None where the drafter was given prices and chose by itself, or a grammar left no
            choice.
        drafted, accepted: draft tokens proposed, and accepted.
        tokens: the emitted tokens; fewer than accepted plus one where the text ended.
        origins: the origin of each emitted token.
        source: the name of the drafter; empty where nothing was drafted.
        finish_reason: set if the text ended in this round.
        depths: of the proposed tokens if they were a tree; empty for a chain.
        texts: the text that came with each emitted token; empty where there is none.
        draft: what was proposed, node by node; None where nothing was, and in records that were read from a file.
    """

    sequence: int
    read: int
    planned: int | None
    drafted: int
    accepted: int
    tokens: tuple[int, ...]
    origins: tuple[Origin, ...]
    source: str
    finish_reason: FinishReason | None
    depths: tuple[int, ...] = ()
    texts: tuple[str, ...] = ()
    draft: JudgedDraft | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """One round.

    Attributes:
        number: counted from 0.
        started: seconds since the engine was opened.
        passes: forward passes of the target; more than one where rows of equal work were grouped.
        seconds_drafting, seconds_verification, seconds_elsewhere: the phases.
        sequences: the parts of all sequences in it.
    """

    number: int
    started: float
    passes: int
    seconds_drafting: float
    seconds_verification: float
    seconds_elsewhere: float
    sequences: tuple[SequenceRound, ...]


Observer = Callable[[RoundRecord], None]

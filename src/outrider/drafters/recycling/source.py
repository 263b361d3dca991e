"""Recycled successors as a source of lookups.

At every token that the target scores, rejected ones included, its most probable next tokens are known. Token recycling
(arXiv 2408.08696) keeps them, by the last token, and drafts trees of them. Here they are kept by the last two tokens as
well, with the target's probabilities, averaged.
"""

from __future__ import annotations

from typing import Any

from outrider.drafters.base import DraftedSequence, Reading
from outrider.drafters.lookup.source import Context, Foresight, Source
from outrider.drafters.recycling.compiled import CompiledSuccessors
from outrider.drafters.recycling.memory import RecyclingMemory
from outrider.drafters.recycling.successors import KEPT, Known
from outrider.errors import SettingError, shown
from outrider.maths.arrays import float32_on_host, to_numpy
from outrider.maths.noise import MASK
from outrider.runtimes.base import Features

# The weight of a context's mean successors; the shorter context gets the rest. Of the last
# two tokens, by how often they were met (deleted interpolation, Jelinek and Mercer 1980): measured on greedy answers.
TRUST = (0.6, 0.7)  # one token, two tokens
DOUBT = 0.3  # pseudo-counts against a context of two tokens that was met rarely
MOST_FORESEEN = 20_000  # contexts whose foresight is kept
EVIDENCE = 3  # counts from here on are equally good evidence


class RecyclingSource(Source):
    """What the target expected after the last one and two tokens.

    Args:
        memory: what it knows and learns; several engines may share one. None starts with nothing.
    """

    name = "recycling"
    wants = Features(top=KEPT)

    def __init__(self, memory: RecyclingMemory | None = None) -> None:
        if memory is not None and not isinstance(memory, RecyclingMemory):
            raise SettingError(f"memory is {shown(memory)}: give a RecyclingMemory, or None")
        self.memory = RecyclingMemory() if memory is None else memory
        self.lock = self.memory.lock
        self._own: dict[int, int] = {}  # what each open text added to the experience
        # What was foreseen last, with the marks of the memory at that time.
        self._foreseen: dict[Context, tuple[object, object, Foresight | None]] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.memory})"

    def join(self, lookups: Any) -> bool:
        pairs, single = self.memory.pairs, self.memory.single
        if isinstance(pairs, CompiledSuccessors) and isinstance(single, CompiledSuccessors):
            lookups.add_recycled(pairs.core, single.core)
            return True
        return False

    def prepare(self, vocab_size: int) -> None:
        self.memory.require_width(vocab_size)
        self._own = {}

    def experience(self, sequence: DraftedSequence) -> tuple[int, ...]:
        # Sums, so that what the text itself taught can be taken out whatever came between.
        others = (self.memory.experience - self._own.get(sequence.id, 0)) & MASK
        return (others,) if others else ()

    def forget(self, sequence: DraftedSequence) -> None:
        self._own.pop(sequence.id, None)

    def read(self, sequence: DraftedSequence, reading: Reading) -> None:
        if reading.top is None:
            return
        tokens = to_numpy(reading.top.tokens)
        added = self.memory.learn(
            _contexts(sequence, reading, len(tokens)), tokens, float32_on_host(reading.top.probabilities)
        )
        self._own[sequence.id] = (self._own.get(sequence.id, 0) + added) & MASK

    def foresee(self, cursor: object, context: Context) -> Foresight | None:
        pair, last = self.memory.marks(context)
        kept = self._foreseen.get(context)
        if kept is not None and kept[0] is pair and kept[1] is last:
            return kept[2]
        if len(self._foreseen) >= MOST_FORESEEN:
            self._foreseen.clear()
        found = _mixed(*self.memory.find(context))
        self._foreseen[context] = pair, last, found
        return found


def _mixed(pair: Known | None, last: Known | None) -> Foresight | None:
    """The successors of the last two tokens, interpolated with those of the last one; None where nothing is known."""
    if pair is None and last is None:
        return None
    shares: dict[int, float] = {}
    left = 1.0
    evidence = 0
    if pair is not None:
        trust = TRUST[1] * pair.times / (pair.times + DOUBT)
        evidence = min(pair.times, EVIDENCE)
        shares = {token: trust * share for token, share in pair.successors}
        left -= trust
    if last is not None:
        trust = left * TRUST[0]
        known = shares.get
        for token, share in last.successors:
            shares[token] = known(token, 0.0) + trust * share
    return Foresight(list(shares.items()), 0.0, {}, evidence)


def _contexts(sequence: DraftedSequence, reading: Reading, scored: int) -> list[tuple[int | None, int]]:
    """Of each scored token, the token that it follows (None at the start of a text) and itself.

    Args:
        scored: how many of the last fed tokens these are: the pending one, and after it the nodes of the draft.
    """
    fed = reading.tokens
    first = len(fed) - scored
    place = reading.start + first - 1
    before = fed[first - 1] if first else sequence.tokens[place] if place >= 0 else None
    parents = None if reading.draft is None else reading.draft.parents
    if parents is None:
        return list(zip([before, *fed[first:]], fed[first:], strict=False))
    found: list[tuple[int | None, int]] = [(before, fed[first])]
    for node, parent in enumerate(parents[: scored - 1], start=first + 1):
        found.append((fed[first + 1 + parent], fed[node]))  # the pending token stands before the first node
    return found

"""Which source proposed what, and what was accepted, over the answers to a file of questions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from outrider.api.decoder import SpeculativeDecoder
from outrider.drafters.base import DraftedSequence, Drafter, Reading
from outrider.maths.budget import Budget
from outrider.maths.draft import Draft, Verdict
from outrider.maths.sampling import SamplingParams
from outrider.runtimes.base import Model

ALL = "all"


@dataclass
class Sources:
    """What became of the drafts of one category.

    Attributes:
        tokens, rounds: emitted, prompts aside.
        seconds: of decoding.
        proposed, accepted: draft tokens, by the sources that proposed them.
    """

    tokens: int = 0
    rounds: int = 0
    seconds: float = 0.0
    proposed: Counter[str] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)

    @property
    def tokens_per_round(self) -> float:
        return self.tokens / max(self.rounds, 1)

    def add(self, other: Sources) -> None:
        self.tokens += other.tokens
        self.rounds += other.rounds
        self.seconds += other.seconds
        self.proposed += other.proposed
        self.accepted += other.accepted


class Watched(Drafter):
    """A drafter, and who proposed what in the present text."""

    def __init__(self, drafter: Drafter) -> None:
        self.name, self.wants = drafter.name, drafter.wants
        self.trees, self.estimates = drafter.trees, drafter.estimates
        self.seen = Sources()
        self._drafter = drafter

    def prepare(self, rows: int, capacity: int, vocab_size: int) -> None:
        self._drafter.prepare(rows, capacity, vocab_size)

    def read(self, sequences: Sequence[DraftedSequence], readings: Sequence[Reading]) -> None:
        self._drafter.read(sequences, readings)

    def forget(self, sequence: DraftedSequence) -> None:
        self._drafter.forget(sequence)

    def propose(self, sequences: Sequence[DraftedSequence], budgets: Sequence[Budget]) -> list[Draft]:
        drafts = self._drafter.propose(sequences, budgets)
        for draft in drafts:
            self.seen.proposed.update(draft.source_of(node) for node in range(len(draft)))
        return drafts

    def observe(self, sequence: DraftedSequence, draft: Draft, verdict: Verdict) -> None:
        self.seen.accepted.update(draft.source_of(node) for node in verdict.path)
        self._drafter.observe(sequence, draft, verdict)


def by_category(
    target: Model,
    drafter: Drafter,
    questions: Iterable[tuple[str, Sequence[int]]],
    lookahead: int | None,
    max_tokens: int,
    sampling: SamplingParams,
    step: Callable[[], Any],
) -> dict[str, Sources]:
    """Decode all questions one after the other.

    Args:
        questions: categories and prompts.
        step: called after each answer.
    """
    watched = Watched(drafter)
    decoder = SpeculativeDecoder(watched, target, lookahead)
    found: dict[str, Sources] = {}
    for category, prompt in questions:
        watched.seen = Sources()
        stats = decoder.generate(list(prompt), max_tokens=max_tokens, sampling=sampling, detokenize=False).stats
        seen = watched.seen
        seen.tokens, seen.rounds, seen.seconds = stats.emitted, stats.rounds, stats.seconds_decoding
        for name in (category, ALL):
            found.setdefault(name, Sources()).add(seen)
        step()
    return {name: found[name] for name in [*(name for name in found if name != ALL), ALL]}

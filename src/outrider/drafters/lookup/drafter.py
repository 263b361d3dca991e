"""The drafter that looks up: suffixes of the text and recycled successors, in one tree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from outrider.drafters.base import DraftedSequence, Drafter, Reading
from outrider.drafters.lookup.compiled import lookups_over
from outrider.drafters.lookup.growth import Terms
from outrider.drafters.lookup.memories import MemorySource
from outrider.drafters.lookup.source import CONTEXT, Source
from outrider.drafters.lookup.suffixes import SuffixSource
from outrider.drafters.recycling.memory import RecyclingMemory
from outrider.drafters.recycling.source import RecyclingSource
from outrider.drafters.recycling.state import documents_in, save_state, state_of
from outrider.errors import InputError, SettingError, shown
from outrider.maths.budget import Budget
from outrider.maths.draft import EMPTY, Draft, Verdict
from outrider.runtimes.base import Features
from outrider.values import listed, require_flag, share

MOST_CHILDREN = 8


class LookupDrafter(Drafter):
    """Proposes tokens that followed the same context before: one tree from several sources of lookups.

    At every node all sources are asked; together they say how likely each token is (mixture.py). The tree takes the
    likeliest nodes. Its chances are corrected by what was accepted so far.

    Args:
        sources: the most trusted one first; None is suffixes of the text, then recycled successors.
        trees: False proposes chains, which rule `block` can judge.
        min_chance: nodes that are accepted with an estimated probability below this are left out; where the budget has
            prices, these decide instead.
        name: what its tokens are attributed to, where a source has not its own name for them.

    Attributes:
        sources, min_chance: those.
        grower: grows its trees.

    Raises:
        SettingError: no source, or min_chance is not within 0 to 1.
    """

    estimates = True

    def __init__(
        self,
        sources: Sequence[Source] | None = None,
        *,
        trees: bool = True,
        min_chance: float = 0.01,
        name: str = "lookup",
    ) -> None:
        require_flag("trees", trees)
        self.sources = [SuffixSource(), RecyclingSource()] if sources is None else _sources(sources)
        self.trees = trees
        self.min_chance = share("min_chance", min_chance)
        self.name = name
        self.wants = Features(top=max(source.wants.top for source in self.sources))
        self.grower = lookups_over(self.sources, self.min_chance, MOST_CHILDREN if trees else 1)
        self._names = names_of([source.name for source in self.sources])
        self._locks = [source.lock for source in self.sources if not isinstance(source.lock, nullcontext)]
        self._calibrations = {greedy: self.grower.calibration() for greedy in (True, False)}
        self._open: dict[int, Any] = {}  # the trees of this round, by sequence

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.sources})"

    def prepare(self, rows: int, capacity: int, vocab_size: int) -> None:
        self._open = {}
        for source in self.sources:
            source.prepare(vocab_size)

    def read(self, sequences: Sequence[DraftedSequence], readings: Sequence[Reading]) -> None:
        for sequence, reading in zip(sequences, readings, strict=True):
            for source in self.sources:
                source.read(sequence, reading)

    def propose(self, sequences: Sequence[DraftedSequence], budgets: Sequence[Budget]) -> list[Draft]:
        return [self._grown(sequence, budget) for sequence, budget in zip(sequences, budgets, strict=True)]

    def observe(self, sequence: DraftedSequence, draft: Draft, verdict: Verdict) -> None:
        tree = self._open.pop(sequence.id, None)
        if tree is not None:
            tree.teach(self._calibrations[sequence.sampling.greedy], verdict.path, verdict.emitted(draft))

    def forget(self, sequence: DraftedSequence) -> None:
        self._open.pop(sequence.id, None)
        for source in self.sources:
            source.forget(sequence)

    def save(self, file: Path) -> None:
        """Write what was learned to a file, for `lookup_drafter(target, file)`.

        A drafter that remembers no texts leaves those that the file holds.

        Raises:
            InputError: there is nothing to save, or the file cannot be written.
        """
        recycling = next((source for source in self.sources if isinstance(source, RecyclingSource)), None)
        if recycling is None:
            raise InputError("the drafter has no source that learns: give it a RecyclingSource")
        remembered = [source.memory for source in self.sources if isinstance(source, MemorySource)]
        documents = [document for memory in remembered for document in memory.documents()]
        if not remembered:
            documents = documents_in(file, recycling.memory.tokenizer)
        save_state(state_of(recycling.memory, documents), file)

    def _grown(self, sequence: DraftedSequence, budget: Budget) -> Draft:
        if budget.longest <= 0:
            return EMPTY.knowing(self.experience(sequence))
        context = tuple(sequence.tokens[-CONTEXT:])
        calibration = self._calibrations[sequence.sampling.greedy]
        if not self.trees:
            budget = budget._replace(nodes=budget.longest)
        with self.locked():
            cursors = self.at_the_end_of(sequence)
            terms = Terms(self.name, self._names, self.experience(sequence))
            draft, self._open[sequence.id] = self.grower.drafted(cursors, context, budget, calibration, terms)
        if sequence.predicted:
            return self._predicted(sequence, budget, draft)
        return draft

    def _predicted(self, sequence: DraftedSequence, budget: Budget, draft: Draft) -> Draft:
        """What the caller predicts where that is at least as likely, otherwise what was looked up."""
        likely = draft.chances[0] if draft.chances else 0.0
        least = 0.0 if budget.prices.totals else self.min_chance
        for source in self.sources:
            expectation = source.expectation(sequence)
            predicted = None if expectation is None else expectation.draft(budget, likely, least, source.name)
            if predicted is not None:
                self._open.pop(sequence.id)  # its nodes are not what will be judged
                return predicted.knowing(draft.experience)
        return draft

    def at_the_end_of(self, sequence: DraftedSequence) -> list[Any]:
        """Where each source stands at the end of a text. Called under the lock."""
        return [source.begin(sequence) for source in self.sources]

    def experience(self, sequence: DraftedSequence) -> tuple[int, ...]:
        """Hashes of what all sources learned from other texts (`Draft.experience`)."""
        return tuple([each for source in self.sources for each in source.experience(sequence)])

    def locked(self) -> AbstractContextManager[Any]:
        """Held while cursors are used: what they point into stays as it is."""
        if len(self._locks) == 1:
            return self._locks[0]
        return _together(self._locks)


class RecyclingDrafter(LookupDrafter):
    """Proposes trees of the tokens that the target expected after the last one and two tokens.

    Token recycling (arXiv 2408.08696): at every token that the target scores, rejected ones included, its most probable
    next tokens are kept.

    Args:
        memory: what it knows and learns; several drafters may share one. None starts with nothing.
        trees, min_chance, name: as LookupDrafter.
    """

    def __init__(
        self,
        memory: RecyclingMemory | None = None,
        *,
        trees: bool = True,
        min_chance: float = 0.01,
        name: str = "recycling",
    ) -> None:
        super().__init__([RecyclingSource(memory)], trees=trees, min_chance=min_chance, name=name)


def _sources(given: Sequence[Source]) -> list[Source]:
    sources = list(listed("sources", given, "a list of sources"))
    wrong = next((each for each in sources if not isinstance(each, Source)), None)
    if wrong is not None or not sources:
        what = "is empty" if wrong is None else f"holds {shown(wrong)}"
        raise SettingError(f"sources {what}: give at least one, such as SuffixSource()")
    return sources


@contextmanager
def _together(locks: Sequence[AbstractContextManager[Any]]) -> Iterator[None]:
    with ExitStack() as held:
        for lock in locks:
            held.enter_context(lock)
        yield


def names_of(sources: Sequence[str]) -> list[str]:
    """Names of sources joined by a plus, by the bits of those that propose a token."""
    return [
        "+".join(name for number, name in enumerate(sources) if bits >> number & 1) for bits in range(1 << len(sources))
    ]

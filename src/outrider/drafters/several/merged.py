"""Several drafters for one text: all of them at once, or one after the other."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from outrider.drafters.base import DraftedSequence, Drafter, Reading
from outrider.drafters.several.accounts import Account
from outrider.drafters.several.joining import Places, join
from outrider.errors import SettingError
from outrider.maths.budget import Budget
from outrider.maths.draft import EMPTY, ROOT, Draft, Verdict
from outrider.maths.noise import MOST_DRAFTERS, RoundNoise
from outrider.maths.sampling import History, SamplingParams
from outrider.runtimes.base import Features, Top

STEP = 0.1  # how fast the price of a token follows
OUTLIER = 4.0  # times what was expected: a round that was held up says little


@dataclass(frozen=True, slots=True)
class _Seen:
    """A sequence as one of several drafters sees it: with draws of its own."""

    id: int
    tokens: Sequence[int]
    predicted: Sequence[int]
    sampling: SamplingParams
    history: History
    noise: RoundNoise


def _seen_by(number: int, sequence: DraftedSequence) -> _Seen:
    return _Seen(
        sequence.id,
        sequence.tokens,
        sequence.predicted,
        sequence.sampling,
        sequence.history,
        sequence.noise.of_drafter(number),
    )


def _all_features(wants: Sequence[Features]) -> Features:
    return Features(tuple(sorted({layer for each in wants for layer in each.hidden})), max(each.top for each in wants))


def _told(reading: Reading, given: Features, wanted: Features) -> Reading:
    """As much of a reading, which has the features `given`, as one drafter wants."""
    hidden = tuple(reading.hidden[given.hidden.index(layer)] for layer in wanted.hidden)
    top = None
    if reading.top is not None and wanted.top:
        top = Top(reading.top.tokens[:, : wanted.top], reading.top.probabilities[:, : wanted.top])
    return replace(reading, hidden=hidden, top=top)


class _Several(Drafter):
    """What Merged and Chained share. One drafter that fails is dropped with a warning; the others go on."""

    def __init__(self, drafters: Sequence[Drafter], name: str | None) -> None:
        if not 1 <= len(drafters) <= MOST_DRAFTERS:
            raise SettingError(f"{len(drafters)} drafters are given: it must be 1 to {MOST_DRAFTERS}")
        self.drafters: list[Drafter | None] = list(drafters)
        self.name = "+".join(drafter.name for drafter in drafters) if name is None else name
        self.wants = _all_features([drafter.wants for drafter in drafters])

    @property
    def bytes_per_token(self) -> int:  # type: ignore[override]
        return sum(drafter.bytes_per_token for _, drafter in self._present())

    def prepare(self, rows: int, capacity: int, vocab_size: int) -> None:
        for _, drafter in self._present():
            drafter.prepare(rows, capacity, vocab_size)

    def read(self, sequences: Sequence[DraftedSequence], readings: Sequence[Reading]) -> None:
        for _, drafter in self._present():
            same = drafter.wants == self.wants
            drafter.read(
                sequences, readings if same else [_told(reading, self.wants, drafter.wants) for reading in readings]
            )

    def forget(self, sequence: DraftedSequence) -> None:
        for _, drafter in self._present():
            drafter.forget(sequence)

    def _present(self) -> list[tuple[int, Drafter]]:
        return [(number, drafter) for number, drafter in enumerate(self.drafters) if drafter is not None]

    def _ask(self, number: int, sequences: Sequence[DraftedSequence], budgets: Sequence[Budget]) -> list[Draft]:
        drafter = self.drafters[number]
        assert drafter is not None
        try:
            return drafter.propose(sequences, budgets)
        except Exception as error:
            if len(self._present()) == 1:
                raise
            warnings.warn(
                f"drafter {drafter.name} failed and is dropped; the others go on: {error!r}",
                RuntimeWarning,
                stacklevel=2,
            )
            self.drafters[number] = None
            return [EMPTY] * len(sequences)


@dataclass(slots=True)
class _Round:
    """What the drafters did in one round, for those who account for it.

    Attributes:
        seconds: by drafter.
        drafts: by sequence, each drafter's own, and where its nodes have gone.
        credit: by drafter.
    """

    seconds: dict[int, float]
    drafts: dict[int, list[tuple[int, Draft, Places]]]
    credit: dict[int, int]


class Merged(_Several):
    """All drafters propose, and what they propose becomes one tree, shared prefixes once.

    The budget is dealt out in the order of the drafters: each may spend an equal part of what those before it left, so
    that what one does not need is there for the next. Every node knows who proposed it. An accepted token is credited
    to the quickest of its proposers; a drafter whose credit is worth less time than it takes is rested and probed.

    Args:
        drafters: the first ones' children are tried first.
        rests: False asks all of them in every round, so that what is drafted depends on no measured time.
        clock: seconds.
        name: default theirs, joined by a plus.

    Attributes:
        accounts: of each drafter.

    Raises:
        SettingError: no drafter, or too many.
    """

    trees = True

    def __init__(
        self,
        drafters: Sequence[Drafter],
        *,
        rests: bool = True,
        clock: Callable[[], float] = time.perf_counter,
        name: str | None = None,
    ) -> None:
        super().__init__(drafters, name)
        self.accounts = [Account() for _ in drafters]
        self._rests = rests
        self._clock = clock
        self._round = _Round({}, {}, {})
        self._started: float | None = None
        self._lengths: dict[int, int] = {}
        self._seconds_per_token = 0.0

    def propose(self, sequences: Sequence[DraftedSequence], budgets: Sequence[Budget]) -> list[Draft]:
        self._settle(sequences)
        self._round = _Round({}, {}, {})
        if not any(budget.longest > 0 for budget in budgets):
            return [EMPTY] * len(sequences)
        asked = self._who_is_asked()
        left = [budget.nodes for budget in budgets]
        drafts: list[list[Draft]] = [[] for _ in sequences]
        for turn, number in enumerate(asked):
            shares = [
                Budget(-(-nodes // (len(asked) - turn)), budget.depth)
                for nodes, budget in zip(left, budgets, strict=True)
            ]
            started = self._clock()
            proposed = self._ask(number, [_seen_by(number, sequence) for sequence in sequences], shares)
            self._round.seconds[number] = self._clock() - started
            for place, draft in enumerate(proposed):
                drafts[place].append(draft)
                left[place] -= len(draft)
        joined = []
        for sequence, own in zip(sequences, drafts, strict=True):
            tree, places = join(own)
            joined.append(tree)
            self._round.drafts[sequence.id] = list(zip(asked, own, places, strict=True))
        return joined

    def observe(self, sequence: DraftedSequence, draft: Draft, verdict: Verdict) -> None:
        parts = self._round.drafts.get(sequence.id, [])
        for node in verdict.path:
            proposers = [number for number, _, place in parts if node in place.values()]
            quickest = min(proposers, key=lambda number: self.accounts[number].seconds_per_round)
            self._round.credit[quickest] = self._round.credit.get(quickest, 0) + 1
        for number, own, place in parts:
            drafter = self.drafters[number]
            if drafter is not None:
                drafter.observe(sequence, own, _own_verdict(own, place, verdict))

    def forget(self, sequence: DraftedSequence) -> None:
        super().forget(sequence)
        self._lengths.pop(sequence.id, None)

    def _who_is_asked(self) -> list[int]:
        present = [number for number, _ in self._present()]
        if not self._rests:
            return present
        asked = [number for number in present if not self.accounts[number].resting]
        for number in present:
            if self.accounts[number].resting:
                self.accounts[number].pass_by()
        return asked

    def _settle(self, sequences: Sequence[DraftedSequence]) -> None:
        """Account for the last round, now that it is known how long it took and what it emitted."""
        now = self._clock()
        emitted = sum(len(s.tokens) - self._lengths.get(s.id, len(s.tokens)) for s in sequences)
        if self._started is not None and emitted:
            price = (now - self._started) / emitted
            if self._seconds_per_token:
                price = min(price, OUTLIER * self._seconds_per_token)
                self._seconds_per_token += STEP * (price - self._seconds_per_token)
            else:
                self._seconds_per_token = price
            for number, seconds in self._round.seconds.items():
                self.accounts[number].add(self._round.credit.get(number, 0), seconds, self._seconds_per_token)
        self._started = now
        self._lengths = {sequence.id: len(sequence.tokens) for sequence in sequences}


def _own_verdict(own: Draft, place: Places, verdict: Verdict) -> Verdict:
    """What became of one drafter's part: the accepted path as far as it leads through it."""
    here = {joined: node for node, joined in place.items() if node != ROOT}
    path = []
    for node in verdict.path:
        if node not in here:
            break
        path.append(here[node])
    leaf = path[-1] if path else ROOT
    return Verdict(tuple(path), verdict.token, bonus=verdict.bonus and not own.children(leaf))


class Chained(_Several):
    """The first drafter that has something to say about a text; the next one is asked where it has not.

    Args:
        drafters: in their order.
        name: default theirs, joined by a plus.

    Raises:
        SettingError: no drafter, or too many.
    """

    def __init__(self, drafters: Sequence[Drafter], *, name: str | None = None) -> None:
        super().__init__(drafters, name)
        self.trees = any(drafter.trees for drafter in drafters)
        self._spoke: dict[int, int] = {}

    def propose(self, sequences: Sequence[DraftedSequence], budgets: Sequence[Budget]) -> list[Draft]:
        drafts = [EMPTY] * len(sequences)
        silent = [place for place, budget in enumerate(budgets) if budget.longest > 0]
        for number, _ in self._present():
            if not silent:
                break
            proposed = self._ask(number, [sequences[place] for place in silent], [budgets[place] for place in silent])
            for place, draft in zip(silent, proposed, strict=True):
                drafts[place] = draft
                self._spoke[sequences[place].id] = number
            silent = [place for place in silent if not len(drafts[place])]
        return drafts

    def observe(self, sequence: DraftedSequence, draft: Draft, verdict: Verdict) -> None:
        drafter = self.drafters[self._spoke[sequence.id]] if len(draft) else None
        if drafter is not None:
            drafter.observe(sequence, draft, verdict)

    def forget(self, sequence: DraftedSequence) -> None:
        super().forget(sequence)
        self._spoke.pop(sequence.id, None)

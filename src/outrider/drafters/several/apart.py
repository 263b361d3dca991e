"""A drafter for each tenant, so that timing reveals nothing of what another tenant's texts taught."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence

from outrider.drafters.base import DraftedSequence, Drafter, Reading
from outrider.maths.budget import Budget
from outrider.maths.draft import Draft, Verdict

MOST_TENANTS = 8


class Apart(Drafter):
    """Texts of equal isolation keys share a drafter, and with it what it learns; others have another one.

    A text without a key shares its drafter with none.

    Attributes:
        known: drafters of keys that are known; they stay, whatever other keys come.

    Args:
        make: makes one of them. All are of the same kind.
        most: keys whose drafters are kept; the one not used for longest goes first, once its texts have ended.
    """

    def __init__(
        self, make: Callable[[], Drafter], most: int = MOST_TENANTS, known: Mapping[Hashable, Drafter] | None = None
    ) -> None:
        self._make = make
        self._most = most
        self._room: tuple[int, int, int] | None = None  # what it was prepared for
        self._spare: Drafter | None = make()
        self.known = dict(known or {})
        self._kept: OrderedDict[Hashable, Drafter] = OrderedDict()  # the one used last at the end
        self._open: dict[int, Drafter] = {}  # by sequence
        self.name = self._spare.name
        self.wants = self._spare.wants
        self.trees = self._spare.trees
        self.estimates = self._spare.estimates
        self.bytes_per_token = self._spare.bytes_per_token
        self._learns = self._spare.learns

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name}, {len(self._kept)} keys)"

    @property
    def learns(self) -> bool:
        return self._learns

    def prepare(self, rows: int, capacity: int, vocab_size: int) -> None:
        self._room = rows, capacity, vocab_size
        self._open = {}
        spare = [] if self._spare is None else [self._spare]
        for drafter in (*spare, *self.known.values(), *self._kept.values()):
            drafter.prepare(rows, capacity, vocab_size)

    def propose(self, sequences: Sequence[DraftedSequence], budgets: Sequence[Budget]) -> list[Draft]:
        found: dict[int, Draft] = {}
        for drafter, places in self._shared_out(sequences):
            drafts = drafter.propose([sequences[place] for place in places], [budgets[place] for place in places])
            found.update(zip(places, drafts, strict=True))
        return [found[place] for place in range(len(sequences))]

    def adopt(self, sequence: DraftedSequence, length: int) -> int:
        return self._of(sequence).adopt(sequence, length)

    def read(self, sequences: Sequence[DraftedSequence], readings: Sequence[Reading]) -> None:
        for drafter, places in self._shared_out(sequences):
            drafter.read([sequences[place] for place in places], [readings[place] for place in places])

    def observe(self, sequence: DraftedSequence, draft: Draft, verdict: Verdict) -> None:
        self._of(sequence).observe(sequence, draft, verdict)

    def forget(self, sequence: DraftedSequence) -> None:
        drafter = self._open.pop(sequence.id, None)
        if drafter is not None:
            drafter.forget(sequence)

    def rest(self) -> bool:
        return any(drafter.rest() for drafter in (*self.known.values(), *self._kept.values()))

    def _shared_out(self, sequences: Sequence[DraftedSequence]) -> list[tuple[Drafter, list[int]]]:
        """Drafters, with the places of their sequences."""
        found: dict[int, tuple[Drafter, list[int]]] = {}
        for place, sequence in enumerate(sequences):
            drafter = self._of(sequence)
            found.setdefault(id(drafter), (drafter, []))[1].append(place)
        return list(found.values())

    def _of(self, sequence: DraftedSequence) -> Drafter:
        drafter = self._open.get(sequence.id)
        if drafter is None:
            drafter = self._fresh() if sequence.isolation is None else self._of_key(sequence.isolation)
            self._open[sequence.id] = drafter
        return drafter

    def _of_key(self, key: Hashable) -> Drafter:
        if key in self.known:
            return self.known[key]
        drafter = self._kept.get(key)
        if drafter is None:
            self._make_room()
            drafter = self._kept[key] = self._fresh()
        self._kept.move_to_end(key)
        return drafter

    def _make_room(self) -> None:
        """Let drafters go that no open text uses, until one more may come."""
        used = set(map(id, self._open.values()))
        idle = [key for key, drafter in self._kept.items() if id(drafter) not in used]
        for key in idle[: max(len(self._kept) - self._most + 1, 0)]:
            del self._kept[key]

    def _fresh(self) -> Drafter:
        drafter, self._spare = self._spare, None
        if drafter is None:
            drafter = self._make()
            if self._room is not None:
                drafter.prepare(*self._room)
        return drafter

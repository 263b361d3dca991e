"""The texts that a head follows: what the target told of each, and the head's cache of it."""

from __future__ import annotations

from collections.abc import Sequence

from outrider.drafters.base import DraftedSequence, Reading
from outrider.drafters.heads.features import State, TextFeatures, joined
from outrider.drafters.heads.network import Entries, GrowsOut, HeadNetwork, RollsOut
from outrider.maths.arrays import Array, concatenate

CHUNK = 512  # entries of a row in one pass


class HeadTexts:
    """Keeps a row of a head's cache for each text, and reads what the target tells into it.

    Rounds may be skipped: the next `catch_up` reads all that is missing.

    Attributes:
        network: the head.
        grows_out, rolls_out: its entries, where they grow trees or roll out chains by themselves.
    """

    def __init__(self, network: HeadNetwork) -> None:
        self.network = network
        self._entries: Entries | None = None
        self.grows_out: GrowsOut | None = None
        self.rolls_out: RollsOut | None = None
        self._room: tuple[int, int] | None = None  # rows and capacity for which it was opened
        self._reach: int | None = None
        self._rows: dict[int, int] = {}
        self._features: dict[int, TextFeatures] = {}

    @property
    def entries(self) -> Entries:
        assert self._entries is not None, "prepare() comes before propose()"
        return self._entries

    def open(self, rows: int, capacity: int, reach: int | None = None) -> None:
        """Make room; texts that were followed before do not come back.

        Args:
            reach: the most entries that are read at once; of a longer prompt, or after a longer pause, the newest ones,
                and what the head read before is forgotten. None reads all.
        """
        entries = self.network.open(rows, capacity)
        self._entries, self._room, self._reach = entries, (rows, capacity), reach
        # Asked once: whether an object has the members of a protocol takes as long as a short draft.
        self.grows_out = entries if isinstance(entries, GrowsOut) else None
        self.rolls_out = entries if isinstance(entries, RollsOut) else None
        self._rows, self._features = {}, {}

    def exchange(self, network: HeadNetwork) -> None:
        """Go on with another head of the same tokens and layers; texts that were followed before do not come back."""
        self.network = network
        if self._room is not None:
            self.open(*self._room, self._reach)

    def read(self, sequences: Sequence[DraftedSequence], readings: Sequence[Reading]) -> None:
        """As `Drafter.read`."""
        behind, first = [], 0
        told = self._told(readings)
        for sequence, reading in zip(sequences, readings, strict=True):
            features = self._features.setdefault(sequence.id, TextFeatures())
            self._settle(sequence)
            features.add(reading, told, first)
            first += len(reading.tokens)
            if reading.prefilled:
                self._settle(sequence)
                if features.first < len(sequence.tokens) - 1:
                    behind.append(sequence)
        if behind:
            self.catch_up(behind)

    def _told(self, readings: Sequence[Reading]) -> Array:
        """A copy of what a pass told of all texts: its arrays may be the runtime's own memory."""
        layers = list(zip(*(reading.hidden for reading in readings), strict=True))
        return self.network.gathered([layer[0] if len(layer) == 1 else concatenate(layer) for layer in layers])

    def forget(self, sequence: DraftedSequence) -> None:
        """The sequence has ended."""
        self._features.pop(sequence.id, None)
        row = self._rows.pop(sequence.id, None)
        if row is not None:
            self.entries.release(row)

    def is_ready(self, sequence: DraftedSequence) -> bool:
        """Whether the states of the whole text but its pending token are known."""
        features = self._features.get(sequence.id)
        if features is None:
            return False
        self._settle(sequence)
        return features.end == len(sequence.tokens) - 1

    def missing(self, sequence: DraftedSequence) -> int:
        """How many entries the next `catch_up` of a text that is ready reads."""
        features = self._features[sequence.id]
        missing = features.end - features.first - self.entries.length(self.row_of(sequence))
        return max(missing if self._reach is None else min(missing, self._reach), 1)

    def row_of(self, sequence: DraftedSequence) -> int:
        """The row of the head's cache that the text has."""
        if sequence.id not in self._rows:
            taken = set(self._rows.values())
            self._rows[sequence.id] = next(row for row in range(self.entries.rows) if row not in taken)
        return self._rows[sequence.id]

    def catch_up(self, sequences: Sequence[DraftedSequence]) -> list[Array]:
        """Read the states that came since; what the head makes of the newest one of each text, [1, hidden size]."""
        entries, missing = self.entries, {}
        for sequence in sequences:
            features, row = self._features[sequence.id], self.row_of(sequence)
            # A state is read with the token after it, which is not known for the last of a prompt.
            known = min(features.end, len(sequence.tokens) - 1) - features.first
            if self._reach is not None and known - entries.length(row) > self._reach:
                features.begin_at(features.first + known - self._reach)
                entries.truncate(row, 0)
                known = self._reach
            held = min(entries.length(row), known - 1)  # the newest is read once more where nothing came since
            entries.truncate(row, held)
            missing[sequence.id] = features.since(features.first + held)[: known - held]
        newest: dict[int, Array] = {}
        waiting = list(sequences)
        while waiting:
            self._read_pieces(waiting, missing, newest)
            waiting = [sequence for sequence in waiting if len(missing[sequence.id])]
        for sequence in sequences:
            features = self._features[sequence.id]
            features.forget_before(features.first + entries.length(self.row_of(sequence)) - 1)
        return [newest[sequence.id] for sequence in sequences]

    def _settle(self, sequence: DraftedSequence) -> None:
        features = self._features[sequence.id]
        if features.settle(sequence.tokens):
            self.entries.truncate(self.row_of(sequence), 0)

    def _read_pieces(
        self,
        sequences: Sequence[DraftedSequence],
        missing: dict[int, list[State]],
        newest: dict[int, Array],
    ) -> None:
        """The next CHUNK entries of each text, in one pass."""
        entries, rows, tokens, states, counts = self.entries, [], [], list[State](), []
        for sequence in sequences:
            row, piece = self.row_of(sequence), missing[sequence.id][:CHUNK]
            after = self._features[sequence.id].first + entries.length(row) + 1
            rows.append(row)
            states += piece
            tokens.append(sequence.tokens[after : after + len(piece)])
            counts.append(len(piece))
            missing[sequence.id] = missing[sequence.id][len(piece) :]
        made = entries.read(rows, self.network.read(joined(states)), tokens)
        for sequence, row, count, last in zip(sequences, rows, counts, made, strict=True):
            entries.keep(row, count)
            newest[sequence.id] = last

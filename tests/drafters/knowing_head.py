"""A head that knows the answer, now and then: what a tree with a head is worth, without a model."""

from collections.abc import Sequence

import numpy as np

from outrider.maths.arrays import to_numpy
from outrider.training.shards import Text

LOST = -1.0
TOLD = 8


class Clock:
    """Seconds that only questions to the head take."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class KnowingEntries:
    """Rows of which only the lengths are kept."""

    def __init__(self, head: "KnowingHead", rows: int) -> None:
        self.rows = rows
        self._head = head
        self._lengths = [0] * rows

    def length(self, row: int) -> int:
        return self._lengths[row]

    def keep(self, row: int, count: int) -> None:
        self._lengths[row] += count

    def truncate(self, row: int, length: int) -> None:
        self._lengths[row] = min(length, self._lengths[row])

    def release(self, row: int) -> None:
        self._lengths[row] = 0

    def read(self, rows, states, tokens):
        made = self.extend(rows, states, tokens)
        return [made[end - 1 : end] for end in np.cumsum([len(new) for new in tokens])]

    def extend(self, rows, states, tokens, parents=None):
        new = [token for row in tokens for token in row]
        self._head.clock.now += self._head.step + self._head.entry * (len(new) - 1)
        return np.array([[self._head.after(float(state[0]), token)] for state, token in zip(states, new, strict=True)])


class KnowingHead:
    """A HeadNetwork that is right about the next token of a known text in a share of all places.

    A state is a place in the text, or LOST beside it.

    Args:
        skill: the share of places in which its first token is right; in half as many its second is.
        step, entry: seconds of a pass, and of each further entry in it.
        size: of the vocabulary.
    """

    layers = (1,)
    bytes_per_entry = 1

    def __init__(self, skill: float, clock: Clock, step: float = 0.05, entry: float = 0.005, size: int = 49_152):
        self.ids = np.arange(size)
        self.skill, self.clock, self.step, self.entry = skill, clock, step, entry
        self.text: Sequence[int] = ()
        self.questions = 0

    def knows(self, text: Text) -> None:
        self.text = text.tokens

    def open(self, rows, capacity):
        return KnowingEntries(self, rows)

    def gathered(self, hidden):
        return to_numpy(hidden[0]).copy()

    def read(self, hidden):
        return hidden

    def passed_on(self, made):
        return made

    def after(self, place: float, token: int) -> float:
        end = int(place) + 1
        return float(end) if place >= 0 and end < len(self.text) and self.text[end] == token else LOST

    def likely(self, made, count):
        self.questions += len(made)
        told = [self._told(int(place[0])) for place in made]
        shares = np.array([0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.01, 0.01], dtype=np.float32)[:count]
        return np.array(told)[:, :count], np.tile(shares, (len(told), 1))

    def _told(self, place: int) -> list[int]:
        generator = np.random.default_rng(place + 1)
        tokens = generator.choice(len(self.ids), TOLD, replace=False).tolist()
        if 0 <= place < len(self.text) - 1:
            luck = generator.random()
            rank = 0 if luck < self.skill else 1 if luck < min(1.5 * self.skill, 0.9) else None
            if rank is not None:
                tokens[rank] = int(self.text[place + 1])
        return tokens

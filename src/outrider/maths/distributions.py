"""The target's distributions of one draft, as the rules read them: no further than the verdict needs.

On a CPU most drafts are rejected before their end, and a distribution that nobody reads is not computed: `OnDemand`.
An accelerator answers one question about many rows faster than many questions about one: `AllAtOnce`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from outrider.maths.arrays import Array, gather, keyed_race
from outrider.maths.draws import draw_shared, probability
from outrider.maths.noise import Key

Item = TypeVar("Item", covariant=True)


class Indexed(Protocol[Item]):
    """A sequence whose items may be computed when they are read."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: int, /) -> Item: ...


class Distributions(Indexed[Array], Protocol):
    """The target's distributions of one draft, float32 [vocab] each.

    Row 0 predicts what follows the pending token, row i + 1 what follows draft node i. Whatever has these four methods
    can be judged.
    """

    def probabilities(self, rows: Sequence[int], tokens: Sequence[int]) -> Indexed[float]:
        """At (rows[i], tokens[i])."""

    def races(self, key_of: Callable[[int], Key]) -> Indexed[int]:
        """From each row the token that wins the race (Gumbel-max) against the noise of the row's key."""


class AllAtOnce:
    """Distributions that are computed already.

    Args:
        p: float32 [rows, vocab].
    """

    def __init__(self, p: Array) -> None:
        self._p = p

    def __len__(self) -> int:
        return int(self._p.shape[0])

    def __getitem__(self, row: int, /) -> Array:
        return self._p[row]

    def probabilities(self, rows: Sequence[int], tokens: Sequence[int]) -> Indexed[float]:
        return gather(self._p, rows, tokens).tolist() if len(rows) else []

    def races(self, key_of: Callable[[int], Key]) -> Indexed[int]:
        choices: list[int] = keyed_race(self._p, [key_of(row) for row in range(len(self))]).tolist()
        return choices


class OnDemand:
    """Distributions of which each is computed when it is first read.

    Args:
        rows: how many there are.
        make: from the number of a row to float32 [vocab].
    """

    def __init__(self, rows: int, make: Callable[[int], Array]) -> None:
        self._rows = Lazy(rows, make)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int, /) -> Array:
        return self._rows[row]

    def probabilities(self, rows: Sequence[int], tokens: Sequence[int]) -> Indexed[float]:
        return Lazy(len(rows), lambda i: probability(self[rows[i]], tokens[i]))

    def races(self, key_of: Callable[[int], Key]) -> Indexed[int]:
        return Lazy(len(self), lambda row: draw_shared(self[row], key_of(row)))


class Lazy(Indexed[Item]):
    """Makes each item once, when it is first read."""

    def __init__(self, count: int, make: Callable[[int], Item]) -> None:
        self._count = count
        self._make = make
        self._made: dict[int, Item] = {}

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, place: int, /) -> Item:
        if place not in self._made:
            self._made[place] = self._make(place)
        return self._made[place]

"""The protocol of a draft head's network, as the drafter calls it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from outrider.maths.arrays import Array, HostFloats32, HostInts
from outrider.maths.noise import Key
from outrider.maths.sampling import SamplingParams
from outrider.runtimes.base import Parents
from outrider.runtimes.growing import Grown, TreePlan


class Entries(Protocol):
    """What a head has read of several texts, one in each row.

    An entry is a position of the text: the state at it, and the token after it. Entries of the target's states are
    kept; those of the head's own are tentative, and dropped before the next draft.
    """

    @property
    def rows(self) -> int: ...

    def length(self, row: int) -> int:
        """How many entries are kept."""

    def keep(self, row: int, count: int) -> None:
        """Keep the first tentative entries, which are a chain, and drop the others."""

    def truncate(self, row: int, length: int) -> None: ...

    def release(self, row: int) -> None: ...

    def read(self, rows: Sequence[int], states: Array, tokens: Sequence[Sequence[int]]) -> list[Array]:
        """Append entries of the texts tentatively; arguments as for `extend`.

        Args:
            states: of all entries, what `HeadNetwork.read` gave.

        Returns:
            for each row [1, hidden size], what the head makes of its newest entry.
        """

    def extend(
        self,
        rows: Sequence[int],
        states: Array,
        tokens: Sequence[Sequence[int]],
        parents: Sequence[Parents | None] | None = None,
    ) -> Array:
        """Append entries tentatively.

        Args:
            states: [entries of all rows, hidden size], the rows one after the other.
            tokens: for each row those after them.
            parents: as in `Pass`.

        Returns:
            [entries of all rows, hidden size], what the head makes of them.
        """


@dataclass(frozen=True, slots=True)
class Chains:
    """Chains that are to be rolled out.

    Attributes:
        samplings: of each row, by which q is made; at temperature 1 without filters where the target is greedy.
        chosen: of each row, whether the most probable token is taken, and none is drawn.
        keys: for each row that of each token; all rows have the same number.
        vocab_size: of the target.
    """

    samplings: Sequence[SamplingParams]
    chosen: Sequence[bool]
    keys: Sequence[Sequence[Key]]
    vocab_size: int

    @property
    def count(self) -> int:
        """Tokens of each row."""
        return len(self.keys[0])


@dataclass(frozen=True, slots=True)
class Rolled:
    """What came of them.

    Attributes:
        tokens: for each row the target's ids.
        largest: for each row and token the largest probability of its q.
        q: float32 [tokens of a row, rows, vocabulary of the target]; the next call overwrites it.
    """

    tokens: list[list[int]]
    largest: list[list[float]]
    q: Array


@runtime_checkable
class RollsOut(Protocol):
    """Entries that roll out chains by themselves, where asking the host about each token would take longer."""

    def roll_out(self, rows: Sequence[int], made: Array, chains: Chains) -> Rolled:
        """Draft a chain for each row. What was fed is tentative.

        Args:
            made: [rows, hidden size], what the head made of the newest entry of each.

        Raises:
            ModelError: a logit is not a finite number.
        """


@runtime_checkable
class GrowsOut(Protocol):
    """Entries that grow trees by themselves, where asking the host about each level would take longer."""

    def can_grow(self, plan: TreePlan, vocab_size: int) -> bool:
        """Whether there is memory for it."""

    def grow_trees(self, rows: Sequence[int], made: Array, plan: TreePlan, vocab_size: int) -> Grown:
        """Draft a tree for each row. What was fed is tentative.

        Args:
            made: [rows, hidden size], what the head made of the newest entry of each.
            vocab_size: of the target.

        Raises:
            ModelError: a logit is not a finite number.
        """


class HeadNetwork(Protocol):
    """A head with its weights.

    Attributes:
        ids: int64 [draft vocabulary], the target's id of each token that it can draft.
        layers: of the target, whose states it reads.
        bytes_per_entry: of its cache.
    """

    @property
    def ids(self) -> HostInts: ...

    @property
    def layers(self) -> tuple[int, ...]: ...

    @property
    def bytes_per_entry(self) -> int: ...

    def open(self, rows: int, capacity: int) -> Entries: ...

    def gathered(self, hidden: Sequence[Array]) -> Array:
        """A copy of the target's states of all layers, [tokens, states side by side], where the head computes."""

    def read(self, hidden: Array) -> Array:
        """[tokens, numbers of a state]: what `Entries.read` takes, of what `gathered` gave."""

    def passed_on(self, made: Array) -> Array:
        """What the next step goes on from, of what `Entries.extend` gave."""

    def logits(self, made: Array) -> Array:
        """float32 [entries, draft vocabulary]."""

    def likely(self, made: Array, count: int) -> tuple[HostInts, HostFloats32]:
        """The most probable tokens of the draft vocabulary after each entry, falling, and their probabilities.

        Returns:
            (places, probabilities), both [entries, min(count, draft vocabulary)].
        """

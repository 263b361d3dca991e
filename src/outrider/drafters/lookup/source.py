"""What a source of lookups is: something that knows what followed a context."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

from outrider.drafters.base import DraftedSequence, Reading
from outrider.drafters.suffix.expected import Expectation
from outrider.runtimes.base import NOTHING, Features

Context = tuple[int, ...]  # the newest tokens before a place in the tree, the last one last
CONTEXT = 2  # how many of them are handed on


class Foresight(NamedTuple):
    """What a source expects after a context.

    Attributes:
        shares: tokens, each once, with their estimated probabilities.
        left: the probability of all other tokens together (the escape of prediction by partial matching): what the
            next source has to divide.
        cursors: for tokens after which the source goes on in a way of its own, where it stands then.
        evidence: a small number that says how good the evidence is; calibrated apart.
        reach: how many tokens of the text are matched. The source with the longest match divides first.
    """

    shares: Sequence[tuple[int, float]]
    left: float
    cursors: Mapping[int, Any]
    evidence: int = 0
    reach: int = 0


class Source(ABC):
    """Knows what followed a context. One source serves all sequences of an engine.

    Attributes:
        name: what its tokens are attributed to.
        wants: what it reads of the target's passes.
        lock: held while cursors are used, where other threads may change what they point into.
    """

    name = "source"
    wants: Features = NOTHING
    lock: AbstractContextManager[Any] = nullcontext()

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def join(self, lookups: Any) -> bool:
        """Give the compiled growth (compiled.py) access to what this source knows; False where it cannot use it.

        Then its cursors are `None`, or an automaton of the compiled library and a match in it.
        """
        return False

    def prepare(self, vocab_size: int) -> None:  # noqa: B027 (a choice, not a duty)
        """Called when an engine opens; sequences of an earlier engine do not come back."""

    def read(self, sequence: DraftedSequence, reading: Reading) -> None:  # noqa: B027
        """After each pass of the target, as `Drafter.read`."""

    def begin(self, sequence: DraftedSequence) -> Any:
        """A cursor at the end of the text; None where the source has none and goes by the newest tokens."""
        return None

    def expectation(self, sequence: DraftedSequence) -> Expectation | None:
        """The place of the output in the text that the caller predicts; None where it predicts none.

        One source of a drafter knows it, if any.
        """
        return None

    def experience(self, sequence: DraftedSequence) -> tuple[int, ...]:
        """Hashes of what it learned from other texts than this one (`Draft.experience`)."""
        return ()

    @abstractmethod
    def foresee(self, cursor: Any, context: Context) -> Foresight | None:
        """What follows; None where nothing is known.

        Args:
            cursor: of `begin`, or of `Foresight.cursors`; None after a token that the source did not foresee.
            context: the newest CONTEXT tokens, or fewer at the beginning of a text.
        """

    def forget(self, sequence: DraftedSequence) -> None:  # noqa: B027
        """The sequence has ended."""

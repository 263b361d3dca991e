"""A hook for grammars and other changes to logits: asked at each position, along drafts too."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from outrider.errors import InputError, OutriderError, first_line, shown
from outrider.maths.arrays import Array, float32, gather, stack


class LogitsProcessor(Protocol):
    """Changes the logits of one position, from what was emitted before it.

    Speculation asks about positions that are never reached: it must depend on its arguments alone, and be cheap to ask
    again. Drafter and target ask it alike, so that drafts follow a grammar by themselves.
    """

    def __call__(self, output: Sequence[int], logits: Array, /) -> Array:
        """The logits, float32 [vocab], of the token that follows `output` (the prompt left out); -inf bans a token.

        Args:
            logits: an array of the model's library, which stays as it is.
        """


class Constraint(ABC):
    """A logits processor that allows some texts and bans all others: a grammar.

    The engine asks it for more than logits: tokens that are certain are drafted for nothing, drafts end before the
    first token that is banned, and a text ends where nothing may follow. All answers depend on the arguments alone.
    """

    @abstractmethod
    def __call__(self, output: Sequence[int], logits: Array, /) -> Array:
        """As LogitsProcessor: -inf for each token that may not follow `output`.

        Behind the end of a text, and behind what it bans, it leaves the logits as they are: nothing there is emitted.
        """

    @abstractmethod
    def admits(self, output: Sequence[int]) -> bool:
        """Whether a text may begin with these tokens."""

    @abstractmethod
    def forced(self, output: Sequence[int]) -> list[int]:
        """The tokens that must follow `output`, as far as there is no choice; empty where there is one."""

    @abstractmethod
    def ended(self, output: Sequence[int]) -> bool:
        """Whether no token of text may follow `output`, so that it is complete."""


def process(
    logits: Array, processors: Sequence[LogitsProcessor], output: Sequence[int], paths: Sequence[Sequence[int]]
) -> Array:
    """Apply the processors, in their order, to each row.

    A row behind a token that is banned is left alone: nothing is ever drawn from it, and a grammar has nothing to say
    about a text that it forbids.

    Args:
        logits: float32 [rows, vocab].
        output: the tokens emitted so far.
        paths: for each row the draft tokens between them and the position that the row predicts; parents come first.

    Returns:
        float32 [rows, vocab], a new array.

    Raises:
        InputError: a processor fails, or returns another shape.
    """
    rows: list[Array] = []
    row_of: dict[tuple[int, ...], int] = {}
    dead: set[tuple[int, ...]] = set()
    for row, tokens in enumerate(paths):
        path = tuple(tokens)
        before = path[:-1]
        if path and (before in dead or (before in row_of and _bans(rows[row_of[before]], path[-1]))):
            dead.add(path)
        text = [*output, *path]
        changed = logits[row]
        for processor in () if path in dead else processors:
            with blamed_on("a logits processor"):
                changed = _changed(processor, text, changed, logits)
        row_of[path] = row
        rows.append(changed)
    return stack(rows)


@contextmanager
def blamed_on(what: str) -> Iterator[None]:
    """Around what a function of the caller's does: whatever it raises ends its own text alone."""
    try:
        yield
    except OutriderError:
        raise
    except Exception as error:
        raise InputError(f"{what} failed ({type(error).__name__}: {first_line(error)})") from error


def _changed(processor: LogitsProcessor, text: Sequence[int], logits: Array, like: Array) -> Array:
    """What the processor returns, as float32 of the library of `like`."""
    changed = processor(text, logits)
    if (shape := _shape(changed)) != (like.shape[-1],):
        raise InputError(
            f"a logits processor returned {f'shape {shape}' if shape else shown(changed)}: return logits of "
            f"shape ({like.shape[-1]},), as it was given"
        )
    return float32(changed, like=like)


def _shape(returned: Any) -> tuple[int, ...]:
    """Empty where it is no array."""
    try:
        return tuple(returned.shape)
    except (AttributeError, TypeError):  # of whatever a function of the caller's returns
        return ()


def _bans(logits: Array, token: int) -> bool:
    return bool(gather(logits[None], [0], [token])[0] == -math.inf)

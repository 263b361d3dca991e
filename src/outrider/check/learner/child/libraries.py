"""Arrays of the file's library, and table models that speak it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from outrider.check.learner.child.channel import Misfit, end_copies
from outrider.check.learner.tables import WholeText

Style = Literal["[1, L, V]", "[L, V]", ".logits"]
STYLES: tuple[Style, ...] = ("[1, L, V]", "[L, V]", ".logits")


MOST_TOKENS = 1000  # of a text


class Library(Protocol):
    def integers(self, values: Any) -> Any: ...
    def floats(self, values: np.ndarray) -> Any: ...


class NumPy:
    def integers(self, values: Any) -> Any:
        return np.array(values, dtype=np.int64)

    def floats(self, values: np.ndarray) -> Any:
        return np.array(values, dtype=np.float32)


class Torch:
    def __init__(self) -> None:
        import torch

        torch.set_grad_enabled(False)
        self._torch = torch

    def integers(self, values: Any) -> Any:
        return self._torch.tensor(values, dtype=self._torch.long)

    def floats(self, values: np.ndarray) -> Any:
        return self._torch.tensor(values, dtype=self._torch.float32)


class Mlx:
    def __init__(self) -> None:
        import mlx.core as mx

        mx.set_default_device(mx.cpu)  # small arrays
        self._mx = mx

    def integers(self, values: Any) -> Any:
        return self._mx.array(values, dtype=self._mx.int32)

    def floats(self, values: np.ndarray) -> Any:
        return self._mx.array(np.array(values, dtype=np.float32))


def library(framework: str) -> Library:
    """The library of this name.

    Raises:
        Misfit: it is not installed.
    """
    kinds: dict[str, type[NumPy] | type[Torch] | type[Mlx]] = {"numpy": NumPy, "torch": Torch, "mlx": Mlx}
    try:
        return kinds[framework]()
    except ImportError:
        raise Misfit(f"the file is to be tried with {framework}, which is not installed here") from None


def as_lists(value: Any) -> Any:
    """Numbers in nested lists, of any library."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [each if type(each) is int else as_lists(each) for each in value]
    return value


@dataclass
class Output:
    """What models of transformers return."""

    logits: Any


class Ends:
    """Where a model may be asked for its stop token. Whether it was asked is kept."""

    def __init__(self, stop: int) -> None:
        self._stop = stop
        self.asked = False

    @property
    def eos_token_id(self) -> int:
        self.asked = True
        return self._stop


class TableFunction:
    """A model as the chapter has it: a function from tokens to logits.

    Attributes:
        calls: how often it was called.
        config, tokenizer: where its stop token may be looked up.
    """

    def __init__(self, table: WholeText, arrays: Library, style: Style, stop: int = -1) -> None:
        self._table = table
        self._arrays = arrays
        self._style = style
        self.ends = self.config = self.tokenizer = Ends(stop)
        self.vocab_size = table.vocab_size
        self.calls = 0

    @property
    def eos_token_id(self) -> int:
        return self.ends.eos_token_id

    def eval(self) -> TableFunction:
        return self

    def __call__(self, tokens: Any) -> Any:
        self.calls += 1
        ids = np.asarray(tokens if isinstance(tokens, np.ndarray) else as_lists(tokens), dtype=np.int64)
        if ids.ndim > 2 or ids.size == 0:
            raise ValueError(f"the model was given tokens of shape {ids.shape}: give [1, L] or [L], L at least 1")
        if ids.view(np.uint64).max() >= self.vocab_size:  # where -1 is larger than any token
            raise ValueError(f"the model was given a token outside its vocabulary of {self.vocab_size}: {ids.tolist()}")
        rows = self._table.rows(np.atleast_2d(ids))
        logits = self._arrays.floats(rows[0] if self._style == "[L, V]" and ids.ndim == 1 else rows)
        return Output(logits) if self._style == ".logits" else logits


PROMPT_FORMS = ("an array [1, L]", "an array [L]", "a list")  # that the chapter may mean, the likelier ones first


def prompt_in(form: str, arrays: Library, tokens: Sequence[int]) -> Any:
    """A prompt in one of PROMPT_FORMS."""
    if form == "a list":
        return list(tokens)
    return arrays.integers([list(tokens)] if form == "an array [1, L]" else list(tokens))


def whole_number(value: Any, what: str) -> int:
    """A number, or an array that holds one.

    Raises:
        Misfit: it is something else.
    """
    if type(value) is int:  # as most are
        return value
    held = as_lists(value)
    while isinstance(held, list) and len(held) == 1:
        held = held[0]
    if isinstance(held, bool) or not isinstance(held, int | float | np.integer) or held != held or held % 1:
        raise Misfit(f"{what} is {_shown(value)}, no whole number")
    return int(held)


def token_list(value: Any, what: str) -> list[int]:
    """Token ids from a list, an array [n] or [1, n], or a single number.

    Raises:
        Misfit: it is something else.
    """
    end_copies()
    if hasattr(value, "__len__") and len(value) > MOST_TOKENS:
        raise Misfit(f"{what} has {len(value):,} tokens")
    held = as_lists(value)
    if isinstance(held, list) and len(held) == 1 and isinstance(held[0], list):
        held = held[0]
    if held is None:
        raise Misfit(f"{what} is None: a list of tokens is wanted", "not_written")
    if not isinstance(held, list):
        return [whole_number(held, what)]
    return [whole_number(token, f"a token of {what}") for token in held]


def _shown(value: Any) -> str:
    try:
        return " ".join(repr(value).split())[:60]
    except BaseException:
        return f"a {type(value).__name__}"

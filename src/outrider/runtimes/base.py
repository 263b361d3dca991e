"""What the engine asks of a model, whatever the runtime.

A *session* is a model with a KV cache of several rows (slots). A row holds one sequence and has its own length; rows
are never re-aligned. Feeding has two phases: `extend` appends tokens tentatively, `keep` commits a path of them and
drops the rest. Chains, trees and ragged batches need nothing more.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

from outrider.maths.arrays import Array
from outrider.maths.buckets import Buckets
from outrider.maths.budget import USUAL_DRAFT
from outrider.maths.noise import Key
from outrider.maths.sampling import SamplingParams
from outrider.runtimes.judging import Judge
from outrider.text import Tokenizer

Parents = Sequence[int]
UNBOUNDED = 2**20  # tokens of context, where a model names no limit
LAST_KEPT = -1  # the parent of a tentative token that follows the last permanent one


@dataclass(frozen=True, slots=True)
class Features:
    """What a pass returns besides logits.

    Attributes:
        hidden: the layers whose hidden states are wanted, numbered as in transformers' `output_hidden_states`: 0 is the
            embedding, k the output of layer k. The last one is taken after the final norm (the input of the output
            head).
        top: how many of the most probable next tokens are wanted at each scored token, with their probabilities.
    """

    hidden: tuple[int, ...] = ()
    top: int = 0

    def within(self, vocab_size: int) -> Features:
        """The same, with no more top tokens than a vocabulary has."""
        return self if self.top <= vocab_size else replace(self, top=vocab_size)


NOTHING = Features()


@dataclass(frozen=True, slots=True)
class Pass:
    """One forward pass: the tokens that go in, and what is wanted back.

    Attributes:
        rows: distinct row numbers.
        tokens: for each row the tokens to append, at least one.
        parents: for each row and each of its new tokens, the number of the tentative token that it follows (its parent
            in the tree); LAST_KEPT for the last committed token. None is a chain after the newest tentative token.
        wanted: for each row, how many of the last tokens are scored, that is, get logits (transformers'
            `logits_to_keep`); None is all.
        features: what is wanted besides logits.
    """

    rows: Sequence[int]
    tokens: Sequence[Sequence[int]]
    parents: Sequence[Parents | None] | None = None
    wanted: Sequence[int] | None = None
    features: Features = NOTHING

    @property
    def wanted_counts(self) -> list[int]:
        """For each row, how many of its last tokens are scored."""
        return [len(new) for new in self.tokens] if self.wanted is None else list(self.wanted)


@dataclass(frozen=True, slots=True)
class Top:
    """The most probable next tokens at each scored token, by the model alone, before any sampling setting.

    Attributes:
        tokens: ids [scored, count], the most probable first.
        probabilities: float32 [scored, count], of the softmax over the whole vocabulary.
    """

    tokens: Array
    probabilities: Array

    def part(self, first: int, end: int) -> Top:
        """The same for the scored tokens from `first` up to `end`."""
        return Top(self.tokens[first:end], self.probabilities[first:end])


def at_once() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Scored:
    """What a pass returns. The arrays may be the runtime's own memory, which the session's next `extend` overwrites.

    Attributes:
        logits: [sum of wanted, vocab] in the model's own precision, the rows one after the other.
        hidden: for each layer that was asked for, [all tokens fed, hidden size], the rows one after the other.
        top: None where none was asked for.
        wait: blocks until the device is done. The arrays may be used on the device before that. Errors of the pass may
            surface here.
        settled: whether later passes of this size take as long. The first ones of a bucket take longer.
        judge: judges drafts by these logits on the device; None where the host does.
    """

    logits: Array
    hidden: tuple[Array, ...] = ()
    top: Top | None = None
    wait: Callable[[], None] = at_once
    settled: bool = True
    judge: Judge | None = None


@dataclass(frozen=True, slots=True)
class Traits:
    """What a model states about itself, once.

    Attributes:
        vocab_size: the width of the logits.
        context_length: the longest sequence, in tokens.
        stop_token_ids: tokens that end a text.
        pads_rows: whether a pass pads all rows to the longest one. The engine then groups rows of similar length.
        asynchronous: whether `extend` returns before the device is done.
        hidden_size: the width of hidden states; None where the runtime gives none.
        layers: the number of layers that have hidden states, besides the embedding.
        bytes_per_token: bytes of KV cache for one token of one row; 0 without a cache.
        reads_branches: whether a tree is read branch by branch, each in a pass of its own, so that a tree costs more
            than a chain of as many tokens.
        crops: whether a row can be cut to any length and copied without reading its text again. A recurrent state
            cannot: of its rows only the whole text is worth keeping.
        attends_over_rows: whether a pass goes over what all rows hold, behind a mask, so that a row that is kept for
            later texts slows the others down.
        buckets: the shapes to which passes are padded; None where a pass is as large as its rows.
        widest: how many tokens a draft may have at the most where nobody says: many where a pass takes long whatever
            its width, as where it reads the weights from a disk.
        reads_in_any_pieces: whether a prompt has the same bits in whatever pieces it is read.
        identity: equal for models whose passes cost the same on one machine: the weights, and how they are run. None
            where nothing is known of them, as of an object that the user holds.
    """

    vocab_size: int
    context_length: int
    stop_token_ids: frozenset[int] = frozenset()
    pads_rows: bool = False
    asynchronous: bool = False
    hidden_size: int | None = None
    layers: int = 0
    bytes_per_token: int = 0
    reads_branches: bool = False
    crops: bool = True
    attends_over_rows: bool = False
    buckets: Buckets | None = None
    widest: int = USUAL_DRAFT
    reads_in_any_pieces: bool = False
    identity: str | None = None

    def refusal(self, features: Features) -> str | None:
        """Why the model cannot give these features, in the words of an error message; None if it can."""
        if features.hidden and self.hidden_size is None:
            return "its runtime gives no hidden states"
        wrong = next((layer for layer in features.hidden if not 0 <= layer <= self.layers), None)
        if wrong is not None:
            return f"layer {wrong} is asked for and it has layers 0 to {self.layers}"
        if not 0 <= features.top <= self.vocab_size:
            return f"the top {features.top} tokens are asked for and its vocabulary has {self.vocab_size}"
        return None


class Session(Protocol):
    """A model and the KV cache of up to `rows` sequences of up to `capacity` tokens each."""

    @property
    def rows(self) -> int: ...

    @property
    def capacity(self) -> int: ...

    def length(self, row: int) -> int:
        """How many tokens of the row are committed."""

    def extend(self, work: Pass) -> Scored:
        """Append tokens tentatively to several rows, in one forward pass; may return before the device is done.

        May be called again before `keep`: the tentative tokens of a row are numbered from 0 across these calls.

        Raises:
            InputError: a row would exceed the capacity, a parent does not exist, or the model does not give the
                features (`Traits.refusal`).
        """

    def rollout(
        self, rows: Sequence[int], tokens: Sequence[Sequence[int]], count: int, vocab_size: int
    ) -> list[list[int]]:
        """Draft greedily: feed each row its tokens, then the most probable next token, one after the other.

        Args:
            rows: as in `Pass`; without tentative tokens, or with a chain of them.
            count: how many tokens to draft; the last one is not fed.
            vocab_size: only ids below it are drafted.

        Returns:
            `count` tokens for each row. What was fed is tentative.
        """

    def keep(self, row: int, path: Sequence[int]) -> None:
        """Commit the tentative tokens of `path`, in this order, and drop the others.

        Raises:
            InputError: `path` is not a path that starts at the last committed token.
        """

    def truncate(self, row: int, length: int) -> None:
        """Drop all tentative tokens, and committed ones from position `length` on."""

    def adopt(self, row: int, source: int, length: int) -> None:
        """Take over a prefix: the row holds the first `length` committed tokens of `source`, and no trace of what it
        held before.

        The source stays as it is, whatever becomes of the row. `source` may be the row itself.

        Raises:
            InputError: `source` has fewer committed tokens, or they are more than a row holds.
        """

    def release(self, row: int) -> None:
        """Empty the row for another sequence."""


@dataclass(frozen=True, slots=True)
class Draws:
    """How a session draws drafts by itself.

    Attributes:
        samplings: of each row, without penalties and processors; at temperature 0 the most probable token is taken.
        keys: for each row that of each token; all rows have the same number.
        shared: whether tokens are drawn as the target draws under `coupled`, by a race.
    """

    samplings: Sequence[SamplingParams]
    keys: Sequence[Sequence[Key]]
    shared: bool

    @property
    def count(self) -> int:
        """Tokens of each row."""
        return len(self.keys[0])


@runtime_checkable
class DrawsOut(Protocol):
    """A session that draws drafts by itself, where asking the host about each token would take longer."""

    @property
    def most_drawn(self) -> int:
        """Rows that one call may hold."""

    def draw_out(
        self, rows: Sequence[int], tokens: Sequence[Sequence[int]], draws: Draws, vocab_size: int
    ) -> tuple[list[list[int]], Array]:
        """As `Session.rollout`, with tokens that are drawn.

        Args:
            vocab_size: only ids below it are drafted; the model has as many at least.

        Returns:
            for each row its tokens; and float32 [tokens of a row, rows, vocab_size], the distributions that they were
            drawn from. The next call overwrites these.

        Raises:
            ModelError: a logit is not a finite number.
        """


@runtime_checkable
class Model(Protocol):
    """A causal language model.

    Attributes:
        name: for messages.
        traits: what it states about itself.
        tokenizer: None where the model comes without one.
    """

    name: str
    traits: Traits
    tokenizer: Tokenizer | None

    def free_bytes(self) -> int | None:
        """Memory left for KV caches, in bytes; None if unknown."""

    def open(self, rows: int, capacity: int) -> Session:
        """A session of `rows` rows that hold up to `capacity` tokens each."""


@runtime_checkable
class Embeds(Protocol):
    """A model that shows its embedding, to drafters that read tokens as it does."""

    def embedding(self) -> Array:
        """[vocabulary, hidden size], in any precision."""


class Named:
    """What models share: their repr is short, TableModel(table)."""

    name: str

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name})"


def stop_token_ids(*candidates: Any) -> frozenset[int]:
    """The tokens of the first candidate that is not None; a candidate is an eos_token_id or several."""
    stop = next((candidate for candidate in candidates if candidate is not None), None)
    if stop is None:
        return frozenset()
    return frozenset(int(token) for token in (stop if isinstance(stop, Collection) else [stop]))


PREFILL_CHUNK = 512


def prefill(session: Session, row: int, tokens: Sequence[int]) -> list[int]:
    """Prefill a long text chunk by chunk, so that memory for activations stays bounded.

    Returns:
        The last chunk, not yet fed: the caller wants its logits.
    """
    start = 0
    while len(tokens) - start > PREFILL_CHUNK:
        chunk = tokens[start : start + PREFILL_CHUNK]
        session.extend(Pass([row], [chunk], wanted=[0]))
        session.keep(row, range(len(chunk)))
        start += PREFILL_CHUNK
    return list(tokens[start:])

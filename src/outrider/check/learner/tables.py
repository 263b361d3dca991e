"""The small models and cases on which a learner's file is tried. All of them can be enumerated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from outrider.maths.arrays import HostFloats
from outrider.runtimes.table import TableModel

State = tuple[int, int]
MOST_KEPT = 4096  # texts whose logits a model keeps: those of its vocabulary are few, and come again and again


class WholeText:
    """A table model whose logits depend on the whole text, so that a foreign or a padded token shows.

    The next token depends on the last token t and on the sum of (token + 1) over the text, modulo the vocabulary.
    """

    def __init__(self, table: TableModel) -> None:
        self.vocab_size = table.traits.vocab_size
        self.logits = table.table  # [sum, last, vocab]
        weights = np.exp(self.logits.astype(np.float64))
        self.chances: HostFloats = weights / weights.sum(axis=-1, keepdims=True)
        self._kept: dict[tuple[tuple[int, ...], bytes], np.ndarray] = {}

    def state(self, tokens: Sequence[int]) -> State:
        """What the next token depends on."""
        return (sum(tokens) + len(tokens)) % self.vocab_size, tokens[-1]

    def after(self, state: State, token: int) -> State:
        """The state one token later."""
        return (state[0] + token + 1) % self.vocab_size, token

    def next_chances(self, tokens: Sequence[int]) -> HostFloats:
        """The distribution [vocab] of the token after this text."""
        return np.asarray(self.chances[self.state(tokens)])

    def rows(self, tokens: np.ndarray) -> np.ndarray:
        """Logits float32 [batch, length, vocab] after each token of `tokens` [batch, length]; not to be changed."""
        text = tokens.shape, tokens.tobytes()
        found = self._kept.get(text)
        if found is None:
            sums = np.cumsum(tokens + 1, axis=1) % self.vocab_size
            found = np.asarray(self.logits[sums, tokens])
            found.flags.writeable = False
            if len(self._kept) < MOST_KEPT:
                self._kept[text] = found
        return found


VOCAB = 3
# Of some hundred pairs the one in which every known mistake shows in the fewest texts.
TARGET = WholeText(TableModel.random(VOCAB, 2, spread=1.3, seed=64))
DRAFT = WholeText(TableModel.random(VOCAB, 2, spread=0.8, seed=914))
PROMPT = (1, 0)
LONGER_PROMPT = (2, 0, 1)
# Two are equal, so that rows which share their noise show.
BATCH = ((1, 0), (2, 0, 1), (0, 2, 1, 1, 2), (1, 0))
LOOKAHEAD = 2
USUAL_LOOKAHEAD = 4  # where a function takes none, this many tokens are drafted, or about as many
DRAFT_TOKENS = 3
TEXT_TOKENS = 5
STOP_TOKEN = 2
TARGET_SHIFT, DRAFT_SHIFT = 1.5, 0.5  # of logits above the logarithms of chances


@dataclass(frozen=True, slots=True)
class Case:
    """Arguments of verify_speculation, as distributions.

    Attributes:
        p: of the target, [k + 1, vocab].
        q: of the draft model, [k, vocab].
    """

    p: HostFloats
    q: HostFloats

    @property
    def target_logits(self) -> np.ndarray:
        """float32 [k + 1, vocab]; not log p itself: a function that forgets the softmax shows."""
        return logits_of(self.p, TARGET_SHIFT)

    @property
    def draft_logits(self) -> np.ndarray:
        """float32 [k, vocab]."""
        return logits_of(self.q, DRAFT_SHIFT)


def logits_of(chances: HostFloats, shift: float) -> np.ndarray:
    """float32 logits of distributions; -inf where the chance is 0."""
    with np.errstate(divide="ignore"):
        return (np.log(chances) + shift).astype(np.float32)


# In each row some tokens are more probable in p, some in q, and no two known mistakes look alike.
SAMPLED = Case(
    p=np.array([[0.15, 0.15, 0.30, 0.40], [0.30, 0.35, 0.10, 0.25], [0.20, 0.10, 0.55, 0.15]]),
    q=np.array([[0.55, 0.25, 0.15, 0.05], [0.10, 0.20, 0.30, 0.40]]),
)


@dataclass(frozen=True, slots=True)
class Probe:
    """A case in which chance plays no part.

    Attributes:
        name: of the case, in words.
        accepted: how many draft tokens must be accepted.
        token: what must follow them.
    """

    name: str
    draft: tuple[int, ...]
    case: Case
    accepted: int
    token: int


def _hot(tokens: Sequence[int], rest: float) -> HostFloats:
    """Distributions over 4 tokens with nearly all mass on one each; `rest` is the mass of each other token."""
    rows = np.full((len(tokens), 4), rest)
    rows[range(len(tokens)), tokens] = 1 - 3 * rest
    return rows


def probes(rest: float) -> list[Probe]:
    """Cases with `rest` as the chance of every token but one. With 0 these are one-hot: greedy decoding."""

    def probe(name: str, draft: tuple[int, ...], target: tuple[int, ...], accepted: int) -> Probe:
        return Probe(name, draft, Case(_hot(target, rest), _hot(draft, rest)), accepted, target[accepted])

    return [
        probe("every draft token is what the target says", (1, 2), (1, 2, 3), 2),
        probe("the first draft token is impossible", (1, 2), (3, 2, 0), 0),
        probe("the second draft token is impossible", (1, 2), (1, 0, 3), 1),
        probe("the second of three draft tokens is impossible", (2, 0, 1), (2, 3, 1, 0), 1),
        probe("the third draft token is impossible", (2, 0, 1), (2, 0, 3, 1), 2),
    ]


NEARLY_SURE = 1e-13  # the chance of an unlikely token in the probes that are not greedy

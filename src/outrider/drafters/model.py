"""The model drafter: a smaller model of the same vocabulary."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from outrider.drafters.base import DraftedSequence, Drafter, Reading
from outrider.errors import SettingError
from outrider.maths.arrays import Array, columns, float32, stack
from outrider.maths.budget import Budget
from outrider.maths.draft import EMPTY, Draft
from outrider.maths.draws import draw, draw_shared, probability
from outrider.maths.sampling import adjust, distribution, log_probabilities, most_probable
from outrider.runtimes.base import LAST_KEPT, Model, Pass, Session, prefill
from outrider.runtimes.loading import as_model


@dataclass(slots=True)
class _Row:
    """A row of the draft session, and what was fed to it tentatively since the last `keep`: (token, parent)."""

    number: int
    fed: list[tuple[int, int]] = field(default_factory=list)

    def feed_chain(self, tokens: Sequence[int]) -> None:
        """Tokens that go on from the newest one."""
        for token in tokens:
            self.fed.append((token, len(self.fed) - 1))

    def agreeing_path(self, tokens: Sequence[int]) -> list[int]:
        """The path through what was fed that follows `tokens` as far as it can."""
        path: list[int] = []
        above = LAST_KEPT
        for token in tokens:
            node = next((node for node, fed in enumerate(self.fed) if fed == (token, above)), None)
            if node is None:
                break
            path.append(node)
            above = node
        return path


@dataclass(slots=True)
class _Growing:
    """A draft while it grows."""

    sequence: DraftedSequence
    row: _Row
    lookahead: int
    feed: list[int]
    tokens: list[int] = field(default_factory=list)
    q: list[Array] = field(default_factory=list)
    survival: float = 1.0


class ModelDrafter(Drafter):
    """Drafts with another model, by the same sampling settings as the target's.

    It catches up by itself: each call compares what its cache was fed with what was emitted, keeps what agrees, drops
    the rest and feeds what is missing, whether rounds were skipped or a draft was accepted in full.

    Args:
        model: the draft model, in any form that `as_model` takes: a Model, a name or path, a model of transformers ...
        greedy: always draft the most probable token, with a one-hot q, even where the target samples.
        min_survival: drafting stops after a token with which the product of the probabilities that the draft model
            gives its own tokens falls below this; 0 drafts as far as the lookahead goes. The token stays in the draft:
            to look at it and leave it out would change the distribution of the output (see `block` in verification.py
            for why stopping after it does not).
        name: what its tokens are attributed to.

    Raises:
        SettingError: min_survival is not within 0 to 1.
    """

    def __init__(self, model: Any, *, greedy: bool = False, min_survival: float = 0.0, name: str = "model") -> None:
        if not 0 <= min_survival <= 1:
            raise SettingError(f"min_survival is {min_survival}: it must lie within 0 to 1")
        self.model: Model = as_model(model)
        self.greedy = greedy
        self.min_survival = min_survival
        self.name = name
        self._session: Session | None = None
        self._capacity = 0
        self._vocab_size = self.model.traits.vocab_size
        self._rows: dict[int, _Row] = {}

    @property
    def _room_for_branches(self) -> int:
        """Tentative tokens of a row that will not stay, beside those that may."""
        return 0

    def prepare(self, rows: int, capacity: int, vocab_size: int) -> None:
        self._capacity = min(capacity, self.model.traits.context_length)
        self._session = self.model.open(rows, self._capacity + self._room_for_branches)
        self._vocab_size = vocab_size
        self._rows = {}

    @property
    def bytes_per_token(self) -> int:  # type: ignore[override]
        return self.model.traits.bytes_per_token

    def read(self, sequences: Sequence[DraftedSequence], readings: Sequence[Reading]) -> None:
        prefilled = [place for place, reading in enumerate(readings) if reading.prefilled]
        if prefilled:
            self._read_along(
                [sequences[place] for place in prefilled], [readings[place].prefilled for place in prefilled]
            )

    def _read_along(self, sequences: Sequence[DraftedSequence], counts: Sequence[int]) -> None:
        """The next `counts` tokens of each prompt."""
        session = self._opened()
        rows = [self._row_of(sequence).number for sequence in sequences]
        pieces = []
        for row, sequence, count in zip(rows, sequences, counts, strict=True):
            held = session.length(row)
            session.truncate(row, held)  # of a round that was interrupted
            self._row_of(sequence).fed = []
            pieces.append(self._context(sequence)[held : min(held + count, self._capacity)])
        fed = [place for place, piece in enumerate(pieces) if piece]
        if fed:
            session.extend(
                Pass([rows[place] for place in fed], [pieces[place] for place in fed], wanted=[0] * len(fed))
            )
            for place in fed:
                session.keep(rows[place], range(len(pieces[place])))

    def propose(self, sequences: Sequence[DraftedSequence], budgets: Sequence[Budget]) -> list[Draft]:
        growing: list[_Growing | None] = []
        for sequence, budget in zip(sequences, budgets, strict=True):
            context = self._context(sequence) if budget.longest > 0 else ()
            # The newest draft token is never fed, so that a draft of k needs room for k - 1 more.
            room = self._capacity - len(context) + 1
            if not context or room <= 0:
                growing.append(None)
            else:
                row = self._row_of(sequence)
                growing.append(_Growing(sequence, row, min(budget.longest, room), self._catch_up(row, context)))
        active = [draft for draft in growing if draft is not None]
        if self._may_roll_out(active):
            self._roll_out(active)
            active = [draft for draft in active if not self._is_complete(draft)]
        while active:
            self._grow(active)
            active = [draft for draft in active if not self._is_complete(draft)]
        return [EMPTY if draft is None else self._finished(draft) for draft in growing]

    def forget(self, sequence: DraftedSequence) -> None:
        if sequence.id in self._rows:
            self._opened().release(self._rows[sequence.id].number)
            del self._rows[sequence.id]

    # What a drafter whose model has another tokenizer does otherwise:

    def _context(self, sequence: DraftedSequence) -> Sequence[int]:
        """The text so far in the draft model's tokens; empty where nothing can be drafted from it."""
        return sequence.tokens

    def _logits_of(self, logits: Array) -> Array:
        """The draft model's logits, float32 [rows, its vocabulary], over the vocabulary that it drafts in."""
        return _fit(logits, self._vocab_size)

    def _fed_as(self, token: int) -> int:
        """What the draft model calls a token that it drafted."""
        return token

    def _is_complete(self, draft: _Growing) -> bool:
        return len(draft.tokens) >= draft.lookahead or draft.survival < self.min_survival

    def _opened(self) -> Session:
        assert self._session is not None, "prepare() comes before propose()"
        return self._session

    def _row_of(self, sequence: DraftedSequence) -> _Row:
        if sequence.id not in self._rows:
            taken = {row.number for row in self._rows.values()}
            free = next(number for number in range(self._opened().rows) if number not in taken)
            self._rows[sequence.id] = _Row(free)
        return self._rows[sequence.id]

    def _catch_up(self, row: _Row, tokens: Sequence[int]) -> list[int]:
        """Make the cache hold a beginning of `tokens`; return what is still to be fed (at least one token)."""
        session = self._opened()
        emitted = tokens[session.length(row.number) :]
        agreed = row.agreeing_path(emitted[:-1])
        row.fed = []
        session.keep(row.number, agreed)
        return prefill(session, row.number, emitted[len(agreed) :])

    def _may_roll_out(self, active: Sequence[_Growing]) -> bool:
        """Whether all drafts take the most probable token each time, which a session may find by itself."""
        return (
            bool(active)
            and type(self) is ModelDrafter  # others may choose, or name, their tokens otherwise
            and self.min_survival == 0
            and all(
                (self.greedy or draft.sequence.sampling.greedy) and not draft.sequence.sampling.adjusts_logits
                for draft in active
            )
        )

    def _roll_out(self, active: Sequence[_Growing]) -> None:
        """As many tokens as the shortest draft takes, for each draft."""
        count = min(draft.lookahead for draft in active)
        rows, feeds = [draft.row.number for draft in active], [draft.feed for draft in active]
        rolled = self._opened().rollout(rows, feeds, count, self._vocab_size)
        for draft, tokens in zip(active, rolled, strict=True):
            draft.row.feed_chain([*draft.feed, *tokens[:-1]])
            draft.tokens.extend(tokens)
            draft.feed = tokens[-1:]

    def _grow(self, active: Sequence[_Growing]) -> None:
        """One more token for each draft, in one forward pass."""
        work = Pass([draft.row.number for draft in active], [draft.feed for draft in active], wanted=[1] * len(active))
        logits = self._opened().extend(work).logits
        logits = float32(logits)
        for index, draft in enumerate(active):
            draft.row.feed_chain(draft.feed)
            token = self._choose(draft, self._logits_of(logits[index : index + 1]))
            draft.tokens.append(token)
            draft.feed = [self._fed_as(token)]

    def _choose(self, draft: _Growing, logits: Array) -> int:
        sampling = draft.sequence.sampling
        logits = adjust(logits, sampling, draft.sequence.history, [draft.tokens])
        if sampling.greedy or self.greedy:
            token = int(most_probable(logits)[0])
            if self.min_survival:
                draft.survival *= math.exp(log_probabilities(logits, [0], [token])[0])
            return token
        q = distribution(logits, sampling)[0]
        draft.q.append(q)
        position = len(draft.sequence.tokens) + len(draft.tokens)
        noise = draft.sequence.noise
        token = (draw_shared if noise.shared else draw)(q, noise.draft(position))
        if self.min_survival:
            draft.survival *= probability(q, token)
        return token

    def _finished(self, draft: _Growing) -> Draft:
        q = stack(draft.q) if draft.q else None
        return Draft(tuple(draft.tokens), q=q, source=self.name)


def _fit(logits: Array, vocab_size: int) -> Array:
    """Logits as wide as the target's vocabulary: models of one tokenizer pad it to different widths."""
    width = logits.shape[-1]
    if width > vocab_size:
        return logits[:, :vocab_size]
    if width < vocab_size:
        tokens = np.arange(vocab_size)
        return columns(logits, np.where(tokens < width, tokens, -1), -math.inf)
    return logits

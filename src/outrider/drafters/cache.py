"""A draft model's KV cache, which catches up with the texts by itself.

Drafters compose it: chains, trees and drafts across tokenizers feed different tokens, but catch up in the same way.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from outrider.drafters.base import DraftedSequence, Drafter, Reading
from outrider.drafters.vocabulary import SameVocabulary, VocabularyMap
from outrider.maths.arrays import Array, float32
from outrider.runtimes.base import LAST_KEPT, Draws, DrawsOut, Model, Pass, Session, prefill
from outrider.runtimes.growing import Grown, GrowsTrees, TreePlan, fed_in
from outrider.runtimes.prefixes import Owned, Prefixes, common_length


@dataclass(slots=True, eq=False)
class CachedRow:
    """One text in the cache.

    Attributes:
        number: of the session's row.
        text: what the row followed last; its permanent part is a beginning of this.
        isolation: of the sequence.
        fed: tokens fed tentatively since, with the number of the one that each follows.
        feed: what the next pass feeds.
        parents: of these, as in `Pass`; None goes on from the newest.
    """

    number: int
    text: Sequence[int] = ()
    isolation: Hashable | None = None
    fed: list[tuple[int, int]] = field(default_factory=list)
    feed: list[int] = field(default_factory=list)
    parents: list[int] | None = None

    def count_fed(self, tokens: Sequence[int], parents: Sequence[int] | None = None) -> None:
        first = len(self.fed)
        above = range(first - 1, first - 1 + len(tokens)) if parents is None else parents
        self.fed += zip(tokens, above, strict=True)

    def agreeing_path(self, tokens: Sequence[int]) -> list[int]:
        """The path through what was fed tentatively that follows `tokens` as far as it can."""
        path: list[int] = []
        above = LAST_KEPT
        for token in tokens:
            node = next((node for node, fed in enumerate(self.fed) if fed == (token, above)), None)
            if node is None:
                break
            path.append(node)
            above = node
        return path


class DraftCache:
    """The session of a draft model, one row for each sequence that it drafts for.

    It needs no verdicts. `follow` compares the tokens that a row was fed with those that were emitted, keeps their
    common prefix, drops the rest and says which tokens are missing. So it catches up after skipped rounds and full
    acceptance. Rows of texts that have ended are kept for texts that begin the same way.

    Args:
        model: the draft model.
        vocabulary: default that of the target.
        branches: tentative tokens of a row that will not stay, beside those that may: room for trees.

    Attributes:
        capacity: tokens of a text that a row holds.
        rows: of each sequence.
        session: None before `open`.
        prefixes: its rows that are kept.
        draws_out: whether the session draws drafts by itself, of all its rows.
    """

    def __init__(self, model: Model, vocabulary: VocabularyMap | None = None, branches: int = 0) -> None:
        self.model = model
        self.vocabulary: VocabularyMap = SameVocabulary(model.traits.vocab_size) if vocabulary is None else vocabulary
        self.branches = branches
        self.capacity = 0
        self.rows: dict[int, CachedRow] = {}
        self.session: Session | None = None
        self.draws_out = False

    @property
    def bytes_per_token(self) -> int:
        """Of memory, for each token of the target."""
        return self.model.traits.bytes_per_token * self.vocabulary.room

    def open(self, rows: int, capacity: int, vocab_size: int) -> None:
        """As `Drafter.prepare`."""
        self.vocabulary.open(vocab_size)
        self.capacity = min(capacity * self.vocabulary.room, self.model.traits.context_length)
        session = self.session = self.model.open(rows, self.capacity + self.branches)
        fits = self.model.traits.vocab_size >= self.vocabulary.shared_ids > 0
        self.draws_out = fits and isinstance(session, DrawsOut) and rows <= session.most_drawn
        self.prefixes = Prefixes(self.session, self.model.traits)
        self.rows = {}

    def room(self, text: Sequence[int]) -> int:
        """How long a draft after this text may become. The newest token of a draft is never fed."""
        return self.capacity - len(text) + 1 if text else 0

    def follow(self, sequence: DraftedSequence, text: Sequence[int]) -> CachedRow:
        """The row of a sequence, its permanent part a beginning of the text, with what is missing to be fed.

        At least one token is to be fed: its logits are wanted.

        Args:
            text: as the vocabulary tells it, with room left.
        """
        session = self._opened()
        row = self._agreeing(sequence, text, len(text) - 1)
        missing = text[session.length(row.number) :]
        path = row.agreeing_path(missing[:-1])
        row.fed = []
        session.keep(row.number, path)
        row.feed = prefill(session, row.number, missing[len(path) :])
        row.parents = None
        return row

    def score(self, rows: Sequence[CachedRow], wanted: Sequence[int] | None = None) -> Array:
        """Feed what the rows have to feed, in one forward pass.

        Args:
            wanted: how many of the last tokens of each row the logits are wanted of; None is 1.

        Returns:
            float32 [sum of wanted, vocabulary that is drafted in].
        """
        parents = None if all(row.parents is None for row in rows) else [row.parents for row in rows]
        work = Pass([row.number for row in rows], [row.feed for row in rows], parents, wanted or [1] * len(rows))
        logits = self._opened().extend(work).logits
        for row in rows:
            row.count_fed(row.feed, row.parents)
            row.feed, row.parents = [], None
        return self.vocabulary.logits(float32(logits))

    def roll_out(self, rows: Sequence[CachedRow], count: int) -> list[list[int]]:
        """Feed what the rows have to feed, and then, again and again, the most probable next token.

        Only for rows that were fed chains, and where the vocabulary has `shared_ids`.

        Returns:
            for each row `count` tokens; the newest is to be fed next.
        """
        feeds = [row.feed for row in rows]
        numbers = [row.number for row in rows]
        drafted = self._opened().rollout(numbers, feeds, count, self.vocabulary.shared_ids)
        self._count_rolled(rows, drafted)
        return drafted

    def _count_rolled(self, rows: Sequence[CachedRow], drafted: Sequence[list[int]]) -> None:
        for row, tokens in zip(rows, drafted, strict=True):
            row.count_fed([*row.feed, *tokens[:-1]])
            row.feed = tokens[-1:]

    def draw_out(self, rows: Sequence[CachedRow], draws: Draws) -> tuple[list[list[int]], Array]:
        """As `roll_out`, with tokens that are drawn: where `draws_out`.

        Returns:
            the tokens, and what `DrawsOut.draw_out` returns beside them.
        """
        session = self._opened()
        assert isinstance(session, DrawsOut)
        feeds = [row.feed for row in rows]
        drafted, q = session.draw_out([row.number for row in rows], feeds, draws, self.vocabulary.shared_ids)
        self._count_rolled(rows, drafted)
        return drafted, q

    def can_grow(self, plan: TreePlan) -> bool:
        """Whether the session grows these trees by itself."""
        session = self._opened()
        return self.draws_out and isinstance(session, GrowsTrees) and session.can_grow(plan, self.vocabulary.shared_ids)

    def grow_trees(self, rows: Sequence[CachedRow], plan: TreePlan) -> Grown:
        """Feed what the rows have to feed, and grow trees: where it `can_grow`."""
        session = self._opened()
        assert isinstance(session, GrowsTrees)
        feeds = [row.feed for row in rows]
        grown = session.grow_trees([row.number for row in rows], feeds, plan, self.vocabulary.shared_ids)
        for row, tokens, above in zip(rows, *fed_in(grown), strict=True):
            row.count_fed(row.feed)
            newest = len(row.fed) - 1
            row.count_fed(tokens, [newest + place if place >= 0 else LAST_KEPT for place in above])
            row.feed = []
        return grown

    def read_along(self, sequences: Sequence[DraftedSequence], readings: Sequence[Reading]) -> None:
        """Feed the prompts that the target read in rounds without a draft, all in one pass."""
        rows: list[CachedRow] = []
        pieces: list[Sequence[int]] = []
        session = self._opened()
        for sequence, reading in zip(sequences, readings, strict=True):
            if reading.prefilled:
                text = self.vocabulary.text(sequence)
                row = self._agreeing(sequence, text, len(text))
                held = session.length(row.number)
                row.fed = []
                session.truncate(row.number, held)  # of a round that was interrupted
                if piece := text[held : min(held + reading.prefilled, self.capacity)]:
                    rows.append(row)
                    pieces.append(piece)
        if rows:
            session.extend(Pass([row.number for row in rows], pieces, wanted=[0] * len(rows)))
            for row, piece in zip(rows, pieces, strict=True):
                session.keep(row.number, range(len(piece)))

    def forget(self, sequence: DraftedSequence) -> None:
        row = self.rows.get(sequence.id)
        if row is not None:
            self.prefixes.keep(row.number, Owned(row.text, row.isolation))
            del self.rows[sequence.id]
        self.vocabulary.forget(sequence)

    def _agreeing(self, sequence: DraftedSequence, text: Sequence[int], most: int) -> CachedRow:
        """The row of a sequence, cut where its permanent part is not a beginning of the text's first `most` tokens."""
        session = self._opened()
        row = self._row_of(sequence, text)
        if row.text is not text:
            held = session.length(row.number)
            agreed = min(common_length(row.text[:held], text), most)
            if agreed < held:
                row.fed = []
                session.truncate(row.number, agreed)
            row.text = text
        return row

    def _row_of(self, sequence: DraftedSequence, text: Sequence[int]) -> CachedRow:
        row = self.rows.get(sequence.id)
        if row is None:
            used = {row.number: Owned(row.text, row.isolation) for row in self.rows.values()}
            free = [number for number in range(self._opened().rows) if number not in used]
            prefix = self.prefixes.longest(Owned(text, sequence.isolation), used)
            number, _ = self.prefixes.place(prefix, prefix.length, free)
            row = self.rows[sequence.id] = CachedRow(number, text, sequence.isolation)
        return row

    def _opened(self) -> Session:
        assert self.session is not None, "prepare() comes before propose()"
        return self.session


class CachedDrafter(Drafter):
    """A drafter with a draft model that follows the texts: complete but for `propose`.

    Attributes:
        model: the draft model.
        cache: its session.
    """

    def __init__(self, cache: DraftCache, name: str) -> None:
        self.model = cache.model
        self.cache = cache
        self.name = name

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model.name})"

    @property
    def bytes_per_token(self) -> int:  # type: ignore[override]
        return self.cache.bytes_per_token

    def prepare(self, rows: int, capacity: int, vocab_size: int) -> None:
        self.cache.open(rows, capacity, vocab_size)

    def read(self, sequences: Sequence[DraftedSequence], readings: Sequence[Reading]) -> None:
        self.cache.read_along(sequences, readings)

    def forget(self, sequence: DraftedSequence) -> None:
        self.cache.forget(sequence)

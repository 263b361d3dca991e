"""What each row adds to a round: its pending token and a draft, or a piece of its prompt (chunked prefill)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from outrider.engine.guiding import Cut, cut
from outrider.engine.pace import ReadingPace
from outrider.engine.scheduler import reading_shares
from outrider.engine.sequence import ActiveSequence
from outrider.maths.budget import NO_BUDGET, Budget
from outrider.maths.draft import EMPTY, Draft
from outrider.runtimes.base import Session

READING_ALONE = 512  # prompt tokens per round while no row emits
READING_BESIDE_OTHERS = 128  # while other rows wait for their next token
SECONDS_ALONE, SECONDS_BESIDE_OTHERS = 1.0, 0.5  # the same, where passes are so slow that time counts


@dataclass(slots=True)
class Feed:
    """What one row feeds in a round (its scheduled tokens): tokens that the cache lacks, then a draft.

    Attributes:
        start: the position in the text of the first token.
        read: how many of the tokens are of the prompt, the pending one aside (prefill).
        budget: how much the drafter was allowed.
        draft: None while the prompt is not read to its end.
        forced: whether the draft comes from a grammar, and not from the drafter.
        cut: where a grammar left out tokens of the drafter's draft, what it left out.
        planned: whether the policy was asked about it.
        paused: whether the policy leaves the drafter out in this round.
    """

    sequence: ActiveSequence
    start: int
    tokens: list[int]
    read: int = 0
    budget: Budget = NO_BUDGET
    draft: Draft | None = None
    forced: bool = False
    cut: Cut | None = None
    planned: bool = False
    paused: bool = False

    @property
    def emits(self) -> bool:
        """Whether the round emits tokens for this row."""
        return self.draft is not None

    @property
    def proposed(self) -> Draft:
        return EMPTY if self.draft is None else self.draft

    @property
    def wanted(self) -> int:
        """How many of the last tokens are scored."""
        return 0 if self.draft is None else 1 + len(self.draft.tokens)

    @property
    def parents(self) -> list[int] | None:
        if self.draft is None or self.draft.parents is None:
            return None
        # The tokens that the cache lacks are a chain; the last of them is the root of the draft.
        first = len(self.tokens) - len(self.draft)
        return [node - 1 for node in range(first)] + [first + parent for parent in self.draft.parents]

    def path_of(self, nodes: Sequence[int]) -> list[int]:
        """The numbers of the fed tokens that are committed when these nodes of the draft are accepted."""
        first = len(self.tokens) - len(self.proposed.tokens)
        return [*range(first), *[first + node for node in nodes]]

    def add(self, budget: Budget, draft: Draft) -> None:
        """Add what the drafter proposed, as far as the grammar of the text allows it."""
        self.budget = budget
        self.cut = cut(draft, self.sequence)
        self._put(draft if self.cut is None else self.cut.draft)

    def force(self, draft: Draft) -> None:
        """Add the tokens that a grammar forces, as a draft."""
        self.forced = True
        self._put(draft)

    def _put(self, draft: Draft) -> None:
        self.draft = draft
        self.tokens.extend(draft.tokens)


def plan_feeds(active: Sequence[ActiveSequence], session: Session, pace: ReadingPace) -> list[Feed]:
    """What each row feeds: its pending token, or a piece of its prompt. Drafts are added later."""
    feeds, readers, unread = [], [], []
    for sequence in active:
        held = session.length(sequence.row)
        missing = len(sequence.tokens) - held
        if missing == 1:
            feed = Feed(sequence, held, [sequence.pending], draft=EMPTY)
        else:
            feed = Feed(sequence, held, [])
            readers.append(feed)
            unread.append(missing)
        feeds.append(feed)
    if readers:
        if len(readers) == len(feeds):
            budget = pace.tokens(READING_ALONE, SECONDS_ALONE)
        else:
            budget = pace.tokens(READING_BESIDE_OTHERS, SECONDS_BESIDE_OTHERS)
        for feed, missing, share in zip(readers, unread, reading_shares(unread, budget), strict=True):
            feed.tokens = feed.sequence.tokens[feed.start : feed.start + share]
            feed.read = min(share, missing - 1)
            feed.draft = EMPTY if share == missing else None
    return feeds

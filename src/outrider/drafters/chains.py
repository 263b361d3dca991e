"""How a draft model drafts chains: a token per pass, for all sequences at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from outrider.drafters.adjusting import adjusted
from outrider.drafters.base import DraftedSequence
from outrider.drafters.cache import CachedRow, DraftCache
from outrider.maths.arrays import Array, concatenate
from outrider.maths.budget import Budget
from outrider.maths.draft import EMPTY, Draft
from outrider.maths.draws import draw, draw_shared, probability
from outrider.maths.sampling import (
    SamplingParams,
    common_settings,
    distribution,
    live_rows,
    log_probabilities,
    most_probable,
)
from outrider.runtimes.base import Draws
from outrider.values import require_flag, share

MOST_PROBABLE = SamplingParams(temperature=0)
MOST_TOGETHER = 64  # tokens of a chain that are drawn at once: their distributions take memory


@dataclass(slots=True, eq=False)
class Chain:
    """A draft while it grows.

    Attributes:
        longest: the most tokens.
        room: how many its row would hold.
        sampling: the settings that its tokens are chosen or drawn by.
        chosen: whether they are the most probable ones, with a one-hot q, and not drawn.
        q: of the tokens that were drawn, the distributions, in pieces [tokens, vocab].
        survival: the product of the probabilities that the model gives the tokens, where drafting stops by it.
    """

    sequence: DraftedSequence
    row: CachedRow
    longest: int
    room: int
    sampling: SamplingParams
    chosen: bool
    tokens: list[int] = field(default_factory=list)
    q: list[Array] = field(default_factory=list)
    survival: float = 1.0

    @property
    def position(self) -> int:
        """Of the next token in its text."""
        return len(self.sequence.tokens) + len(self.tokens)

    @property
    def plain(self) -> bool:
        """Whether each token is the most probable by the model's own logits."""
        return self.chosen and not self.sampling.adjusts_logits


def never(token: int) -> bool:
    return False


class ChainGrower:
    """Grows chains.

    Args:
        cache: of the draft model.
        greedy: always take the most probable token, even where the target samples.
        min_survival: a chain ends after a token with which its survival falls below this.
        ends: tokens after which a chain ends.

    Raises:
        SettingError: min_survival is not within 0 to 1.
    """

    def __init__(
        self,
        cache: DraftCache,
        *,
        greedy: bool = False,
        min_survival: float = 0.0,
        ends: Callable[[int], bool] = never,
    ) -> None:
        require_flag("greedy", greedy)
        self._cache = cache
        self._greedy = greedy
        self._min_survival = share("min_survival", min_survival)
        self._ends = ends

    def grow(
        self,
        sequences: Sequence[DraftedSequence],
        budgets: Sequence[Budget],
        sampling: SamplingParams | None = None,
    ) -> list[Chain | None]:
        """A chain for each sequence; None where there is no budget, or nothing to draft from.

        Args:
            sampling: default the sequence's own settings.
        """
        chains = [self._begin(*pair, sampling) for pair in zip(sequences, budgets, strict=True)]
        active = [chain for chain in chains if chain is not None]
        while active:
            self._lengthen(active)
            active = [chain for chain in active if not self._is_complete(chain)]
        return chains

    def _begin(self, sequence: DraftedSequence, budget: Budget, sampling: SamplingParams | None) -> Chain | None:
        text = self._cache.vocabulary.text(sequence) if budget.longest > 0 else ()
        room = self._cache.room(text)
        longest = min(budget.longest, room)
        if longest <= 0:
            return None
        own = sequence.sampling if sampling is None else sampling
        return Chain(sequence, self._cache.follow(sequence, text), longest, room, own, self._greedy or own.greedy)

    def _is_complete(self, chain: Chain) -> bool:
        return len(chain.tokens) >= chain.longest or chain.survival < self._min_survival or self._ends(chain.tokens[-1])

    def _lengthen(self, active: Sequence[Chain]) -> None:
        """By one token in one pass, or by as many as the session can find by itself."""
        rows = [chain.row for chain in active]
        plain = all(chain.plain for chain in active)
        if not self._min_survival:
            if plain and self._cache.vocabulary.shared_ids:
                count = self._count_together(active)
                for chain, tokens in zip(active, self._cache.roll_out(rows, count), strict=True):
                    self._add_up_to_end(chain, tokens)
                return
            if self._cache.draws_out and not any(chain.sampling.adjusts_logits for chain in active):
                self._draw_out(active)
                return
        logits = self._cache.score(rows)
        common = common_settings([chain.sampling for chain in active])
        if plain:
            self._choose_most_probable(active, logits)
        elif common is None or any(chain.chosen for chain in active):
            for index, chain in enumerate(active):
                self._choose(chain, logits[index : index + 1])
        else:
            q = distribution(logits, common)
            for index, chain in enumerate(active):
                self._draw(chain, q[index])
        for chain in active:
            chain.row.feed = [self._cache.vocabulary.fed_as(token) for token in chain.tokens[-1:]]

    def _count_together(self, active: Sequence[Chain]) -> int:
        """How many tokens all chains get. Where the device rolls them out, waiting for the longest chain costs less
        than asking twice, as long as rows have room."""
        left = [chain.longest - len(chain.tokens) for chain in active]
        if not self._cache.draws_out:
            return min(left)
        return min(max(left), MOST_TOGETHER, *(chain.room - len(chain.tokens) for chain in active))

    def _draw_out(self, active: Sequence[Chain]) -> None:
        """The next tokens of all chains, drawn where the model runs.

        A call draws all of its tokens in one way. Those that share the target's noise are drawn by themselves: drawn as
        the others, they would seldom be what the target draws.
        """
        ways = {chain.sequence.noise.shared for chain in active if not chain.chosen}
        if len(ways) < 2:
            groups = [(True in ways, active)]
        else:
            groups = [(way, [chain for chain in active if chain.sequence.noise.shared is way]) for way in (False, True)]
        for number, (shared, chains) in enumerate(groups, start=1):
            self._draw_alike(chains, shared)
            if number < len(groups) or not all(map(self._is_complete, active)):  # the next call overwrites q
                for chain in chains:
                    chain.q[-1:] = [concatenate(chain.q[-1:])] if chain.q else []

    def _draw_alike(self, active: Sequence[Chain], shared: bool) -> None:
        count = self._count_together(active)
        keys = [[chain.sequence.noise.draft(chain.position + step) for step in range(count)] for chain in active]
        samplings = [MOST_PROBABLE if chain.chosen else chain.sampling for chain in active]
        draws = Draws(samplings, keys, shared)
        drafted, q = self._cache.draw_out([chain.row for chain in active], draws)
        for index, (chain, tokens) in enumerate(zip(active, drafted, strict=True)):
            before = len(chain.tokens)
            self._add_up_to_end(chain, tokens)
            if not chain.chosen:
                chain.q.append(q[: len(chain.tokens) - before, index])

    def _add_up_to_end(self, chain: Chain, tokens: Sequence[int]) -> None:
        for token in tokens[: chain.longest - len(chain.tokens)]:
            chain.tokens.append(token)
            if self._ends(token):
                return

    def _choose_most_probable(self, chains: Sequence[Chain], logits: Array) -> None:
        """The next token of every chain, by one operation over the logits [chains, vocab]."""
        tokens = most_probable(logits).tolist()
        for chain, token in zip(chains, tokens, strict=True):
            chain.tokens.append(token)
        if self._min_survival:
            logs = log_probabilities(logits, range(len(chains)), tokens)
            for chain, log in zip(chains, logs, strict=True):
                chain.survival *= math.exp(log)

    def _choose(self, chain: Chain, logits: Array) -> None:
        """The next token of one chain, by its settings."""
        logits = adjusted(logits, chain.sampling, chain.sequence.history, [chain.tokens])
        if chain.sampling.logits_processors and not live_rows(logits):
            chain.longest = len(chain.tokens)
            return
        if chain.chosen:
            self._choose_most_probable([chain], logits)
            return
        self._draw(chain, distribution(logits, chain.sampling)[0])

    def _draw(self, chain: Chain, q: Array) -> None:
        chain.q.append(q[None])
        noise = chain.sequence.noise
        key = noise.draft(chain.position)
        token = draw_shared(q, key) if noise.shared else draw(q, key)
        chain.tokens.append(token)
        if self._min_survival:
            chain.survival *= probability(q, token)


def draft_of(chain: Chain | None, source: str) -> Draft:
    """A chain as a draft, where its tokens are the target's."""
    if chain is None:
        return EMPTY
    if not chain.q:
        return Draft(tuple(chain.tokens), source=source)
    return Draft(tuple(chain.tokens), q=chain.q[0] if len(chain.q) == 1 else concatenate(chain.q), source=source)

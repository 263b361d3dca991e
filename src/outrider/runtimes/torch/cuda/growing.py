"""How trees grow on the device, level by level, without the host: `drafters/growth.py` for all rows at once.

Nothing is sorted: the rank of a candidate is how many others come before it. A level has as many places as `beam`;
those that the tree has no node for are empty, and are fed as padding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from outrider.maths.arrays.torch import exponential_of
from outrider.runtimes.growing import ABSENT, Spread
from outrider.runtimes.torch.cuda.areas import Area
from outrider.runtimes.torch.cuda.hashing import keys_of, scrambled
from outrider.runtimes.torch.cuda.places import WORD
from outrider.runtimes.torch.cuda.staging import Layout, Sections
from outrider.runtimes.torch.cuda.verdicts.settings import SETTINGS, Filters

BAD = -3  # in the place of a candidate: a logit is not finite
LARGEST_SHARE = 0.98  # of a corrected share, as in drafters/growth.py
AT_ONCE = 16  # rows of noise that are made together


@dataclass(frozen=True, slots=True)
class TreeLayout(Spread, Area):
    """What a level of a tree is captured for.

    Attributes:
        rows: with padding.
        widths, beam, fixed: as in `TreePlan`.
        steps: prices that each row has.
        drawn: whether any row draws.
        factors: shape of the corrections; empty where nothing is corrected.
        filters: what is done to logits.
    """

    floats: ClassVar[frozenset[str]] = frozenset({"settings", "least", "steps", "factors"})

    rows: int
    widths: tuple[int, ...]
    beam: int
    fixed: tuple[float, ...] | None
    steps: int
    drawn: bool
    factors: tuple[int, ...]
    filters: Filters

    @property
    def words(self) -> int:
        """Of 64 bits, for the ancestors of a node."""
        return max(-(-(self.places - 1) // WORD), 1)

    @property
    def batch(self) -> Layout:
        """Of the pass of a level."""
        return Layout(self.rows, self.beam, self.words)

    def level(self, number: int) -> slice:
        """The places whose nodes have their children on this level, counted from 0."""
        return slice(0, 1) if number == 0 else slice(1 + (number - 1) * self.beam, 1 + number * self.beam)

    @property
    def sizes(self) -> dict[str, tuple[int, ...]]:
        """What the host tells, in its order; numbers of rows, but for the last three."""
        each = (self.rows,)
        names = ("slots", "ends", "nodes", "depths", "chosen", "words", "positions", "lasts", "branches", "least")
        more = {"settings": (SETTINGS, self.rows), "steps": (self.rows, self.steps), "factors": self.factors}
        return dict.fromkeys(names, each) | {name: shape for name, shape in more.items() if shape}


class Trees:
    """The trees of all rows while they grow, at addresses that graphs know.

    Args:
        given: what the host tells, as `TreeLayout.sections` names it.

    Attributes:
        above: int64 [rows, places], as in `Grown`.
        tokens: int64 [rows, places, most children].
        probabilities: float64, of the same shape.
    """

    def __init__(self, layout: TreeLayout, given: dict[str, torch.Tensor], place: torch.device) -> None:
        self.layout = layout
        self._given = given
        table = (layout.rows, layout.places, layout.most_children)
        self.above = torch.full(table[:2], ABSENT, dtype=torch.int64, device=place)
        self.tokens = torch.zeros(table, dtype=torch.int64, device=place)
        self.probabilities = torch.zeros(table, dtype=torch.float64, device=place)
        self._chances = torch.full(table, -1.0, dtype=torch.float64, device=place)
        self._ancestors = torch.zeros(*table[:2], layout.words, dtype=torch.int64, device=place)
        fixed = layout.fixed
        self._fixed = None if fixed is None else torch.tensor(fixed, dtype=torch.float64, device=place)

    def settings(self, level: int) -> torch.Tensor:
        """float64 [SETTINGS, rows * places of the level]."""
        here, settings = self.layout.level(level), self._given["settings"]
        asked = here.stop - here.start
        return settings[:, :, None].expand(-1, -1, asked).reshape(SETTINGS, -1)

    def choosing(self, asked: int) -> torch.Tensor:
        """Of each place of a level whether its children are chosen, bool [rows * asked]."""
        chosen = self._given["chosen"] > 0
        return chosen[:, None].expand(-1, asked).reshape(-1)

    def begin(self) -> None:
        """Every tree begins with the text alone, if it may have a node."""
        first = torch.where(self._given["depths"] > 0, -1, ABSENT)
        self.above[:, 0].copy_(first)

    def draw(self, level: int, q: torch.Tensor, count: int) -> torch.Tensor:
        """The first `count` tokens of a race for each place of the level: draws without replacement.

        Args:
            q: float32 [rows * places, vocab].

        Returns:
            int64 [rows * places, count].
        """
        given = self._given
        words = scrambled(given["words"] ^ (given["positions"] + level))[:, None]
        last = given["lasts"][:, None] + self._branches(level) * given["branches"][:, None]
        keys = keys_of(scrambled(words ^ last)).reshape(-1, 2)
        found = [
            torch.topk(some / exponential_of(key, q.shape[-1]), count, dim=-1).indices
            for some, key in zip(torch.split(q, AT_ONCE), torch.split(keys, AT_ONCE), strict=True)
        ]
        return torch.cat(found)

    def _branches(self, level: int) -> torch.Tensor:
        """The branch in the key of each place: the number of its node among all that were opened, counted from 1; that
        of the text is 0. int64 [rows, places of the level]."""
        if not level:
            return torch.zeros_like(self.above[:, :1])
        opened = (self._chances >= 0).flatten(1).long()
        before = opened.cumsum(dim=-1) - opened
        return before.gather(1, self.above[:, self.layout.level(level)].clamp(min=0)) + 1

    def open(self, level: int, tokens: torch.Tensor, probabilities: torch.Tensor, good: torch.Tensor) -> None:
        """Add the children of the nodes of a level.

        Args:
            tokens: int64 [rows, places of the level, children].
            probabilities: float32, of the same shape, falling.
            good: bool [rows, places], whether all logits are finite.
        """
        here, count = self.layout.level(level), tokens.shape[-1]
        above = self.above[:, here]
        there = above != ABSENT
        shares = self._shares(level, probabilities.double())
        before = self._chances.flatten(1).gather(1, above.clamp(min=0)) if level else torch.ones_like(shares[..., 0])
        # Whatever rounding says, a parent and earlier siblings come first.
        chances = torch.minimum((before[..., None] * shares).cummin(dim=-1).values, before[..., None])
        exists = there[..., None] & (probabilities > 0)
        self._chances[:, here].fill_(-1.0)
        self._chances[:, here, :count] = chances.masked_fill(~exists, -1.0)
        self.tokens[:, here, :count] = tokens
        self.probabilities[:, here].fill_(0.0)
        self.probabilities[:, here, :count] = probabilities.double().masked_fill(~exists, 0.0)
        self.above[:, here] = torch.where(there & ~good, BAD, above)

    def _shares(self, level: int, probabilities: torch.Tensor) -> torch.Tensor:
        shares = probabilities
        if self._fixed is not None:
            shares = self._fixed[: probabilities.shape[-1]].expand_as(probabilities)
        if not self.layout.factors:
            return shares
        factors = self._given["factors"]  # [2, levels, 2, buckets]
        kinds, levels, ranks, buckets = factors.shape
        halvings = -torch.frexp(shares * shares).exponent.long()  # as drafters/lookup/calibration.py has it
        rank = torch.arange(shares.shape[-1], device=shares.device).clamp(max=ranks - 1)
        own = factors[:, min(level, levels - 1)].reshape(kinds, ranks * buckets)
        own = own.index_select(0, self._given["chosen"])  # [rows, ranks * buckets]
        at = rank * buckets + halvings.clamp(0, buckets - 1)
        factor = own.gather(1, at.flatten(1)).view_as(shares)
        return torch.where(factor > 0, (shares * factor).clamp(max=LARGEST_SHARE), shares)

    def plan(self, level: int, into: Sections, capacity: int, scratch: int) -> torch.Tensor:
        """Choose which nodes of the level have children, and stage the pass that reads them.

        Args:
            into: the numbers of the pass.
            capacity, scratch: of the cache of slots.

        Returns:
            int64 [rows, beam], for each node its parent's place within the level before.
        """
        asked = self._next(level)
        layout, given = self.layout, self._given
        here = layout.level(level + 1)
        there, at = asked >= 0, asked.clamp(min=0)
        parents = at // layout.most_children
        number = level * layout.beam + torch.arange(layout.beam, device=asked.device)  # behind the text
        bits = self._ancestors.gather(1, parents[..., None].expand(-1, -1, layout.words)) | self._own_bits(number)
        bits = bits.masked_fill(~there[..., None], 0)
        self.above[:, here] = asked
        self._ancestors[:, here] = bits
        ends, slots = given["ends"], given["slots"]
        place = (slots * capacity + ends)[:, None] + number
        into.tokens.copy_(self.tokens.flatten(1).gather(1, at).masked_fill(~there, 0).flatten())
        into.positions.copy_((ends + level)[:, None].expand_as(asked).flatten())
        into.places.copy_(torch.where(there, place, scratch).flatten())
        into.lengths.copy_(ends)
        into.slots.copy_(slots)
        into.scored.copy_(torch.arange(layout.batch.tokens, device=asked.device))
        into.ancestors.copy_(bits)
        within: torch.Tensor = parents - layout.level(level).start
        return within

    def _own_bits(self, number: torch.Tensor) -> torch.Tensor:
        """int64 [beam, words], the bit of each node."""
        words, number = torch.arange(self.layout.words, device=number.device), number[:, None]
        return torch.where(number // WORD == words, torch.ones_like(number) << number % WORD, 0)

    def _next(self, level: int) -> torch.Tensor:
        """The nodes of the level that have children, int64 [rows, beam]; see `Growth.next_level`."""
        layout, given = self.layout, self._given
        here, children = layout.level(level), layout.most_children
        chances = self._chances[:, : here.stop].flatten(1)  # [rows, candidates]
        kept, rank = self._within_budget(chances)
        kept, rank = kept[:, here.start * children :], rank[:, here.start * children :]
        kept = kept & (level + 1 < given["depths"])[:, None]
        place = (kept[:, None, :] & (rank[:, None, :] < rank[:, :, None])).sum(dim=-1)
        at = torch.where(kept & (place < layout.beam), place, layout.beam)
        numbers = torch.arange(here.start * children, here.stop * children, device=at.device).expand_as(at)
        asked = torch.full((len(at), layout.beam + 1), ABSENT, dtype=torch.int64, device=at.device)
        return asked.scatter(1, at, numbers)[:, : layout.beam]

    def _within_budget(self, chances: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Which candidates may have children, and the rank of each, [rows, candidates]."""
        given = self._given
        order = torch.arange(chances.shape[1], device=chances.device)
        likely = (chances >= given["least"][:, None]) & (chances >= 0)
        one, other = chances[:, :, None], chances[:, None, :]
        before = (other > one) | ((other == one) & (order < order[:, None]))
        rank = (before & likely[:, None, :]).sum(dim=-1)
        nodes = given["nodes"][:, None]
        kept = likely & (rank < nodes)
        if self.layout.steps:
            kept = kept & (chances > given["steps"].gather(1, rank.clamp(max=self.layout.steps - 1)))
        # No child of the last one has a larger chance than it, so none would stay.
        full = kept.sum(dim=-1, keepdim=True) == nodes
        last = torch.where(kept, rank, -1).amax(dim=-1, keepdim=True)
        return kept & ~(full & (rank == last)), rank

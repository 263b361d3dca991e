"""The numbers that a verdict needs from the host, in one area, which one copy brings to the device."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from outrider.runtimes.torch.cuda.areas import Area
from outrider.runtimes.torch.cuda.verdicts.settings import SETTINGS, Filters

PENALTIES = 3


class Kind(Enum):
    """How drafts are judged."""

    TOKEN = "token"  # chains
    BLOCK = "block"
    TREE = "tree"  # rule `token` on trees
    COUPLED = "coupled"


@dataclass(frozen=True, slots=True)
class VerdictLayout(Area):
    """The shape of a verdict: what is captured as one graph.

    Attributes:
        rows: drafts, with padding.
        scored: rows of logits.
        most: draft tokens, or trials, of each row.
        levels: of trees.
        siblings: the most trials of one parent.
        drawn: rows of q; 0 where every token was chosen.
        pairs: of a row and a token whose logit penalties change.
        filters: what is done to the logits.
    """

    floats: ClassVar[frozenset[str]] = frozenset({"settings", "accept", "next", "penalties", "biases"})

    kind: Kind
    rows: int
    scored: int
    most: int
    levels: int
    siblings: int
    drawn: int
    pairs: int
    filters: Filters

    @property
    def sizes(self) -> dict[str, tuple[int, ...]]:
        """The sections in their order."""
        each = (self.rows, self.most)
        sizes: dict[str, tuple[int, ...]] = {"settings": (SETTINGS, self.scored)}
        if self.pairs:
            sizes |= {"penalties": (PENALTIES, self.scored)}
            sizes |= dict.fromkeys(("places", "occurrences", "seen", "biases"), (self.pairs,))
        if self.kind is Kind.COUPLED:
            return sizes | {"keys": (self.scored, 2)}
        sizes |= {"first": (self.rows,), "tokens": each, "q_rows": each, "accept": each}
        if self.drawn:
            sizes |= {"q_from": (self.drawn,)}
        if self.kind is Kind.TREE:
            sizes |= {"parents": each, "nodes": each, "order": each}
            return sizes | {"next": (self.rows, self.levels + 1), "tried": (self.siblings, self.scored)}
        return sizes | {"counts": (self.rows,), "next": (self.rows, self.most + 1)}

    @property
    def results(self) -> int:
        """Numbers that the host reads."""
        return 2 * self.scored if self.kind is Kind.COUPLED else 2 * self.rows + self.scored


def padded(count: int) -> int:
    """The next power of 2, or 0: few shapes, so that each is soon captured."""
    return 1 << (count - 1).bit_length() if count else 0


def padded_draft(count: int) -> int:
    """The next of 0, 4, 8, 16, ...: places of a draft cost little, since it is short beside a vocabulary."""
    return max(padded(count), 4) if count else 0

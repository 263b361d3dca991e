"""A draft, the tokens that a drafter proposes in one round as a chain or as a tree; and the verdict on it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

from outrider.errors import InputError
from outrider.maths.arrays import Array

ROOT = -1  # the parent of a first token: the sequence's pending token
CHOSEN = -1  # in the place of a row of q: the token was chosen deterministically


class Trial(NamedTuple):
    """A child that rule `token` tries, and the row of q that it was drawn from, CHOSEN for a deterministic choice."""

    node: int
    q_row: int


@dataclass(frozen=True, slots=True)
class Draft:
    """Tokens proposed to continue one sequence.

    Contract: q is the very distribution from which the tokens were drawn. A drafter may look at a token that it drew
    and stop after it; it must not look at a token that it drew and leave it out. In a tree, whether to draw and from
    what may depend on all tokens drawn before, as long as those stay.

    Attributes:
        tokens: the proposed tokens; a parent always stands before its children.
        parents: for each token the index of its parent, ROOT for a child of the pending token. None is a chain.
        q: float32 [distributions, vocab], after the same sampling settings as the target's; None where every token
            was chosen deterministically (a one-hot q).
        q_rows: for each token the row of q that it was drawn from, CHOSEN for a token chosen deterministically. None
            means that token i was drawn from row i. Siblings that share a row were drawn from it without replacement,
            in the order in which they stand.
        source: the name of the drafter, for the trace.
        trials: for trees that several drafters made: all children in the order in which they are tried. A node occurs
            once for each time that its token was drawn: a token that was rejected and drawn again, from another q,
            changes the residual again. Replaces q_rows; None tries every node once.
        sources: for each token the names of the drafters that proposed it; None where all are of `source`.
        chances: for each token the drafter's own estimate, made before it was drawn, that it is accepted; None where
            it makes none.
        experience: hashes of what the drafter had learned from other texts when it was asked; empty where it learns
            nothing from them. The noise of the round is keyed by them: see `RoundNoise.knowing`.
        weighed: seconds of drafting that the drafter itself weighed against what they gain: no part of the prices that
            its budgets name.
    """

    tokens: tuple[int, ...] = ()
    parents: tuple[int, ...] | None = None
    q: Array | None = None
    q_rows: tuple[int, ...] | None = None
    source: str = ""
    trials: tuple[Trial, ...] | None = None
    sources: tuple[str, ...] | None = None
    chances: tuple[float, ...] | None = None
    experience: tuple[int, ...] = ()
    weighed: float = field(default=0.0, compare=False)
    _children: dict[int, list[int]] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        count = len(self.tokens)
        if self.parents is not None:
            if len(self.parents) != count:
                raise InputError(f"a draft of {count} tokens has {len(self.parents)} parents: give one per token")
            for node, parent in enumerate(self.parents):
                if not ROOT <= parent < node:
                    raise InputError(f"draft token {node} has parent {parent}: a parent stands before its child")
        if self.q_rows is not None and len(self.q_rows) != count:
            raise InputError(f"a draft of {count} tokens has {len(self.q_rows)} q rows: give one per token")
        if self.trials is not None:
            if {trial.node for trial in self.trials} != set(range(count)):
                raise InputError(f"a draft of {count} tokens has trials that are not of these: try every token")
        elif self.q is not None and self.q_rows is None and self.q.shape[0] < count:
            raise InputError(f"a draft of {count} tokens has {self.q.shape[0]} rows of q: give one per token")
        if self.sources is not None and len(self.sources) != count:
            raise InputError(f"a draft of {count} tokens has {len(self.sources)} sources: give one per token")
        if self.chances is not None and len(self.chances) != count:
            raise InputError(f"a draft of {count} tokens has {len(self.chances)} chances: give one per token")

    def __len__(self) -> int:
        return len(self.tokens)

    def knowing(self, experience: tuple[int, ...]) -> Draft:
        """The same draft, made with this experience besides."""
        return replace(self, experience=(*self.experience, *experience)) if experience else self

    @property
    def is_chain(self) -> bool:
        if self.trials is not None:
            return False
        return self.parents is None or all(parent == node - 1 for node, parent in enumerate(self.parents))

    @property
    def depths(self) -> tuple[int, ...]:
        """Of each node: how many draft tokens the path from the root to it holds, itself included."""
        if self.parents is None:
            return tuple(range(1, len(self.tokens) + 1))
        depths: list[int] = []
        for parent in self.parents:
            depths.append(1 if parent == ROOT else depths[parent] + 1)
        return tuple(depths)

    def parent(self, node: int) -> int:
        return node - 1 if self.parents is None else self.parents[node]

    def q_row(self, node: int) -> int:
        """The row of q that the token was drawn from; CHOSEN if it was chosen deterministically."""
        if self.q is None:
            return CHOSEN
        return node if self.q_rows is None else self.q_rows[node]

    def in_order(self) -> tuple[Trial, ...]:
        """All trials; those of one parent stand in the order in which they are tried."""
        if self.trials is not None:
            return self.trials
        return tuple([Trial(node, self.q_row(node)) for node in range(len(self.tokens))])

    @property
    def deepest(self) -> int:
        """The depth of the deepest node; 0 without any."""
        return len(self.tokens) if self.parents is None else max(self.depths, default=0)

    @property
    def all_parents(self) -> tuple[int, ...]:
        """Of each node: its parent."""
        return tuple(range(ROOT, len(self.tokens) - 1)) if self.parents is None else self.parents

    @property
    def all_sources(self) -> tuple[str, ...]:
        """Of each node: who proposed it."""
        return (self.source,) * len(self.tokens) if self.sources is None else self.sources

    def source_of(self, node: int) -> str:
        """Who proposed the token."""
        return self.source if self.sources is None else self.sources[node]

    def children(self, node: int) -> list[int]:
        """The children of `node` (or of ROOT), in the order in which they stand."""
        if self.parents is None:
            return [node + 1] if node + 1 < len(self.tokens) else []
        if not self._children and self.tokens:
            for child, parent in enumerate(self.parents):
                self._children.setdefault(parent, []).append(child)
        return self._children.get(node, [])

    def depth(self, node: int) -> int:
        """How many draft tokens the path from the root to `node` holds, itself included."""
        return len(self.path(node))

    def path(self, node: int) -> tuple[int, ...]:
        """The nodes from the root's child to `node`."""
        nodes = []
        while node != ROOT:
            nodes.append(node)
            node = self.parent(node)
        return tuple(reversed(nodes))


EMPTY = Draft()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a draft.

    Attributes:
        path: the accepted draft nodes, from the root's child on.
        token: the correction (after a rejection) or the bonus (after full acceptance); None only where everything was
            accepted and no target distribution was given for the position after it.
        bonus: whether the path ended at a node without children, so that nothing was rejected.
    """

    path: tuple[int, ...]
    token: int | None
    bonus: bool

    @property
    def accepted(self) -> int:
        """The number of accepted draft tokens."""
        return len(self.path)

    def emitted(self, draft: Draft) -> list[int]:
        """The accepted tokens of the draft, and the token after them where there is one."""
        accepted = [draft.tokens[node] for node in self.path]
        return accepted if self.token is None else [*accepted, self.token]

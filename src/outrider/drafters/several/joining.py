"""Several drafts for one text, joined into one tree: SpecInfer's merge, arXiv 2305.09781, section 3.2."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import zip_longest

from outrider.maths.arrays import Array, float32, stack
from outrider.maths.draft import CHOSEN, EMPTY, ROOT, Draft, Trial

NodeMap = dict[int, int]  # from a draft's own nodes to those of the joined one


def join(drafts: Sequence[Draft]) -> tuple[Draft, list[NodeMap]]:
    """One tree that holds every draft, each prefix once, and which of its nodes the nodes of each draft became.

    The drafts take turns, so that a beginning of the tree holds a beginning of each. At every node the children of the
    first draft are tried first, then those of the second, and so on. That is exact if each draft was drawn
    independently of those before it, or knowing them: on the way down, rule `token` looks at the second draft only
    where the first is exhausted, and never turns back.

    A token that two drafts drew from their own q is one node and two trials: the second one cannot succeed where the
    first failed, but its failure changes the residual, as that of any other draw would. A token that was chosen, not
    drawn, and has been tried before changes nothing and is left out.
    """
    maps: list[NodeMap] = [{ROOT: ROOT} for _ in drafts]
    if sum(len(draft) > 0 for draft in drafts) < 2:
        only = next((draft for draft in drafts if len(draft)), EMPTY)
        for draft, nodes in zip(drafts, maps, strict=True):
            nodes.update((node, node) for node in range(len(draft)))
        known = experience_of(drafts)
        return only if only.experience == known else replace(only, experience=known), maps
    tokens, parents = _shared_prefixes(drafts, maps)
    trials, q = _trials(drafts, maps)
    joined = Draft(
        tuple(tokens),
        tuple(parents),
        stack(q) if q else None,
        source="+".join(draft.source for draft in drafts if len(draft)),
        trials=tuple(trials),
        chances=_chances(drafts, maps, len(tokens)),
        sources=_sources(drafts, maps, len(tokens)),
        experience=experience_of(drafts),
    )
    return joined, maps


def experience_of(drafts: Iterable[Draft]) -> tuple[int, ...]:
    """What all of these had learned from other texts, the empty ones included: that they are empty tells of it too."""
    return tuple(each for draft in drafts for each in draft.experience)


def _shared_prefixes(drafts: Sequence[Draft], maps: Sequence[NodeMap]) -> tuple[list[int], list[int]]:
    """The tokens and parents of the joined tree; fills the maps."""
    tokens: list[int] = []
    parents: list[int] = []
    known: dict[tuple[int, int], int] = {}  # (parent, token) -> node
    for turn in zip_longest(*(range(len(draft)) for draft in drafts)):
        for draft, nodes, node in zip(drafts, maps, turn, strict=True):
            if node is None:
                continue
            parent, token = nodes[draft.parent(node)], draft.tokens[node]
            if (parent, token) not in known:
                known[parent, token] = len(tokens)
                tokens.append(token)
                parents.append(parent)
            nodes[node] = known[parent, token]
    return tokens, parents


def _chances(drafts: Sequence[Draft], maps: Sequence[NodeMap], count: int) -> tuple[float, ...] | None:
    """For each node the largest chance that a draft states; None where one states none."""
    chances = [0.0] * count
    for draft, nodes in zip(drafts, maps, strict=True):
        if len(draft) and draft.chances is None:
            return None
        for node, chance in enumerate(draft.chances or ()):
            chances[nodes[node]] = max(chances[nodes[node]], chance)
    return tuple(chances)


def _trials(drafts: Sequence[Draft], maps: Sequence[NodeMap]) -> tuple[list[Trial], list[Array]]:
    """The children in the order in which they are tried, and the rows of q that they were drawn from."""
    q: list[Array] = []
    trials: list[Trial] = []
    tried: set[int] = set()
    for draft, nodes in zip(drafts, maps, strict=True):
        for trial in draft.in_order():
            node = nodes[trial.node]
            if trial.q_row != CHOSEN:
                trials.append(Trial(node, len(q) + trial.q_row))
            elif node not in tried:
                trials.append(Trial(node, CHOSEN))
            tried.add(node)
        if draft.q is not None:
            like = q[0] if q else draft.q[0]
            q += [float32(draft.q[row], like=like) for row in range(draft.q.shape[0])]
    return trials, q


def _sources(drafts: Sequence[Draft], maps: Sequence[NodeMap], count: int) -> tuple[str, ...]:
    """For each node the drafters that proposed it."""
    names: list[list[str]] = [[] for _ in range(count)]
    for draft, nodes in zip(drafts, maps, strict=True):
        for node in range(len(draft)):
            names[nodes[node]].append(draft.source_of(node))
    return tuple("+".join(each) for each in names)

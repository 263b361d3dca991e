"""Several drafts for one text, joined into one tree: SpecInfer's merge, arXiv 2305.09781, section 3.2."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from outrider.maths.arrays import Array, float32, stack
from outrider.maths.draft import CHOSEN, EMPTY, ROOT, Draft, Trial

Places = dict[int, int]  # from a draft's own nodes to those of the joined one


def join(drafts: Sequence[Draft]) -> tuple[Draft, list[Places]]:
    """One tree that holds every draft, each prefix once, and where the nodes of each draft have gone.

    The drafts take turns, so that a beginning of the tree holds a beginning of each. At every node the children of the
    first draft are tried first, then those of the second, and so on. That is exact if each draft was drawn
    independently of those before it, or knowing them: on the way down, rule `token` looks at the second draft only
    where the first is exhausted, and never turns back.

    A token that two drafts drew from their own q is one node and two trials: the second one cannot succeed where the
    first failed, but its failure changes the residual, as that of any other draw would. A token that was chosen, not
    drawn, and has been tried before changes nothing and is left out.
    """
    places: list[Places] = [{ROOT: ROOT} for _ in drafts]
    if sum(len(draft) > 0 for draft in drafts) < 2:
        only = next((draft for draft in drafts if len(draft)), EMPTY)
        for draft, place in zip(drafts, places, strict=True):
            place.update((node, node) for node in range(len(draft)))
        return only, places
    tokens: list[int] = []
    parents: list[int] = []
    known: dict[tuple[int, int], int] = {}
    for turn in zip_longest(*(range(len(draft)) for draft in drafts)):
        for draft, place, node in zip(drafts, places, turn, strict=True):
            if node is None:
                continue
            parent, token = place[draft.parent(node)], draft.tokens[node]
            if (parent, token) not in known:
                known[parent, token] = len(tokens)
                tokens.append(token)
                parents.append(parent)
            place[node] = known[parent, token]
    rows: list[Array] = []
    trials: list[Trial] = []
    tried: set[int] = set()
    for draft, place in zip(drafts, places, strict=True):
        for trial in draft.in_order():
            node = place[trial.node]
            if trial.q_row != CHOSEN:
                trials.append(Trial(node, len(rows) + trial.q_row))
            elif node not in tried:
                trials.append(Trial(node, CHOSEN))
            tried.add(node)
        if draft.q is not None:
            like = rows[0] if rows else draft.q[0]
            rows += [float32(draft.q[row], like=like) for row in range(draft.q.shape[0])]
    return (
        Draft(
            tuple(tokens),
            tuple(parents),
            stack(rows) if rows else None,
            source="+".join(draft.source for draft in drafts if len(draft)),
            trials=tuple(trials),
            sources=_sources(drafts, places, len(tokens)),
        ),
        places,
    )


def _sources(drafts: Sequence[Draft], places: Sequence[Places], count: int) -> tuple[str, ...]:
    """For each node the drafters that proposed it."""
    names: list[list[str]] = [[] for _ in range(count)]
    for draft, place in zip(drafts, places, strict=True):
        for node in range(len(draft)):
            names[place[node]].append(draft.source_of(node))
    return tuple("+".join(each) for each in names)

"""What grammars add besides masks: forced tokens as drafts, and cuts of drafts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

from outrider.engine.sequence import ActiveSequence
from outrider.errors import InputError, shown
from outrider.maths.draft import ROOT, Draft, Verdict
from outrider.maths.processors import blamed_on
from outrider.values import is_whole

SOURCE = "grammar"
MOST_FORCED = 32  # tokens of a round; passes of more than 64 may be rounded otherwise


def forced_draft(sequence: ActiveSequence, vocab_size: int) -> Draft | None:
    """The tokens that a grammar leaves no choice about; None where there are none.

    They are accepted under every rule, since the target's distribution holds nothing else, and cost no drafter's time.

    Raises:
        InputError: a constraint of the caller's fails, or forces what is no token.
    """
    if not sequence.constraints:
        return None
    most = min(sequence.most_drafted, MOST_FORCED)
    if most <= 0:
        return None
    for constraint in sequence.constraints:
        with blamed_on("a constraint"):
            tokens = list(islice(constraint.forced(sequence.history.tokens), most))
        for token in tokens:
            if not (is_whole(token, 0) and token < vocab_size):
                raise InputError(f"a constraint forces {shown(token)}: this model has the tokens 0 to {vocab_size - 1}")
        if tokens:
            return Draft(tuple(map(int, tokens)), source=SOURCE, chances=(1.0,) * len(tokens))
    return None


class Cut:
    """A draft without the tokens that a grammar bans.

    Only drafts whose tokens were all chosen are cut: a token that was drawn may not be looked at and left out.

    Attributes:
        made: what the drafter proposed.
        draft: what is left of it.
    """

    def __init__(self, made: Draft, kept: Sequence[int]) -> None:
        self.made = made
        self._kept = tuple(kept)
        place = {node: index for index, node in enumerate(kept)} | {ROOT: ROOT}
        self.draft = replace(
            made,
            tokens=tuple([made.tokens[node] for node in kept]),
            parents=None if made.parents is None else tuple([place[made.parent(node)] for node in kept]),
            q_rows=None,
            trials=None,
            sources=None if made.sources is None else tuple([made.sources[node] for node in kept]),
            chances=None if made.chances is None else tuple([made.chances[node] for node in kept]),
        )

    def on_made(self, verdict: Verdict) -> Verdict:
        """The verdict, in the numbers of the draft that was made."""
        path = tuple([self._kept[node] for node in verdict.path])
        leaf = path[-1] if path else ROOT
        return Verdict(path, verdict.token, bonus=verdict.bonus and not self.made.children(leaf))


def cut(draft: Draft, sequence: ActiveSequence) -> Cut | None:
    """The draft as far as the grammars of its text go; None where nothing is to be left out.

    Raises:
        InputError: a constraint of the caller's fails.
    """
    if not sequence.constraints or draft.q is not None or not len(draft):
        return None
    kept: list[int] = []
    alive = {ROOT}
    for node in range(len(draft)):
        if draft.parent(node) not in alive:
            continue
        text = [*sequence.history.tokens, *(draft.tokens[each] for each in draft.path(node))]
        with blamed_on("a constraint"):
            admitted = all(constraint.admits(text) for constraint in sequence.constraints)
        if admitted:
            alive.add(node)
            kept.append(node)
    return None if len(kept) == len(draft) else Cut(draft, kept)

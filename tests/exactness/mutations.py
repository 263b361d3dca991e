"""Mistakes that speculative decoders are known to make, each to be planted by `with mistake():`."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from unittest.mock import patch

import numpy as np

from exactness.drafters import TreeDrafter
from outrider import (
    Draft,
    DraftedSequence,
    LookupDrafter,
    ModelDrafter,
    ModelTreeDrafter,
    SuffixDrafter,
    SuffixTreeDrafter,
)
from outrider.drafters.cache import DraftCache
from outrider.drafters.growth import Growth
from outrider.drafters.heads.growing import HeadGrower
from outrider.drafters.heads.network import HeadNetwork
from outrider.drafters.joint.compiled import CompiledJointTree
from outrider.drafters.joint.growth import JointTree
from outrider.drafters.several.joining import join
from outrider.engine.feeds import Feed
from outrider.maths.arrays import numpy as in_numpy
from outrider.maths.budget import FREE
from outrider.maths.distributions import Distributions, OnDemand
from outrider.maths.draft import EMPTY, Verdict
from outrider.maths.draws import draw, normalised
from outrider.maths.lessons import Lessons
from outrider.maths.noise import RoundNoise, key, uniform
from outrider.maths.rules import RULES, _block_residual
from outrider.maths.sampling import UNCHANGED, adjust, distribution
from outrider.runtimes.ledger import Ledger
from outrider.runtimes.stateless import StatelessSession

Mistake = Callable[[], AbstractContextManager]


# Drafting


def draft_drawn_at_another_temperature() -> AbstractContextManager:
    return patch("outrider.drafters.chains.draw", lambda q, key: draw(q**2, key))


def most_probable_token_drafted_as_if_sampled() -> AbstractContextManager:
    return patch("outrider.drafters.chains.draw", lambda q, key: int(q.argmax()))


@contextmanager
def drawn_token_left_out_when_it_is_token_0() -> Iterator[None]:
    propose = ModelDrafter.propose

    def choosy(self, sequences, budgets):
        drafts = []
        for draft in propose(self, sequences, budgets):
            kept = draft.tokens.index(0) if 0 in draft.tokens else len(draft)
            drafts.append(Draft(draft.tokens[:kept], q=draft.q[:kept] if kept else None))
        return drafts

    with patch.object(ModelDrafter, "propose", choosy):
        yield


def draft_cache_not_caught_up() -> AbstractContextManager:
    def feed_the_newest_token_only(self, sequence, text):
        row = self._row_of(sequence, text)
        self.session.keep(row.number, range(len(row.fed)))
        row.fed = []
        row.feed = list(text) if self.session.length(row.number) == 0 else [text[-1]]
        return row

    return patch.object(DraftCache, "follow", feed_the_newest_token_only)


@contextmanager
def children_drawn_with_replacement() -> Iterator[None]:
    def choose(self, q, noise, count):
        generator = np.random.default_rng(noise.view(np.uint32))
        return [int(token) for token in generator.choice(len(q), size=count, p=q / q.sum(dtype=float))]

    with patch.object(TreeDrafter, "choose_children", choose):
        yield


def tree_children_drawn_with_replacement() -> AbstractContextManager:
    """And judged as if without."""

    def draw_children(self, sequence, q, depth, node, count):
        position = len(sequence.tokens) + depth
        return [draw(q, sequence.noise.draft(position, branch=100 * (node + 1) + number)) for number in range(count)]

    return patch.object(ModelTreeDrafter, "_draw_children", draw_children)


def drawn_children_ranked_by_what_they_are() -> AbstractContextManager:
    """A token that was drawn and looked at falls out of the budget."""
    opened = Growth.open

    def open_by_tokens(self, node, tokens, shares, q=None):
        opened(self, node, tokens, shares if q is None else [q[token] for token in tokens], q)

    return patch.object(Growth, "open", open_by_tokens)


@contextmanager
def token_drawn_twice_tried_once() -> Iterator[None]:
    """By two drafters, from their own q each."""

    def join_dropping(drafts):
        joined, places = join(drafts)
        if joined.trials is not None:
            once = {trial.node: trial for trial in reversed(joined.trials)}
            order = [trial for place, trial in enumerate(joined.trials) if trial not in joined.trials[:place]]
            joined = replace(joined, trials=tuple(trial for trial in order if trial is once[trial.node]))
        return joined, places

    with patch("outrider.drafters.several.merged.join", join_dropping):
        yield


@contextmanager
def drawn_tokens_left_out_for_what_they_are() -> Iterator[None]:
    """Where a chosen token seems better."""

    def join_choosing(drafts):
        chosen = drafts[-1].tokens
        kept = [draft if draft.q is None or set(draft.tokens) & set(chosen) else EMPTY for draft in drafts]
        joined, places = join(kept)
        for draft, nodes in zip(drafts, places, strict=True):
            for node in range(len(draft)):
                nodes.setdefault(node, 0)
        return joined, places

    with patch("outrider.drafters.several.merged.join", join_choosing):
        yield


def drafters_share_their_draws() -> AbstractContextManager:
    return patch.object(RoundNoise, "of_drafter", lambda self, number: self)


# Trees in the cache


def siblings_seen_through_the_mask() -> AbstractContextManager:
    def context(self, row, node):
        return self._kept[row] + self._tentative[row][: node + 1]

    return patch.object(Ledger, "context", context)


@contextmanager
def nodes_placed_by_their_index() -> Iterator[None]:
    context = Ledger.context

    def shifted(self, row, node):
        tokens = context(self, row, node)
        late = node + 1 - len(self.ancestors(row, node))
        return [0] * late + tokens

    with patch.object(Ledger, "context", shifted):
        yield


# Noise


def next_token_drawn_with_the_drafts_noise() -> AbstractContextManager:
    return patch.object(RoundNoise, "next", lambda self, position: self.draft(position))


def acceptance_decided_by_the_drafts_noise() -> AbstractContextManager:
    def accept(self: RoundNoise, position: int, branch: int = 0) -> float:
        return uniform(self.draft(position))

    return patch.object(RoundNoise, "accept", accept)


@contextmanager
def one_uniform_for_the_whole_round() -> Iterator[None]:
    accept = RoundNoise.accept
    with patch.object(RoundNoise, "accept", lambda self, position, branch=0: accept(self, self.start)):
        yield


def round_start_left_out_of_the_key() -> AbstractContextManager:
    def without_start(seed, start, position, purpose, branch=0):
        return key(seed, 0, position, purpose, branch)

    return patch("outrider.maths.noise.key", without_start)


@contextmanager
def same_target_noise_at_every_position() -> Iterator[None]:
    target = RoundNoise.target
    with patch.object(RoundNoise, "target", lambda self, position: target(self, 0)):
        yield


# Verification


def residual_replaced_by_the_target() -> AbstractContextManager:
    return patch("outrider.maths.rules.residual", lambda p, q: p)


def residual_not_normalised() -> AbstractContextManager:
    def unless_of_q(weights, otherwise):
        return normalised(weights, otherwise) if otherwise is weights else weights

    return patch("outrider.maths.rules.normalised", unless_of_q)


def block_residual_replaced_by_the_target() -> AbstractContextManager:
    return patch("outrider.maths.rules._block_residual", lambda draft, p, accepted, reach: p[accepted])


def block_residual_of_the_token_rule() -> AbstractContextManager:
    return patch(
        "outrider.maths.rules._block_residual",
        lambda draft, p, accepted, reach: _block_residual(draft, p, accepted, 1.0),
    )


def sibling_judged_by_the_first_childs_q() -> AbstractContextManager:
    def q_of_first(draft, earlier, trial):
        return draft.q[trial.q_row]

    return patch("outrider.maths.rules._q_of_trial", q_of_first)


Judge = Callable[[Draft, Distributions, RoundNoise], Verdict]


def _rules_changed(change: Callable[[Judge], Judge]) -> AbstractContextManager:
    return patch.dict(RULES, {name: replace(rule, judge=change(rule.judge)) for name, rule in RULES.items()})


def bonus_drawn_from_q() -> AbstractContextManager:
    def change(judge: Judge) -> Judge:
        def changed(draft: Draft, p: Distributions, noise: RoundNoise) -> Verdict:
            verdict = judge(draft, p, noise)
            if not (verdict.bonus and len(draft)):
                return verdict
            token = draw(draft.q[-1], noise.next(noise.start + len(draft)))
            return Verdict(verdict.path, token, bonus=True)

        return changed

    return _rules_changed(change)


def bonus_drawn_from_the_row_before() -> AbstractContextManager:
    def change(judge: Judge) -> Judge:
        def changed(draft: Draft, p: Distributions, noise: RoundNoise) -> Verdict:
            last = len(p) - 1
            return judge(draft, OnDemand(len(p), lambda row: p[row - 1 if row == last > 0 else row]), noise)

        return changed

    return _rules_changed(change)


def rows_of_the_target_off_by_one() -> AbstractContextManager:
    def change(judge: Judge) -> Judge:
        return lambda draft, p, noise: judge(draft, OnDemand(len(p), lambda row: p[max(row - 1, 0)]), noise)

    return _rules_changed(change)


@contextmanager
def every_row_taken_for_the_one_made_first() -> Iterator[None]:
    made = OnDemand.__getitem__

    def first_made(self: OnDemand, row: int) -> np.ndarray:
        return made(self, next(iter(self._rows._made), row))

    with patch.object(OnDemand, "__getitem__", first_made):
        yield


def race_won_by_the_bound() -> AbstractContextManager:
    def winner(weights, key):
        return int((weights / -np.expm1(-in_numpy.exponential([key], len(weights), weights)[0])).argmax())

    return patch.object(in_numpy, "_winner", winner)


def longer_prefixes_given_up_where_the_draft_is_unlikely() -> AbstractContextManager:
    """As if no token to come could be likelier to the target than to the drafter."""
    return patch(
        "outrider.maths.rules._may_still_hold",
        lambda reach, q_to_come, uniforms: any(uniform_number < reach for uniform_number in uniforms),
    )


def penalties_forgotten_along_the_draft() -> AbstractContextManager:
    def forgetful(logits, sampling, history, paths):
        return adjust(logits, sampling, history, [()] * len(paths))

    return patch("outrider.engine.judgement.adjust", forgetful)


# The target's cache: that of the draft model is left alone.


@contextmanager
def _keep_changed(change: Callable[[StatelessSession, int, list[int]], list[int]]) -> Iterator[None]:
    keep = StatelessSession.keep

    def changed(self: StatelessSession, row: int, path) -> None:
        keep(self, row, change(self, row, list(path)) if self._model.name != "draft" else path)

    with patch.object(StatelessSession, "keep", changed):
        yield


@contextmanager
def cache_holds_another_token() -> Iterator[None]:
    """One too few would do no harm: the engine feeds what is missing."""
    keep = StatelessSession.keep

    def changed(self: StatelessSession, row: int, path) -> None:
        keep(self, row, path)
        if self._model.name != "draft" and path:
            self._ledger._kept[row][-1] = (self._ledger._kept[row][-1] + 1) % self._model.traits.vocab_size

    with patch.object(StatelessSession, "keep", changed):
        yield


def cache_keeps_a_rejected_token() -> AbstractContextManager:
    def greedy_path(session: StatelessSession, row: int, path: list[int]) -> list[int]:
        parents = list(session._ledger.parents(row))
        return [*path, parents.index(path[-1])] if path and path[-1] in parents else path

    return _keep_changed(greedy_path)


@contextmanager
def drawn_tokens_weighed_after_the_draw() -> Iterator[None]:
    with ExitStack() as stack:
        for kind in (SuffixDrafter, SuffixTreeDrafter):
            stack.enter_context(patch.object(kind, "propose", _weighing(kind.propose)))
        yield


def _weighing(propose: Callable[..., list[Draft]]) -> Callable[..., list[Draft]]:
    def weigh(self, sequences, budgets):
        drafts = propose(self, sequences, [budget._replace(prices=FREE) for budget in budgets])
        pairs = zip(drafts, budgets, strict=True)
        return [_cut(draft, budget.prices.worthwhile(draft.chances or ())) for draft, budget in pairs]

    return weigh


def _cut(draft: Draft, count: int) -> Draft:
    """The first tokens of a draft."""
    return replace(
        draft,
        tokens=draft.tokens[:count],
        parents=None if draft.parents is None else draft.parents[:count],
        q=draft.q if count else None,
        q_rows=None if draft.q_rows is None or not count else draft.q_rows[:count],
        chances=(draft.chances or ())[:count],
    )


def experience_left_out_of_the_key() -> AbstractContextManager:
    """A text and the draft that is copied from an earlier one share their noise where they share a seed."""
    return patch.object(RoundNoise, "knowing", lambda noise, experience: noise)


def lessons_left_out_of_the_key() -> AbstractContextManager:
    """A text has the noise of an earlier one of its seed, from which drafter or policy learned how to draft."""
    return patch.object(Lessons, "total", lambda lessons, seed: 0)


def empty_drafts_without_experience() -> AbstractContextManager:
    """As if a drafter that proposes nothing had not looked at what it learned."""
    return patch.object(Draft, "knowing", lambda draft, experience: draft)


# Heads


@contextmanager
def head_exchanged_between_a_draw_and_its_q(after: HeadNetwork) -> Iterator[None]:
    """The token is of the head before, and q of the one after."""
    opened, drawn = HeadGrower._open_children, HeadGrower._draw_children
    late = {}  # what the head after says, by node

    def open_children(self, tree, probabilities, places, q=None):
        if q is not None:
            rows = distribution(after.logits(tree.states), UNCHANGED)
            late.update({node: self._vocabulary.spread(row) for node, row in zip(tree.asked, rows, strict=True)})
        opened(self, tree, probabilities, places, q)

    def draw_children(self, tree, q, node, count):
        tokens = drawn(self, tree, q, node, count)
        q[...] = late[node]
        return tokens

    with (
        patch.object(HeadGrower, "_open_children", open_children),
        patch.object(HeadGrower, "_draw_children", draw_children),
    ):
        yield


@contextmanager
def drawn_token_0_dropped_from_the_tree() -> Iterator[None]:
    """What was drawn is looked at, and left out for what it is."""
    with ExitStack() as stack:
        for kind in (JointTree, CompiledJointTree):
            stack.enter_context(patch.object(kind, "drew", _dropping(kind.drew)))
        yield


def _dropping(drew: Callable[..., None]) -> Callable[..., None]:
    def drop(self, node, token, q):
        if token != 0:
            drew(self, node, token, q)

    return drop


def leftover_q_not_renormalised() -> AbstractContextManager:
    """q of a child that is drawn after its siblings."""
    return patch("outrider.drafters.joint.questions.normalised", lambda weights, otherwise: weights)


# Lookups


def _lookups_changed(change: Callable[[Draft, DraftedSequence], Draft]) -> AbstractContextManager:
    propose = LookupDrafter.propose

    def changed(self, sequences, budgets):
        drafts = propose(self, sequences, budgets)
        return [change(draft, sequence) for draft, sequence in zip(drafts, sequences, strict=True)]

    return patch.object(LookupDrafter, "propose", changed)


def looked_up_tokens_said_to_be_drawn() -> AbstractContextManager:
    """With their own estimates as q."""

    def change(draft: Draft, sequence: DraftedSequence) -> Draft:
        if not len(draft):
            return draft
        q = np.full((len(draft), 1 + max(*draft.tokens, 5)), 0.5 / 5, dtype=np.float32)
        q[np.arange(len(draft)), draft.tokens] = 0.5
        return replace(draft, q=q, q_rows=tuple(range(len(draft))))

    return _lookups_changed(change)


def looked_up_where_it_will_be_accepted() -> AbstractContextManager:
    """A drafter that knows the numbers which its drafts are judged by."""

    def change(draft: Draft, sequence: DraftedSequence) -> Draft:
        noise = sequence.noise.knowing(draft.experience)
        return draft if noise.accept(len(sequence.tokens)) < 0.4 else Draft(experience=draft.experience)

    return _lookups_changed(change)


def rows_of_a_tree_taken_by_depth() -> AbstractContextManager:
    """The target's distribution after a node, from the first node that is as deep."""

    def change(judge: Judge) -> Judge:
        def changed(draft: Draft, p: Distributions, noise: RoundNoise) -> Verdict:
            depths = (0, *draft.depths)
            return judge(draft, OnDemand(len(p), lambda row: p[depths.index(depths[row])]), noise)

        return changed

    return _rules_changed(change)


@contextmanager
def tree_read_as_a_chain() -> Iterator[None]:
    """By the target alone: the rule judges it as a tree, and the cache keeps its path unchecked."""

    def keep_unchecked(self: Ledger, row: int, path) -> None:
        self._kept[row].extend(self._tentative[row][node] for node in path)
        self._drop_tentative(row)

    with patch.object(Feed, "parents", None), patch.object(Ledger, "keep", keep_unchecked):
        yield


def top_tokens_of_another_node() -> AbstractContextManager:
    """No mistake of the kind: what a drafter learns is its own affair."""
    return patch(
        "outrider.drafters.recycling.source._contexts",
        lambda sequence, reading, scored: [(0, token) for token in reading.tokens[-scored:]],
    )

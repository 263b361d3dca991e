"""The rules that decide which draft tokens stay: pure functions of (draft, target distributions, noise).

All are exact: whatever the drafter proposed, the emitted tokens have the target's distribution. They share a contract
(see draft.py): q is the distribution that the draft token was drawn from, and the draws for drafting, for acceptance
and for the next token are independent, except under `coupled`, where drafter and target share one draw on purpose.

Row 0 of the target distributions p predicts what follows the pending token, row i + 1 what follows draft node i.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Literal

import numpy as np

from outrider.errors import InputError, ModelError, SettingError, first_line, shown
from outrider.maths.arrays import Array, gather, multiply, positive_difference, sums, without
from outrider.maths.distributions import Distributions, Indexed
from outrider.maths.draft import CHOSEN, ROOT, Draft, Trial, Verdict
from outrider.maths.draws import draw, normalised, probability, residual
from outrider.maths.noise import RoundNoise

SURELY = 1 + 1e-4  # sums of float32 distributions are 1 up to rounding


def follow(draft: Draft, choices: Indexed[int]) -> Verdict:
    """Accept the path along which the draft agrees with the target's own choices.

    Args:
        choices: the target's choice after the pending token, then after each draft node. For a chain the last one may
            be missing.
    """
    path: list[int] = []
    node = ROOT
    while True:
        children = draft.children(node)
        if node + 1 >= len(choices):
            return Verdict(tuple(path), None, bonus=True)
        try:
            choice = int(choices[node + 1])
        except (InputError, ModelError):
            return _as_far_as_known(draft, path)
        for child in children:
            if draft.tokens[child] == choice:
                path.append(child)
                node = child
                break
        else:
            return Verdict(tuple(path), choice, bonus=not children)


def _as_far_as_known(draft: Draft, path: Sequence[int]) -> Verdict:
    """Where what follows the path cannot be read. A text that ends with it has no need of that; another one fails in
    the next round.

    Raises:
        InputError, ModelError: the one that is handled, where the path is empty.
    """
    if not path:
        raise
    return Verdict(tuple(path[:-1]), draft.tokens[path[-1]], bonus=False)


def coupled(draft: Draft, p: Distributions, noise: RoundNoise) -> Verdict:
    """The target draws by itself, argmax(log p + g) with Gumbel noise g keyed by position; agreement is acceptance.

    The output depends on nothing but the seed, the prompt and the target. It is exact for any draft; a drafter that
    draws with the same g agrees nearly as often as `token` accepts (arXiv 2408.07978 bounds the difference).
    """
    depths = (0, *draft.depths)
    return follow(draft, p.races(lambda row: noise.target(noise.start + depths[row])))


def token(draft: Draft, p: Distributions, noise: RoundNoise) -> Verdict:
    """Rejection sampling token by token: arXiv 2211.17192, algorithm 1, and arXiv 2302.01318; on trees the multi-step
    speculative sampling of SpecInfer, arXiv 2305.09781, section 4.3, for children drawn without replacement.

    A child x is accepted with probability min(1, p(x) / q(x)). After a rejection p becomes
    normalise(max(p - q, 0)) and q loses that child. Where no child is left, the next token is drawn from p.

    A token that several drafters drew is one node with a trial for each: once rejected it has no probability left, but
    the residual still has to account for the other q that it was drawn from.
    """
    trials = draft.in_order()
    tried_tokens = [draft.tokens[trial.node] for trial in trials]
    p_of_first = p.probabilities([draft.parent(trial.node) + 1 for trial in trials], tried_tokens)
    q_of_first = _q_of_trials(draft, trials)
    numbers_of: dict[int, list[int]] = {}
    for number, trial in enumerate(trials):
        numbers_of.setdefault(draft.parent(trial.node), []).append(number)
    path: list[int] = []
    node = ROOT
    while True:
        numbers = numbers_of.get(node, [])
        if node + 1 >= len(p):
            return Verdict(tuple(path), None, bonus=True)
        position = noise.start + len(path)
        try:
            target = weights = p[node + 1]
        except (InputError, ModelError):
            return _as_far_as_known(draft, path)
        accepted = None
        for order, number in enumerate(numbers):
            trial = trials[number]
            tried = tried_tokens[number]
            q = None
            if order == 0:
                p_of_child, q_of_child = p_of_first[number], q_of_first[number]
            else:
                target = normalised(weights, otherwise=target)
                q = _q_of_trial(draft, [trials[earlier] for earlier in numbers[:order]], trial)
                p_of_child = probability(target, tried)
                q_of_child = 1.0 if q is None else probability(q, tried)
            if noise.accept(position, branch=number) * q_of_child < p_of_child:
                accepted = trial.node
                break
            if order == 0 and trial.q_row != CHOSEN:
                q = draft.q[trial.q_row]  # type: ignore[index]
            weights = _left_by(target, tried, q)
        if accepted is None:
            return Verdict(tuple(path), draw(weights, noise.next(position), otherwise=target), bonus=not numbers)
        path.append(accepted)
        node = accepted


def block(draft: Draft, p: Distributions, noise: RoundNoise) -> Verdict:
    """Block verification (arXiv 2403.10444, algorithm 2): the draft is judged as a whole.

    It never accepts fewer tokens in expectation than `token`. With r_0 = 1 and r_i = min(1, r_(i-1) p_i / q_i) at the
    draft tokens, and s_i = sum over x of max(r_i p_(i+1)(x) - q_(i+1)(x), 0), prefix i holds with probability
    h_i = s_i / (s_i + 1 - r_i), the whole draft with h_k = r_k. The longest prefix that holds is accepted.

    A drafter may stop after a token that it has seen: the proof is a recursion over the tree of prefixes, whose leaves
    may lie at different depths.

    Raises:
        SettingError: the draft is a tree.
    """
    if not draft.is_chain:
        raise SettingError(f"rule block judges chains, and the draft is a tree: use rule {FOR_TREES} for trees")
    count = len(draft)
    p_of_draft = p.probabilities(range(count), draft.tokens)
    q_of_draft = _q_of_trials(draft, draft.in_order())
    uniforms = [noise.accept(noise.start + i) for i in range(count)]  # of prefix i + 1
    reach = [1.0]  # r_i
    while len(reach) <= count and _may_still_hold(reach[-1], q_of_draft[len(reach) - 1 :], uniforms[len(reach) - 1 :]):
        p_of_token, q_of_token = p_of_draft[len(reach) - 1], q_of_draft[len(reach) - 1]
        ratio = p_of_token / q_of_token if q_of_token > 0 else float(p_of_token > 0)
        reach.append(min(1.0, reach[-1] * ratio))
    for accepted in range(len(reach) - 1, 0, -1):
        uniform_number = uniforms[accepted - 1]
        at_most = reach[accepted] * SURELY  # h_i is at most r_i, and takes a sum over the vocabulary
        if uniform_number < at_most and uniform_number < _hold(draft, p, accepted, reach[accepted], p_of_draft):
            break
    else:
        accepted = 0
    path = tuple(range(accepted))
    if accepted == count:
        if count >= len(p):
            return Verdict(path, None, bonus=True)
        return Verdict(path, draw(p[count], noise.next(noise.start + count)), bonus=True)
    weights = _block_residual(draft, p, accepted, reach[accepted])
    return Verdict(path, draw(weights, noise.next(noise.start + accepted), otherwise=p[accepted]), bonus=False)


RuleName = Literal["token", "block", "coupled"]


@dataclass(frozen=True, slots=True)
class Rule:
    """How drafts are verified.

    Attributes:
        name: as in settings and traces.
        judge: from a draft, the target's distributions and the noise of the round to the verdict.
        shares_noise: whether drafter and target draw with the same noise, so that the output depends on nothing but the
            seed, the prompt and the target.
        judges_trees: whether drafts may be trees.
    """

    name: str
    judge: Callable[[Draft, Distributions, RoundNoise], Verdict] = field(repr=False)
    shares_noise: bool
    judges_trees: bool

    def __str__(self) -> str:
        return self.name

    def verdict(self, draft: Draft, p: Distributions, noise: RoundNoise) -> Verdict:
        """The verdict on a draft.

        Raises:
            InputError: a rule of the caller's own failed, or answered what is no verdict on this draft.
        """
        if RULES.get(self.name) is self:
            return self.judge(draft, p, noise)
        try:
            found = self.judge(draft, p, noise)
        except (InputError, ModelError):  # of what it read: a logit that is no number
            raise
        except Exception as error:
            raise InputError(f"rule {self.name} failed ({type(error).__name__}: {first_line(error)})") from error
        if not isinstance(found, Verdict) or not _is_way(draft, found.path) or not _follows(found, p):
            raise InputError(f"rule {self.name} returned {shown(found)}: return a Verdict on the draft")
        return found


RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule("token", token, shares_noise=False, judges_trees=True),
        Rule("block", block, shares_noise=False, judges_trees=False),
        Rule("coupled", coupled, shares_noise=True, judges_trees=True),
    )
}
FOR_TREES = " or ".join(rule.name for rule in RULES.values() if rule.judges_trees)


def _is_way(draft: Draft, path: Sequence[int]) -> bool:
    """Whether it leads through the draft, from the root on."""
    above = ROOT
    for node in path:
        if node not in range(len(draft)) or draft.parent(node) != above:
            return False
        above = node
    return True


def _follows(verdict: Verdict, p: Distributions) -> bool:
    """Whether its token can come after its path."""
    row = (verdict.path[-1] if verdict.path else ROOT) + 1
    if row >= len(p):
        return verdict.token is None
    return isinstance(verdict.token, Integral) and 0 <= verdict.token < p[row].shape[-1]


def rule_named(rule: str | Rule) -> Rule:
    """The rule of that name; a Rule as it is.

    Raises:
        SettingError: there is none.
    """
    if isinstance(rule, Rule):
        return rule
    if not isinstance(rule, str) or rule not in RULES:
        raise SettingError(f"rule {shown(rule)} is unknown: choose one of {', '.join(RULES)}")
    return RULES[rule]


def _q_of_trials(draft: Draft, trials: Sequence[Trial]) -> list[float]:
    """For each trial its token's draft probability, given that no sibling was tried before it."""
    q_of_trial = [1.0] * len(trials)
    drawn = [number for number, trial in enumerate(trials) if trial.q_row != CHOSEN]
    if drawn:
        rows = [trials[number].q_row for number in drawn]
        tokens = [draft.tokens[trials[number].node] for number in drawn]
        for number, q in zip(drawn, gather(draft.q, rows, tokens).tolist(), strict=True):
            q_of_trial[number] = q
    return q_of_trial


def _q_of_trial(draft: Draft, earlier: Sequence[Trial], trial: Trial) -> Array | None:
    """The distribution that a later child was drawn from: q without the earlier ones of its row, renormalised.

    None for a token chosen deterministically.
    """
    if trial.q_row == CHOSEN:
        return None
    q = draft.q[trial.q_row]  # type: ignore[index]
    taken = [draft.tokens[other.node] for other in earlier if other.q_row == trial.q_row]
    if not taken:
        return q
    left = without(q, taken)
    return normalised(left, otherwise=left)


def _left_by(target: Array, token: int, q: Array | None) -> Array:
    """What the target still wants after a rejection, as weights; q of None is a one-hot at the token."""
    return without(target, [token]) if q is None else residual(target, q)


def _may_still_hold(reach: float, q_to_come: Sequence[float], uniforms: Sequence[float]) -> bool:
    """Whether a longer prefix can hold under rule `block`, whatever p is at the tokens to come.

    h of a prefix is at most its r, which is at most the present r divided by the q of the tokens between.
    """
    most = reach * SURELY
    for q_of_token, uniform_number in zip(q_to_come, uniforms, strict=True):
        most = min(most / q_of_token, 1.0) if q_of_token > 0 else 1.0
        if uniform_number < most:
            return True
    return False


def _hold(draft: Draft, p: Distributions, i: int, reach: float, p_of_draft: Indexed[float]) -> float:
    """h_i, the probability with which prefix i holds."""
    if i == len(draft):
        return reach
    surplus = _surplus(draft, p, i, reach, p_of_draft)
    total = surplus + 1 - reach
    return surplus / total if total > 0 else 1.0


def _surplus(draft: Draft, p: Distributions, i: int, reach: float, p_of_draft: Indexed[float]) -> float:
    """s_i = sum over x of max(r_i p_(i+1)(x) - q_(i+1)(x), 0)."""
    if draft.q_row(i) == CHOSEN:
        # Where q is a one-hot at the draft token, r p exceeds it everywhere but there.
        return max(reach * (1 - p_of_draft[i]), 0.0)
    return float(sums(_beyond(draft, p, i, reach)))


def _block_residual(draft: Draft, p: Distributions, accepted: int, reach: float) -> Array:
    """max(r p - q, 0), as weights, at the first position that was not accepted."""
    if draft.q_row(accepted) == CHOSEN:
        return _left_by(p[accepted], draft.tokens[accepted], None)
    return _beyond(draft, p, accepted, reach)


def _beyond(draft: Draft, p: Distributions, i: int, reach: float) -> Array:
    return positive_difference(multiply(p[i], np.asarray(reach)), draft.q[draft.q_row(i)])  # type: ignore[index]

"""The rules that decide which draft tokens stay: pure functions of (draft, target distributions, noise).

All are exact: whatever the drafter proposed, the emitted tokens have the target's distribution. They share a contract
(see draft.py): q is the distribution that the draft token was drawn from, and the draws for drafting, for acceptance
and for the next token are independent, except under `coupled`, where drafter and target share one draw on purpose.

Row 0 of the target distributions p predicts what follows the pending token, row i + 1 what follows draft node i.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from outrider.arrays import Array, HostFloats, operations
from outrider.draft import CHOSEN, ROOT, Draft, Trial
from outrider.errors import SettingError
from outrider.noise import Key, RoundNoise, exponential, uniform


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


Rule = Callable[[Draft, Array, RoundNoise], Verdict]


def draw(weights: Array, key: Key) -> int:
    """One draw from the normalised weights, float32 [vocab]: the token at a uniform share of their sum."""
    return operations(weights).token_at(weights, uniform(key))


def draw_shared(weights: Array, key: Key) -> int:
    """One draw by the noise that drafter and target share under `coupled`: argmax(log weight + Gumbel noise)."""
    row = weights[None]
    return int(operations(row).race(row, exponential([key], row.shape[-1], row))[0])


def residual(p: Array, q: Array) -> Array:
    """normalise(max(p - q, 0)), float32 [vocab]; p itself where nothing is left, because p equals q up to rounding.

    The distribution of the correction: arXiv 2211.17192, section 2.3.
    """
    ops = operations(p)
    difference = ops.positive_difference(p, q)
    total = ops.sums(difference)
    return ops.divide(difference, total) if total > 0 else p


def follow(draft: Draft, choices: Sequence[int]) -> Verdict:
    """Accept the path along which the draft agrees with the target's own choices.

    Args:
        choices: the target's choice after the pending token, then after each draft node. A chain may lack the last.
    """
    path: list[int] = []
    node = ROOT
    while True:
        children = draft.children(node)
        if node + 1 >= len(choices):
            return Verdict(tuple(path), None, bonus=True)
        choice = int(choices[node + 1])
        agreeing = next((child for child in children if draft.tokens[child] == choice), None)
        if agreeing is None:
            return Verdict(tuple(path), choice, bonus=not children)
        path.append(agreeing)
        node = agreeing


def coupled(draft: Draft, p: Array, noise: RoundNoise) -> Verdict:
    """The target draws by itself, argmax(log p + g) with Gumbel noise g keyed by position; agreement is acceptance.

    The output depends on nothing but the seed, the prompt and the target. It is exact for any draft; a drafter that
    draws with the same g agrees nearly as often as `token` accepts (arXiv 2408.07978 bounds the difference).
    """
    positions = [noise.start] + [noise.start + depth for depth in draft.depths[: p.shape[0] - 1]]
    keys = [noise.target(position) for position in positions]
    choices = operations(p).race(p, exponential(keys, p.shape[-1], p))
    return follow(draft, choices.tolist())


def token(draft: Draft, p: Array, noise: RoundNoise) -> Verdict:
    """Token-wise rejection: arXiv 2211.17192, algorithm 1, and arXiv 2302.01318; on trees the multi-step
    speculative sampling of SpecInfer, arXiv 2305.09781, section 4.3, for children drawn without replacement.

    A child x is accepted with probability min(1, p(x) / q(x)). After a rejection p becomes
    normalise(max(p - q, 0)) and q loses that child. Where no child is left, the next token is drawn from p.

    A token that several drafters drew is one node and as many trials: rejected once, it has no probability left, but
    the residual still has to make up for the other q that it was drawn from.
    """
    trials = draft.in_order()
    p_of_first, q_of_first = _probabilities_of_trials(draft, trials, p)
    numbers_of: dict[int, list[int]] = {}
    for number, trial in enumerate(trials):
        numbers_of.setdefault(draft.parent(trial.node), []).append(number)
    path: list[int] = []
    node = ROOT
    while True:
        numbers = numbers_of.get(node, [])
        if node + 1 >= p.shape[0]:
            return Verdict(tuple(path), None, bonus=True)
        position = noise.start + len(path)
        target = p[node + 1]
        accepted = None
        for order, number in enumerate(numbers):
            trial = trials[number]
            tried = draft.tokens[trial.node]
            q = None
            if order == 0:
                p_of_child, q_of_child = p_of_first[number], q_of_first[number]
            else:
                q = _q_of_trial(draft, [trials[earlier] for earlier in numbers[:order]], trial)
                p_of_child = _probability(target, tried)
                q_of_child = 1.0 if q is None else _probability(q, tried)
            if noise.accept(position, branch=number) * q_of_child < p_of_child:
                accepted = trial.node
                break
            if order == 0 and trial.q_row != CHOSEN:
                q = draft.q[trial.q_row]  # type: ignore[index]
            target = _after_rejection(target, tried, q)
        if accepted is None:
            return Verdict(tuple(path), draw(target, noise.next(position)), bonus=not numbers)
        path.append(accepted)
        node = accepted


def block(draft: Draft, p: Array, noise: RoundNoise) -> Verdict:
    """Block verification (arXiv 2403.10444, algorithm 2): the draft is judged as a whole.

    It never accepts fewer tokens in expectation than `token`. With r_0 = 1 and r_i = min(1, r_(i-1) p_i / q_i) at the
    draft tokens, and s_i = sum over x of max(r_i p_(i+1)(x) - q_(i+1)(x), 0), prefix i is held good with probability
    h_i = s_i / (s_i + 1 - r_i), the whole draft with h_k = r_k. The longest prefix held good is accepted.

    A drafter may stop after a token that it has seen: the recursion behind the proof runs over the tree of prefixes,
    and its leaves may lie at different depths.

    Raises:
        SettingError: the draft is a tree.
    """
    if not draft.is_chain:
        raise SettingError("rule block judges chains, and the draft is a tree: use rule token or coupled for trees")
    count = len(draft)
    p_of_draft, q_of_draft = _probabilities_of_trials(draft, draft.in_order(), p)
    reach = [1.0]  # r_i
    for p_of_token, q_of_token in zip(p_of_draft, q_of_draft, strict=True):
        ratio = p_of_token / q_of_token if q_of_token > 0 else float(p_of_token > 0)
        reach.append(min(1.0, reach[-1] * ratio))
    surplus = _surpluses(draft, p, reach, p_of_draft)
    accepted = 0
    for i in range(count, 0, -1):
        if i == count:
            hold = reach[i]
        else:
            total = surplus[i] + 1 - reach[i]
            hold = surplus[i] / total if total > 0 else 1.0
        if noise.accept(noise.start + i - 1) < hold:
            accepted = i
            break
    path = tuple(range(accepted))
    if accepted == count:
        if count >= p.shape[0]:
            return Verdict(path, None, bonus=True)
        return Verdict(path, draw(p[count], noise.next(noise.start + count)), bonus=True)
    target = _block_residual(draft, p, accepted, reach[accepted])
    return Verdict(path, draw(target, noise.next(noise.start + accepted)), bonus=False)


RULES: dict[str, Rule] = {"token": token, "block": block, "coupled": coupled}


def rule_named(name: str) -> Rule:
    """The rule of that name. Raises SettingError if there is none."""
    if name not in RULES:
        raise SettingError(f"rule {name!r} is unknown: choose one of {', '.join(RULES)}")
    return RULES[name]


def _probabilities_of_trials(draft: Draft, trials: Sequence[Trial], p: Array) -> tuple[HostFloats, HostFloats]:
    """For each trial its token's target and draft probability, given that no sibling was tried before it."""
    count = len(trials)
    if count == 0:
        return np.empty(0), np.empty(0)
    tokens = [draft.tokens[trial.node] for trial in trials]
    p_of_trial = operations(p).gather(p, [draft.parent(trial.node) + 1 for trial in trials], tokens)
    q_of_trial = np.ones(count)
    drawn = [number for number, trial in enumerate(trials) if trial.q_row != CHOSEN]
    if drawn:
        rows = [trials[number].q_row for number in drawn]
        q_of_trial[drawn] = operations(draft.q).gather(draft.q, rows, [tokens[number] for number in drawn])
    return p_of_trial, q_of_trial


def _probability(distribution: Array, token: int) -> float:
    return float(operations(distribution).gather(distribution[None], [0], [token])[0])


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
    ops = operations(q)
    left = ops.without(q, taken)
    total = ops.sums(left)
    return ops.divide(left, total) if total > 0 else left


def _after_rejection(target: Array, token: int, q: Array | None) -> Array:
    if q is not None:
        return residual(target, q)
    ops = operations(target)  # q is a one-hot at the token
    left = ops.without(target, [token])
    total = ops.sums(left)
    return ops.divide(left, total) if total > 0 else target


def _surpluses(draft: Draft, p: Array, reach: Sequence[float], p_of_draft: HostFloats) -> HostFloats:
    """s_i = sum over x of max(r_i p_(i+1)(x) - q_(i+1)(x), 0) for 0 <= i < k, in one pass over the vocabulary."""
    reach_before = np.asarray(reach[: len(draft)])
    # Where q is a one-hot at the draft token, r p exceeds it everywhere but there.
    surpluses = reach_before * (1 - p_of_draft)
    drawn = [i for i in range(1, len(draft)) if draft.q_row(i) >= 0]
    if drawn:
        ops = operations(p)
        rows = [draft.q_row(i) for i in drawn]
        difference = ops.positive_difference(ops.multiply(p[drawn], reach_before[drawn]), draft.q[rows])  # type: ignore[index]
        surpluses[drawn] = ops.sums(difference)
    return np.maximum(surpluses, 0)


def _block_residual(draft: Draft, p: Array, accepted: int, reach: float) -> Array:
    """normalise(max(r p - q, 0)) at the first position that was not accepted."""
    row = draft.q_row(accepted)
    if row < 0:
        return _after_rejection(p[accepted], draft.tokens[accepted], None)
    scaled = operations(p).multiply(p[accepted], np.asarray(reach))
    difference = operations(p).positive_difference(scaled, draft.q[row])  # type: ignore[index]
    total = operations(p).sums(difference)
    return operations(p).divide(difference, total) if total > 0 else p[accepted]

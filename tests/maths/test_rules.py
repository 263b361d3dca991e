"""Facts about the rules one by one; what they amount to together is in exactness/."""

import math
from collections.abc import Callable, Sequence
from itertools import product
from typing import get_args
from unittest.mock import patch

import numpy as np
import pytest

from outrider import Draft, SettingError
from outrider.maths.distributions import AllAtOnce, Distributions, OnDemand
from outrider.maths.draft import ROOT, Verdict
from outrider.maths.draws import draw_shared
from outrider.maths.noise import Key, RoundNoise
from outrider.maths.rules import RULES, RuleName, block, coupled, follow, rule_named, token

NOISE = RoundNoise(seed=1, start=0)
SHARED = RoundNoise(seed=1, start=0, shared=True)
JUDGES = [rule.judge for rule in RULES.values()]


def rows(*weights) -> np.ndarray:
    table = np.array(weights, dtype=np.float32)
    return table / table.sum(axis=-1, keepdims=True)


def one_hot(*tokens: int, vocab_size: int = 4) -> np.ndarray:
    return np.eye(vocab_size, dtype=np.float32)[list(tokens)]


def judged(rule, draft: Draft, p: np.ndarray, noise: RoundNoise = NOISE) -> Verdict:
    return rule(draft, AllAtOnce(p), noise)


def with_uniforms(*uniforms: float):
    """The numbers that decide about acceptance at positions 0, 1, ..."""
    return patch.object(RoundNoise, "accept", lambda self, position, branch=0: uniforms[position])


# Following the target's own choices


def test_a_chain_is_followed_until_it_differs() -> None:
    assert follow(Draft((1, 2, 3)), [1, 2, 0, 9]) == Verdict((0, 1), 0, bonus=False)


def test_a_chain_that_agrees_throughout_earns_a_bonus() -> None:
    assert follow(Draft((1, 2)), [1, 2, 7]) == Verdict((0, 1), 7, bonus=True)


def test_without_a_last_choice_there_is_no_bonus_token() -> None:
    assert follow(Draft((1, 2)), [1, 2]) == Verdict((0, 1), None, bonus=True)


def test_without_a_draft_the_choice_is_the_token() -> None:
    assert follow(Draft(), [3]) == Verdict((), 3, bonus=True)


#        root           choices after: root, 5, 6, 7, 8, 9
#       /    \
#      5      6
#     / \      \
#    7   8      9
TREE = Draft((5, 6, 7, 8, 9), parents=(ROOT, ROOT, 0, 0, 1))


@pytest.mark.parametrize(
    "choices, expected",
    [
        ([4, 0, 0, 0, 0, 0], Verdict((), 4, bonus=False)),
        ([6, 0, 9, 0, 0, 3], Verdict((1, 4), 3, bonus=True)),
        ([5, 8, 0, 0, 2, 0], Verdict((0, 3), 2, bonus=True)),
        ([5, 9, 0, 0, 0, 0], Verdict((0,), 9, bonus=False)),
    ],
)
def test_a_tree_is_followed_from_the_root_down(choices: list[int], expected: Verdict) -> None:
    assert follow(TREE, choices) == expected


# All rules


@pytest.mark.parametrize("rule", JUDGES)
def test_a_certain_target_decides_by_itself(rule) -> None:
    """One-hot distributions make greedy decoding of every rule."""
    p = one_hot(1, 2, 3)
    assert judged(rule, Draft((1, 2)), p, SHARED) == Verdict((0, 1), 3, bonus=True)
    assert judged(rule, Draft((1, 0)), p, SHARED) == Verdict((0,), 2, bonus=False)
    assert judged(rule, Draft((0, 2)), p, SHARED) == Verdict((), 1, bonus=False)
    assert judged(rule, Draft(), p[:1], SHARED) == Verdict((), 1, bonus=True)


@pytest.mark.parametrize("rule", JUDGES)
def test_without_a_row_for_the_bonus_there_is_no_bonus_token(rule) -> None:
    assert judged(rule, Draft((1, 2)), one_hot(1, 2), SHARED) == Verdict((0, 1), None, bonus=True)


@pytest.mark.parametrize("rule", [token, block])
def test_a_draft_of_the_targets_own_distribution_is_always_accepted(rule) -> None:
    generator = np.random.default_rng(1)
    for seed in range(200):
        p = generator.dirichlet(np.ones(6), 4).astype(np.float32)
        draft = Draft(tuple(int(row.argmax()) for row in p[:3]), q=p[:3])
        assert judged(rule, draft, p, RoundNoise(seed, 0)).accepted == 3


@pytest.mark.parametrize("rule", [token, block])
def test_where_q_is_zero_the_token_is_accepted_just_if_the_target_may_emit_it(rule) -> None:
    """A drafter that breaks the contract does not break the arithmetic."""
    q = one_hot(3)
    assert judged(rule, Draft((0,), q=q), rows([1, 1, 0, 0], [1, 1, 1, 1])).accepted == 1
    assert judged(rule, Draft((2,), q=q), rows([1, 1, 0, 0], [1, 1, 1, 1])).accepted == 0


@pytest.mark.parametrize("rule", [token, block])
def test_a_uniform_of_zero_accepts_whatever_is_possible_and_nothing_else(rule) -> None:
    q = rows([1, 1, 1, 1])
    with with_uniforms(0.0):
        assert judged(rule, Draft((0,), q=q), rows([1e-6, 1, 1, 0], [1, 1, 1, 1])).accepted == 1
        assert judged(rule, Draft((3,), q=q), rows([1e-6, 1, 1, 0], [1, 1, 1, 1])).accepted == 0


@pytest.mark.parametrize("rule", [token, block])
def test_the_acceptance_probability_is_p_over_q(rule) -> None:
    p, q = rows([2, 8], [1, 1]), rows([5, 5])
    for uniform, accepted in ((0.399, 1), (0.401, 0)):
        with with_uniforms(uniform):
            assert judged(rule, Draft((0,), q=q), p).accepted == accepted


def test_a_rejection_without_a_residual_draws_from_p() -> None:
    p = rows([1, 1, 0, 0], [1, 1, 1, 1])
    with with_uniforms(1.0):  # beyond what a uniform number can be: even p = q is rejected
        for rule in (token, block):
            verdict = judged(rule, Draft((0,), q=p[:1]), p)
            assert verdict.path == ()
            assert verdict.token in (0, 1)


def test_block_refuses_trees() -> None:
    with pytest.raises(SettingError, match="rule block judges chains, and the draft is a tree"):
        judged(block, TREE, np.full((6, 10), 0.1, dtype=np.float32))


def test_block_takes_a_chain_that_names_its_parents() -> None:
    assert judged(block, Draft((1, 2), parents=(ROOT, 0)), one_hot(1, 2, 3)).accepted == 2


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(SettingError, match="rule 'typical' is unknown: choose one of token, block, coupled"):
        rule_named("typical")


def test_a_rule_knows_its_name_and_may_be_given_itself() -> None:
    assert {name: str(rule) for name, rule in RULES.items()} == {name: name for name in get_args(RuleName)}
    assert all(rule_named(name) is rule_named(rule) is rule for name, rule in RULES.items())


def test_only_coupled_shares_noise_and_only_block_refuses_trees() -> None:
    assert [name for name, rule in RULES.items() if rule.shares_noise] == ["coupled"]
    assert [name for name, rule in RULES.items() if not rule.judges_trees] == ["block"]


# Rows that are made when they are read


def some_draft(generator: np.random.Generator, vocab_size: int) -> tuple[Draft, np.ndarray]:
    """A chain, drawn or chosen, that resembles the target."""
    count = int(generator.integers(0, 6))
    p = generator.dirichlet(np.full(vocab_size, 0.5), count + 1).astype(np.float32)
    q = (0.7 * p[:count] + 0.3 * generator.dirichlet(np.ones(vocab_size), count)).astype(np.float32)
    tokens = tuple(int(generator.choice(vocab_size, p=row / row.sum(dtype=float))) for row in q.astype(float))
    return Draft(tokens, q=q if generator.random() < 0.5 else None), p


@pytest.mark.parametrize("rule", JUDGES)
def test_the_verdict_is_the_same_whether_rows_lie_ready_or_not(rule) -> None:
    generator = np.random.default_rng(3)
    accepted = 0
    for seed in range(500):
        draft, p = some_draft(generator, vocab_size=5)
        noise = RoundNoise(seed, 0, shared=True)
        ready = judged(rule, draft, p, noise)
        accepted += ready.accepted
        assert rule(draft, OnDemand(len(p), p.__getitem__), noise) == ready
    assert accepted > 100


@pytest.mark.parametrize("rule", JUDGES)
def test_rows_behind_the_stop_are_never_made(rule) -> None:
    made = []

    def make(row: int) -> np.ndarray:
        made.append(row)
        return one_hot(1, 2, 3)[row]

    assert rule(Draft((1, 0, 3)), OnDemand(4, make), SHARED) == Verdict((0,), 2, bonus=False)
    assert made == [0, 1]


class Listed:
    """Distributions of a kind that the rules have never seen."""

    def __init__(self, p: np.ndarray) -> None:
        self._p = p

    def __len__(self) -> int:
        return len(self._p)

    def __getitem__(self, row: int) -> np.ndarray:
        return self._p[row]

    def probabilities(self, rows: Sequence[int], tokens: Sequence[int]) -> list[float]:
        return self._p[rows, tokens].tolist()

    def races(self, key_of: Callable[[int], Key]) -> list[int]:
        return [draw_shared(row, key_of(number)) for number, row in enumerate(self._p)]


@pytest.mark.parametrize("rule", JUDGES)
def test_a_rule_reads_distributions_of_any_kind(rule) -> None:
    generator = np.random.default_rng(4)
    for seed in range(100):
        draft, p = some_draft(generator, vocab_size=5)
        noise = RoundNoise(seed, 0, shared=True)
        distributions: Distributions = Listed(p)
        assert rule(draft, distributions, noise) == judged(rule, draft, p, noise)


# Trees under rejection


def test_a_rejected_child_leaves_its_sibling_a_better_chance() -> None:
    # 0 is rejected for sure; then p is [0, 3/4, 1/4] and q [0, 1/2, 1/2]: sibling 1 is accepted for sure.
    p, q = rows([0, 3, 1], [1, 1, 1], [1, 1, 1]), rows([2, 1, 1])
    draft = Draft((0, 1), parents=(ROOT, ROOT), q=q, q_rows=(0, 0))
    for seed in range(50):
        assert judged(token, draft, p, RoundNoise(seed, 0)).path == (1,)


def test_after_all_children_are_rejected_the_residual_has_none_of_them() -> None:
    p = rows([0, 0, 3, 1], [1, 1, 1, 1], [1, 1, 1, 1])
    draft = Draft((0, 1), parents=(ROOT, ROOT))
    tokens = {judged(token, draft, p, RoundNoise(seed, 0)).token for seed in range(100)}
    assert tokens == {2, 3}


def test_children_of_the_accepted_node_are_judged_next() -> None:
    draft = Draft((0, 1, 2, 3), parents=(ROOT, ROOT, 0, 1))
    p = one_hot(1, 2, 3, 0, 2)
    assert judged(token, draft, p) == Verdict((1, 3), 2, bonus=True)
    assert judged(coupled, draft, p, SHARED) == Verdict((1, 3), 2, bonus=True)


# Block against token


def accepted_by_token(ratios: list[float]) -> float:
    """Expected number of accepted tokens: ratios are p / q at the draft tokens."""
    return sum(math.prod(min(1.0, ratio) for ratio in ratios[: i + 1]) for i in range(len(ratios)))


def accepted_by_block(p: list[np.ndarray], q: list[np.ndarray], tokens: tuple[int, ...]) -> float:
    """Expected number of accepted tokens, by the uniforms at which `block` changes its mind."""
    count = len(tokens)
    draft = Draft(tokens, q=np.stack(q).astype(np.float32))
    target = np.stack([*p, np.ones(len(p[0])) / len(p[0])]).astype(np.float32)
    hold = []
    for i in range(count):  # prefix i + 1 is held good below a threshold: find it by bisection
        low, high = 0.0, 1.0
        for _ in range(30):
            middle = (low + high) / 2
            with with_uniforms(*(middle if j == i else 2.0 for j in range(count))):
                held = judged(block, draft, target).accepted == i + 1
            low, high = (middle, high) if held else (low, middle)
        hold.append(high)
    return sum(1 - math.prod(1 - h for h in hold[i:]) for i in range(count))


@pytest.mark.parametrize("seed", range(6))
def test_block_accepts_at_least_as_many_tokens_as_token(seed: int) -> None:
    generator = np.random.default_rng(seed)
    vocab_size, count = 3, 2
    p_table = generator.dirichlet(np.ones(vocab_size), vocab_size)
    q_table = generator.dirichlet(np.ones(vocab_size), vocab_size)
    of_token = of_block = 0.0
    for tokens in product(range(vocab_size), repeat=count):
        contexts = (0, *tokens[:-1])
        p = [p_table[context] for context in contexts]
        q = [q_table[context] for context in contexts]
        drawn = math.prod(row[choice] for row, choice in zip(q, tokens, strict=True))
        ratios = [p[i][tokens[i]] / q[i][tokens[i]] for i in range(count)]
        of_token += drawn * accepted_by_token(ratios)
        of_block += drawn * accepted_by_block(p, q, tokens)
    assert of_block >= of_token - 1e-5

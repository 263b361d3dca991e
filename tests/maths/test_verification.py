"""Facts about the rules one by one; what they amount to together is in exactness/."""

import math
from itertools import product
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exactness.libraries import LIBRARIES, array_maker
from outrider import (
    Draft,
    InputError,
    ModelError,
    SettingError,
    VocabularyError,
    verify_speculation,
)
from outrider.maths.draft import ROOT
from outrider.maths.noise import RoundNoise
from outrider.maths.rules import (
    RULES,
    OnDemand,
    Verdict,
    block,
    coupled,
    draw,
    follow,
    normalised,
    residual,
    rule_named,
    token,
)

NOISE = RoundNoise(seed=1, start=0)
SHARED = RoundNoise(seed=1, start=0, shared=True)


def rows(*weights) -> np.ndarray:
    table = np.array(weights, dtype=np.float32)
    return table / table.sum(axis=-1, keepdims=True)


def one_hot(*tokens: int, vocab_size: int = 4) -> np.ndarray:
    return np.eye(vocab_size, dtype=np.float32)[list(tokens)]


def with_uniforms(*uniforms: float):
    """The numbers that decide about acceptance at positions 0, 1, ..."""
    return patch.object(RoundNoise, "accept", lambda self, position, branch=0: uniforms[position])


# The residual


def test_the_residual_is_what_p_has_beyond_q() -> None:
    p = rows([5, 3, 2])[0]
    found = normalised(residual(p, rows([2, 2, 6])[0]), otherwise=p)
    np.testing.assert_allclose(found, [0.75, 0.25, 0], atol=1e-6)


def test_an_empty_residual_falls_back_to_p() -> None:
    p = rows([5, 3, 2])[0]
    np.testing.assert_array_equal(normalised(residual(p, p), otherwise=p), p)
    assert draw(residual(p, p), NOISE.next(0), otherwise=p) == draw(p, NOISE.next(0))


def test_a_rejection_without_a_residual_draws_from_p() -> None:
    p = rows([1, 1, 0, 0], [1, 1, 1, 1])
    with with_uniforms(1.0):  # beyond what a uniform number can be: even p = q is rejected
        for rule in (token, block):
            verdict = rule(Draft((0,), q=p[:1]), p, NOISE)
            assert verdict.path == ()
            assert verdict.token in (0, 1)


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


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_certain_target_decides_by_itself(rule) -> None:
    """One-hot distributions make greedy decoding of every rule."""
    p = one_hot(1, 2, 3)
    assert rule(Draft((1, 2)), p, SHARED) == Verdict((0, 1), 3, bonus=True)
    assert rule(Draft((1, 0)), p, SHARED) == Verdict((0,), 2, bonus=False)
    assert rule(Draft((0, 2)), p, SHARED) == Verdict((), 1, bonus=False)
    assert rule(Draft(), p[:1], SHARED) == Verdict((), 1, bonus=True)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_without_a_row_for_the_bonus_there_is_no_bonus_token(rule) -> None:
    assert rule(Draft((1, 2)), one_hot(1, 2), SHARED) == Verdict((0, 1), None, bonus=True)


@pytest.mark.parametrize("rule", [token, block], ids=["token", "block"])
def test_a_draft_of_the_targets_own_distribution_is_always_accepted(rule) -> None:
    generator = np.random.default_rng(1)
    for seed in range(200):
        p = generator.dirichlet(np.ones(6), 4).astype(np.float32)
        draft = Draft(tuple(int(row.argmax()) for row in p[:3]), q=p[:3])
        assert rule(draft, p, RoundNoise(seed, 0)).accepted == 3


@pytest.mark.parametrize("rule", [token, block], ids=["token", "block"])
def test_where_q_is_zero_the_token_is_accepted_just_if_the_target_may_emit_it(rule) -> None:
    """A drafter that breaks the contract does not break the arithmetic."""
    q = one_hot(3)
    assert rule(Draft((0,), q=q), rows([1, 1, 0, 0], [1, 1, 1, 1]), NOISE).accepted == 1
    assert rule(Draft((2,), q=q), rows([1, 1, 0, 0], [1, 1, 1, 1]), NOISE).accepted == 0


@pytest.mark.parametrize("rule", [token, block], ids=["token", "block"])
def test_a_uniform_of_zero_accepts_whatever_is_possible_and_nothing_else(rule) -> None:
    q = rows([1, 1, 1, 1])
    with with_uniforms(0.0):
        assert rule(Draft((0,), q=q), rows([1e-6, 1, 1, 0], [1, 1, 1, 1]), NOISE).accepted == 1
        assert rule(Draft((3,), q=q), rows([1e-6, 1, 1, 0], [1, 1, 1, 1]), NOISE).accepted == 0


@pytest.mark.parametrize("rule", [token, block], ids=["token", "block"])
def test_the_acceptance_probability_is_p_over_q(rule) -> None:
    p, q = rows([2, 8], [1, 1]), rows([5, 5])
    for uniform, accepted in ((0.399, 1), (0.401, 0)):
        with with_uniforms(uniform):
            assert rule(Draft((0,), q=q), p, NOISE).accepted == accepted


def test_block_refuses_trees() -> None:
    with pytest.raises(SettingError, match="rule block judges chains, and the draft is a tree"):
        block(TREE, np.full((6, 10), 0.1, dtype=np.float32), NOISE)


def test_block_takes_a_chain_that_names_its_parents() -> None:
    assert block(Draft((1, 2), parents=(ROOT, 0)), one_hot(1, 2, 3), NOISE).accepted == 2


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(SettingError, match="rule 'typical' is unknown: choose one of token, block, coupled"):
        rule_named("typical")


# Rows that are made when they are read


def some_draft(generator: np.random.Generator, vocab_size: int) -> tuple[Draft, np.ndarray]:
    """A chain, drawn or chosen, that resembles the target."""
    count = int(generator.integers(0, 6))
    p = generator.dirichlet(np.full(vocab_size, 0.5), count + 1).astype(np.float32)
    q = (0.7 * p[:count] + 0.3 * generator.dirichlet(np.ones(vocab_size), count)).astype(np.float32)
    tokens = tuple(int(generator.choice(vocab_size, p=row / row.sum(dtype=float))) for row in q.astype(float))
    return Draft(tokens, q=q if generator.random() < 0.5 else None), p


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_the_verdict_is_the_same_whether_rows_lie_ready_or_not(rule) -> None:
    generator = np.random.default_rng(3)
    accepted = 0
    for seed in range(500):
        draft, p = some_draft(generator, vocab_size=5)
        noise = RoundNoise(seed, 0, shared=True)
        ready = rule(draft, p, noise)
        accepted += ready.accepted
        assert rule(draft, OnDemand(len(p), p.__getitem__), noise) == ready
    assert accepted > 100


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_rows_behind_the_stop_are_never_made(rule) -> None:
    made = []

    def make(row: int) -> np.ndarray:
        made.append(row)
        return one_hot(1, 2, 3)[row]

    assert rule(Draft((1, 0, 3)), OnDemand(4, make), SHARED) == Verdict((0,), 2, bonus=False)
    assert made == [0, 1]


# Trees under rejection


def test_a_rejected_child_leaves_its_sibling_a_better_chance() -> None:
    # 0 is rejected for sure; then p is [0, 3/4, 1/4] and q [0, 1/2, 1/2]: sibling 1 is accepted for sure.
    p, q = rows([0, 3, 1], [1, 1, 1], [1, 1, 1]), rows([2, 1, 1])
    draft = Draft((0, 1), parents=(ROOT, ROOT), q=q, q_rows=(0, 0))
    for seed in range(50):
        assert token(draft, p, RoundNoise(seed, 0)).path == (1,)


def test_after_all_children_are_rejected_the_residual_has_none_of_them() -> None:
    p = rows([0, 0, 3, 1], [1, 1, 1, 1], [1, 1, 1, 1])
    draft = Draft((0, 1), parents=(ROOT, ROOT))
    tokens = {token(draft, p, RoundNoise(seed, 0)).token for seed in range(100)}
    assert tokens == {2, 3}


def test_children_of_the_accepted_node_are_judged_next() -> None:
    draft = Draft((0, 1, 2, 3), parents=(ROOT, ROOT, 0, 1))
    p = one_hot(1, 2, 3, 0, 2)
    assert token(draft, p, NOISE) == Verdict((1, 3), 2, bonus=True)
    assert coupled(draft, p, SHARED) == Verdict((1, 3), 2, bonus=True)


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
                held = block(draft, target, NOISE).accepted == i + 1
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


# verify_speculation


TARGET = np.array([[0.0, 2.0, -1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 3.0]], dtype=np.float32)
DRAFTS = np.array([[0.0, 1.0, 0.0], [0.5, 0.0, 0.0]], dtype=np.float32)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("rule", RULES)
def test_all_libraries_agree_on_the_verdict(rule: str, library: str) -> None:
    make_array = array_maker(library)
    for seed in range(30):
        found = verify_speculation(
            make_array([1, 0]), make_array(TARGET), make_array(DRAFTS), rule=rule, seed=seed, temperature=0.8
        )
        assert found == verify_speculation([1, 0], TARGET, DRAFTS, rule=rule, seed=seed, temperature=0.8)


@pytest.mark.parametrize("rule", RULES)
def test_temperature_0_compares_with_the_most_probable_token(rule: str) -> None:
    assert verify_speculation([1, 0], TARGET, DRAFTS, temperature=0, rule=rule) == (2, [1, 0, 2])
    assert verify_speculation([1, 2], TARGET, DRAFTS, temperature=0, rule=rule) == (1, [1, 0])
    assert verify_speculation([1, 0], TARGET[:2], None, temperature=0, rule=rule) == (2, [1, 0])


@pytest.mark.parametrize("rule", RULES)
def test_the_number_accepted_counts_the_tokens_that_stay(rule: str) -> None:
    for seed in range(50):
        accepted, tokens = verify_speculation([1, 0], TARGET, DRAFTS, rule=rule, seed=seed)
        assert tokens[:accepted] == [1, 0][:accepted]
        assert len(tokens) == accepted + 1


def test_a_seed_reproduces_the_verdict() -> None:
    seen = [verify_speculation([0, 1], TARGET, DRAFTS, seed=5) for _ in range(5)]
    assert all(verdict == seen[0] for verdict in seen)


def test_without_a_seed_the_draws_differ() -> None:
    flat = np.zeros((2, 1000), dtype=np.float32)
    assert len({tuple(verify_speculation([0], flat, None)[1]) for _ in range(5)}) > 1


def test_no_draft_is_a_plain_draw() -> None:
    accepted, tokens = verify_speculation([], TARGET[:1], None, seed=0)
    assert accepted == 0
    assert len(tokens) == 1


@given(st.integers(0, 2**64 - 1))
def test_half_precision_and_a_batch_axis_will_do(seed: int) -> None:
    expected = verify_speculation([1, 0], TARGET, DRAFTS, seed=seed)
    tokens = np.array([[1, 0]], dtype=np.int32)
    assert verify_speculation(tokens, TARGET[None], DRAFTS[None].astype(np.float16), seed=seed) == expected


GOOD = {"draft_tokens": [1, 0], "target_logits": TARGET, "draft_logits": DRAFTS}


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"target_logits": TARGET[:1]}, InputError, "target_logits has 1 rows for 2 draft tokens: give 3"),
        ({"target_logits": np.vstack([TARGET, TARGET])}, InputError, "target_logits has 6 rows"),
        (
            {"target_logits": TARGET[0]},
            InputError,
            r"target_logits has shape \(3,\): it must be \[tokens, vocab\]",
        ),
        ({"target_logits": TARGET.tolist()}, InputError, "cannot compute with a list"),
        (
            {"draft_logits": DRAFTS[:1]},
            InputError,
            "draft_logits has 1 rows for 2 draft tokens: give one each",
        ),
        ({"draft_logits": DRAFTS[:, :2]}, VocabularyError, "draft_logits are 2 wide and target_logits 3"),
        ({"draft_tokens": [1, 3]}, InputError, "draft token 3 is outside the vocabulary of 3"),
        ({"draft_tokens": [1, -1]}, InputError, "draft token -1 is outside the vocabulary of 3"),
        ({"draft_tokens": np.array([1.0, 0.0])}, InputError, "token ids must be whole numbers in one row"),
        ({"draft_tokens": [1.5, 0]}, InputError, "token ids must be whole numbers in one row"),
        (
            {"draft_tokens": np.array([[1, 0], [0, 1]])},
            InputError,
            "token ids must be whole numbers in one row",
        ),
        ({"draft_tokens": [], "target_logits": TARGET[:0]}, InputError, "target_logits has 0 rows"),
        ({"target_logits": TARGET * np.nan}, ModelError, "a logit of nan: it must be finite"),
        ({"draft_logits": DRAFTS + np.inf}, ModelError, "a logit of inf: it must be finite"),
        ({"temperature": -1}, SettingError, "temperature is -1"),
        ({"temperature": math.nan}, SettingError, "temperature is nan"),
        ({"rule": "typical"}, SettingError, "rule 'typical' is unknown"),
        ({"seed": -1}, SettingError, "seed is -1"),
    ],
)
def test_what_cannot_be_verified_is_refused(change: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        verify_speculation(**(GOOD | change))


def test_a_nan_is_refused_at_temperature_0_as_well() -> None:
    with pytest.raises(ModelError, match="a logit of nan"):
        verify_speculation([1, 0], TARGET * np.nan, DRAFTS, temperature=0)

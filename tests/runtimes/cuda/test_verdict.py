"""Verdicts on the device are those of the host, with the same random numbers. The device is the CPU here."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from exactness.statistics import THRESHOLD, p_value  # noqa: E402
from outrider import Draft, SamplingParams  # noqa: E402
from outrider.engine.judgement import judge, judge_rows  # noqa: E402
from outrider.maths.draft import CHOSEN  # noqa: E402
from outrider.maths.noise import Key, Purpose, RoundNoise, key  # noqa: E402
from outrider.maths.rules import RULES, Rule  # noqa: E402
from outrider.maths.sampling import History, distribution  # noqa: E402
from outrider.runtimes.torch.cuda import chosen_trees  # noqa: E402
from outrider.runtimes.torch.cuda import verdict as on_device  # noqa: E402
from outrider.runtimes.torch.cuda.judging import judge_on_device, judges_on_device  # noqa: E402
from tiny.standing import Stand  # noqa: E402

VOCAB = 7
JUDGED = [RULES["token"], RULES["block"]]
SAMPLINGS = [
    SamplingParams(),
    SamplingParams(temperature=0.6),
    SamplingParams(top_k=3),
    SamplingParams(temperature=1.3, top_p=0.8),
    SamplingParams(min_p=0.2),
    SamplingParams(temperature=0.8, top_k=5, top_p=0.9, min_p=0.05),
]


def draft_of(random: np.random.Generator, count: int, kind: str) -> Draft:
    """Tokens that were chosen, drawn, or some of each; q has rows that no token was drawn from."""
    tokens = tuple(random.integers(VOCAB, size=count).tolist())
    if kind == "chosen" or not count:
        return Draft(tokens)
    q = random.dirichlet(np.full(VOCAB, 0.7), size=count + 1).astype(np.float32)
    if kind == "drawn":
        return Draft(tokens, q=q)
    rows = [CHOSEN if random.random() < 0.4 else int(row) for row in random.permutation(count + 1)[:count]]
    return Draft(tokens, q=q, q_rows=tuple(rows))


@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    st.integers(0, 2**32),
    st.lists(st.tuples(st.integers(0, 6), st.sampled_from(["chosen", "drawn", "some"])), min_size=1, max_size=4),
    st.sampled_from(JUDGED),
    st.sampled_from(SAMPLINGS),
)
def test_verdicts_are_those_of_the_host(seed: int, shapes: list, rule: Rule, sampling: SamplingParams) -> None:
    random = np.random.default_rng(seed)
    drafts = [draft_of(random, count, kind) for count, kind in shapes]
    noises = [RoundNoise(seed=seed + row, start=5 + row) for row in range(len(drafts))]
    logits = torch.from_numpy(random.normal(size=(sum(1 + len(d) for d in drafts), VOCAB)).astype(np.float32)) * 1.5
    found = judge_on_device(rule, drafts, logits, sampling, noises)
    first = 0
    for draft, noise, verdict in zip(drafts, noises, found, strict=True):
        rows = logits[first : first + 1 + len(draft)]
        assert verdict == judge(draft, rows, sampling, History([]), rule, noise)
        first += len(rows)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.integers(0, 2**32),
    st.lists(st.integers(0, 7), min_size=1, max_size=4),
    st.sampled_from(SAMPLINGS),
    st.sampled_from([RULES["token"], RULES["coupled"]]),
)
def test_verdicts_on_chosen_trees_are_those_of_the_host(
    seed: int, counts: list[int], sampling: SamplingParams, rule: Rule
) -> None:
    random = np.random.default_rng(seed)
    drafts = [
        Draft(
            tuple(random.integers(VOCAB, size=count).tolist()), tuple(int(random.integers(-1, i)) for i in range(count))
        )
        for count in counts
    ]
    noises = [RoundNoise(seed + row, 5 + row, shared=rule.shares_noise) for row in range(len(drafts))]
    logits = torch.from_numpy(random.normal(size=(sum(counts) + len(counts), VOCAB)).astype(np.float32)) * 1.5
    assert judges_on_device(rule, drafts)
    found = judge_on_device(rule, drafts, logits, sampling, noises)
    first = 0
    for draft, noise, verdict in zip(drafts, noises, found, strict=True):
        rows = logits[first : first + 1 + len(draft)]
        assert verdict == judge(draft, rows, sampling, History([]), rule, noise)
        first += len(rows)


def test_drawn_trees_go_another_way() -> None:
    tree = Draft((1, 2), parents=(-1, -1), q=np.full((2, VOCAB), 1 / VOCAB, dtype=np.float32))
    assert not judges_on_device(RULES["token"], [Draft((1,)), tree])


def test_chosen_trees_are_read_twice() -> None:
    drafts = [Draft((0, 2, 3, 1), parents=(-1, -1, -1, 0)), Draft((1,)), Draft((1, 2), parents=(-1, -1))]
    rows = [Row(RoundNoise(number, 9), SAMPLINGS[0]) for number in range(len(drafts))]
    logits = torch.randn(10, VOCAB, generator=torch.Generator().manual_seed(1))
    expected = judge_rows(drafts, logits, rows, RULES["token"])
    with Stand() as stand:
        found = judge_rows(drafts, logits.to("cuda"), rows, RULES["token"])
        assert stand.reads == 2
    assert found == expected


@pytest.mark.parametrize("rule", [*JUDGED, RULES["coupled"]], ids=str)
def test_with_top_p_the_host_is_asked_no_more_often_for_more_rows(rule: Rule) -> None:
    reads = []
    for count in (1, 5):
        drafts = [Draft((1, 2))] * count
        rows = [Row(RoundNoise(number, 9), SAMPLINGS[-1]) for number in range(count)]
        with Stand() as stand:
            judge_rows(drafts, torch.randn(3 * count, VOCAB).to("cuda"), rows, rule)
            reads.append(stand.reads)
    assert reads[0] == reads[1] > 0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_row_with_a_bad_logit_has_no_verdict(bad: float) -> None:
    logits = torch.zeros(5, VOCAB)
    logits[3, 2] = bad
    drafts = [Draft((1,)), Draft((1, 2))]
    noises = [RoundNoise(1, 3), RoundNoise(2, 3)]
    first, second = judge_on_device(RULES["token"], drafts, logits, SamplingParams(), noises)
    assert first is not None
    assert second is None


P = torch.tensor([[0.4, 0.4, 0.1, 0.06, 0.04], [0.1, 0.2, 0.3, 0.25, 0.15], [0.2, 0.2, 0.2, 0.2, 0.2]]).log()
Q = np.array([[0.1, 0.1, 0.5, 0.2, 0.1], [0.4, 0.3, 0.1, 0.1, 0.1]], dtype=np.float32)


def p_of_texts(rule: Rule, draws: int = 6_000) -> float:
    """That texts of two tokens have the distribution of the target."""
    drafts, noises = [], [RoundNoise(seed, 4) for seed in range(draws)]
    for noise in noises:
        random = np.random.default_rng([noise.seed, 7])
        drafts.append(Draft(tuple(int(random.choice(5, p=row / row.sum(dtype=float))) for row in Q), q=Q))
    counts: Counter[tuple[int, ...]] = Counter()
    verdicts = judge_on_device(rule, drafts, P.repeat(draws, 1), SamplingParams(), noises)
    for draft, verdict, noise in zip(drafts, verdicts, noises, strict=True):
        assert verdict is not None
        text = [draft.tokens[node] for node in verdict.path] + [verdict.token]
        if len(text) == 1:  # what follows does not depend on the draft
            text.append(int(np.random.default_rng([noise.seed, 8]).choice(5, p=ROWS[1])))
        counts[tuple(text[:2])] += 1
    return p_value(counts, {(a, b): ROWS[0][a] * ROWS[1][b] for a in range(5) for b in range(5)})


ROWS = distribution(P, SamplingParams()).double().numpy()
ROWS /= ROWS.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("rule", JUDGED, ids=str)
def test_texts_have_the_distribution_of_the_target(rule: Rule) -> None:
    assert p_of_texts(rule) > THRESHOLD


def test_a_correction_drawn_from_the_target_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = on_device.draw
    monkeypatch.setattr(on_device, "draw", lambda weights, numbers, otherwise: draw(otherwise, numbers, otherwise))
    assert all(p_of_texts(rule) < THRESHOLD for rule in JUDGED)


def test_the_number_of_acceptance_used_for_the_next_token_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def shared(self: RoundNoise, position: int) -> Key:
        return key(self.seed, self.start, position, Purpose.ACCEPT)

    monkeypatch.setattr(RoundNoise, "next", shared)
    assert p_of_texts(RULES["token"]) < THRESHOLD


def test_a_rejected_sibling_that_may_still_be_drawn_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = p_of_chosen_trees()
    monkeypatch.setattr(chosen_trees, "draw", lambda weights, numbers, target: on_device.draw(target, numbers, target))
    assert right > THRESHOLD > p_of_chosen_trees()


def p_of_chosen_trees(draws: int = 3_000) -> float:
    """That the first token has the distribution of the target."""
    tree = Draft((0, 2, 3, 1), parents=(-1, -1, -1, 0))
    noises = [RoundNoise(seed, 4) for seed in range(draws)]
    counts: Counter[tuple[int, ...]] = Counter()
    verdicts = judge_on_device(
        RULES["token"], [tree] * draws, P[[0, 1, 2, 1, 1]].repeat(draws, 1), SamplingParams(), noises
    )
    for verdict in verdicts:
        assert verdict is not None
        counts[(tree.tokens[verdict.path[0]] if verdict.path else verdict.token,)] += 1
    return p_value(counts, {(token,): chance for token, chance in enumerate(ROWS[0])})


@dataclass
class Row:
    """What a verdict depends on besides draft and logits."""

    noise: RoundNoise
    sampling: SamplingParams
    history: History = field(default_factory=lambda: History([]))


@pytest.mark.parametrize("sampling, reads", [(SAMPLINGS[0], 1), (SAMPLINGS[2], 1), (SAMPLINGS[4], 1)])
@pytest.mark.parametrize("rule", [*JUDGED, RULES["coupled"]], ids=str)
def test_all_rows_are_read_at_once(rule: Rule, sampling: SamplingParams, reads: int) -> None:
    random = np.random.default_rng(1)
    drafts = [draft_of(random, count, kind) for count, kind in [(3, "drawn"), (0, "chosen"), (4, "some")]]
    rows = [Row(RoundNoise(number, 9), sampling) for number in range(len(drafts))]
    logits = torch.from_numpy(random.normal(size=(10, VOCAB)).astype(np.float32))
    expected = judge_rows(drafts, logits, rows, rule)
    with Stand() as stand:
        on_gpu = logits.to("cuda")
        before = stand.reads
        found = judge_rows(drafts, on_gpu, rows, rule)
        assert stand.reads - before == reads
    assert found == expected

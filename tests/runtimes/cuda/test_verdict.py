"""Verdicts on the device are those of the host, with the same random numbers. The device is the CPU here."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from exactness.statistics import THRESHOLD, p_value  # noqa: E402
from outrider import Draft, SamplingParams  # noqa: E402
from outrider.engine.judgement import begin  # noqa: E402
from outrider.errors import ModelError  # noqa: E402
from outrider.maths.draft import Trial  # noqa: E402
from outrider.maths.noise import Key, Purpose, RoundNoise, key  # noqa: E402
from outrider.maths.rules import RULES, Rule  # noqa: E402
from outrider.maths.sampling import distribution  # noqa: E402
from outrider.runtimes.torch.cuda.device import Host  # noqa: E402
from outrider.runtimes.torch.cuda.verdicts import chains, trees  # noqa: E402
from outrider.runtimes.torch.cuda.verdicts.draws import draw  # noqa: E402
from outrider.runtimes.torch.cuda.verdicts.judge import DeviceJudge  # noqa: E402
from outrider.runtimes.torch.cuda.verdicts.settings import Filters, distributions, settings_of  # noqa: E402
from runtimes.cuda.verdict_cases import (  # noqa: E402
    SAMPLINGS,
    VOCAB,
    Row,
    cases_of,
    chain_of,
    judge_on_device,
    judge_on_host,
    random_logits,
    random_rows,
    tree_of,
)
from tiny.standing import Stand, StandingDevice  # noqa: E402

TOKEN, BLOCK, COUPLED = RULES["token"], RULES["block"], RULES["coupled"]
CHAINS = st.lists(st.tuples(st.integers(0, 6), st.sampled_from(["chosen", "drawn", "some"])), min_size=1, max_size=4)
TREES = st.lists(
    st.tuples(st.integers(0, 9), st.sampled_from(["chosen", "drawn", "some", "trials"])), min_size=1, max_size=4
)


def samplings_of(random: np.random.Generator, count: int, alike: bool) -> list[SamplingParams]:
    chosen = random.integers(len(SAMPLINGS), size=1 if alike else count)
    return [SAMPLINGS[int(number)] for number in np.resize(chosen, count)]


@settings(max_examples=120, deadline=None, derandomize=True)
@given(st.integers(0, 2**32), CHAINS, st.sampled_from([TOKEN, BLOCK, COUPLED]), st.booleans())
def test_verdicts_on_chains_are_those_of_the_host(seed: int, shapes: list, rule: Rule, alike: bool) -> None:
    random = np.random.default_rng(seed)
    drafts = [chain_of(random, count, kind) for count, kind in shapes]
    rows = random_rows(random, rule, samplings_of(random, len(drafts), alike))
    logits = random_logits(random, drafts)
    assert judge_on_device(rule, drafts, logits, rows) == judge_on_host(rule, drafts, logits, rows)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(st.integers(0, 2**32), TREES, st.sampled_from([TOKEN, COUPLED]), st.booleans())
def test_verdicts_on_trees_are_those_of_the_host(seed: int, shapes: list, rule: Rule, alike: bool) -> None:
    random = np.random.default_rng(seed)
    drafts = [tree_of(random, count, kind) for count, kind in shapes]
    rows = random_rows(random, rule, samplings_of(random, len(drafts), alike))
    logits = random_logits(random, drafts)
    assert judge_on_device(rule, drafts, logits, rows) == judge_on_host(rule, drafts, logits, rows)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.integers(0, 2**32),
    st.lists(
        st.builds(
            SamplingParams,
            temperature=st.sampled_from([0.5, 1.0, 1.7]),
            top_k=st.sampled_from([0, 1, 5, 200, 300, 900]),
            top_p=st.sampled_from([1.0, 0.999, 0.9, 0.3, 1e-4]),
            min_p=st.sampled_from([0.0, 0.05, 1.0]),
        ),
        min_size=1,
        max_size=5,
    ),
)
def test_distributions_of_unlike_settings_are_those_of_each(seed: int, rows: list[SamplingParams]) -> None:
    """Ties at a threshold are all kept."""
    random = np.random.default_rng(seed)
    logits = torch.from_numpy(random.normal(size=(len(rows), 700)).astype(np.float32)).mul(3).round(decimals=1)
    numbers = torch.from_numpy(np.stack([settings_of(row) for row in rows], axis=1))
    found = distributions(logits, numbers, Filters.of(rows))
    for number, row in enumerate(rows):
        expected = distribution(logits[number : number + 1], row)[0]
        assert torch.equal(found[number] > 0, expected > 0)
        torch.testing.assert_close(found[number], expected, rtol=1e-6, atol=1e-9)


def test_a_row_with_a_bad_logit_has_no_verdict_and_its_own_error() -> None:
    for bad in (np.nan, np.inf):
        logits = torch.zeros(5, VOCAB)
        logits[2, 2] = bad
        drafts = [Draft((1,)), Draft((1, 2))]
        rows = [Row(RoundNoise(number, 3), SamplingParams()) for number in range(2)]
        first, second = judge_on_device(TOKEN, drafts, logits, rows)
        assert first is not None
        assert second is None
        judged = begin(drafts, logits, rows, [TOKEN] * 2, judge=DeviceJudge(Host()))()
        assert judged[0] == first
        assert isinstance(judged[1], ModelError)


def never_less(output: object, logits: object) -> object:
    return logits


def test_what_the_device_cannot_judge_the_host_does_beside_it() -> None:
    random = np.random.default_rng(4)
    drafts = [chain_of(random, 3, "drawn") for _ in range(3)]
    samplings = [SAMPLINGS[1], SamplingParams(logits_processors=(never_less,)), SAMPLINGS[0]]
    rows, logits = random_rows(random, TOKEN, samplings), random_logits(random, drafts)
    judge = DeviceJudge(Host())
    assert [judge.judges(TOKEN, case) for case in cases_of(drafts, rows)] == [True, False, True]
    assert not judge.judges(BLOCK, cases_of([tree_of(random, 5, "drawn")], rows[:1])[0])
    assert begin(drafts, logits, rows, [TOKEN] * 3, judge=judge)() == judge_on_host(TOKEN, drafts, logits, rows)


KINDS = {
    "chains": (chain_of, ("drawn", "chosen", "some"), [TOKEN, BLOCK, COUPLED]),
    "chosen trees": (tree_of, ("chosen", "chosen", "chosen"), [TOKEN, COUPLED]),
    "trees": (tree_of, ("drawn", "trials", "some"), [TOKEN, COUPLED]),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("samplings", [SAMPLINGS[4:7], SAMPLINGS[7:10]], ids=["filters", "penalties"])
def test_a_verdict_is_one_copy_one_graph_and_one_read(kind: str, samplings: list[SamplingParams]) -> None:
    """And one copy and one launch more for each draft with a q that lies on the host. Rounds differ in logits and
    noise, not in what is captured; the logits of all rounds lie in one place."""
    make, names, rules = KINDS[kind]
    for rule in rules:
        random = np.random.default_rng(2)
        with Stand() as stand:
            device = StandingDevice(stand)
            buffer = torch.zeros(64, VOCAB, device="cuda")
            judge = DeviceJudge(device, buffer)
            for _ in range(4):
                drafts = [make(np.random.default_rng(7), 5, name) for name in names]
                rows, logits = random_rows(random, rule, samplings), random_logits(random, drafts)
                buffer[: len(logits)].copy_(logits)
                before = stand.counts()
                read = judge.launch([rule] * len(drafts), cases_of(drafts, rows), buffer[: len(logits)])
                assert stand.reads == before["reads"]
                assert read() == judge_on_host(rule, drafts, logits, rows)
                used = {name: count - before[name] for name, count in stand.counts().items()}
            on_host = 0 if rule is COUPLED else sum(draft.q is not None for draft in drafts)
            assert device.captured == 1
            assert used["reads"] == 1
            assert used["copies"] == 1 + on_host
            assert used["launches"] <= 3


def test_more_numbers_than_are_staged_are_copied_as_they_come() -> None:
    """The text is long and its penalties change many logits of many rows."""
    random = np.random.default_rng(3)
    buffer = torch.zeros(600, 1000)
    logits = torch.from_numpy(random.normal(size=(520, 1000)).astype(np.float32))
    buffer[:520] = logits
    (row,) = random_rows(random, TOKEN, [SamplingParams(repetition_penalty=1.3)])
    row.history.extend(range(700))
    draft = Draft(tuple(random.integers(1000, size=519).tolist()))
    found = DeviceJudge(Host(), buffer).launch([TOKEN], cases_of([draft], [row]), buffer[:520])()
    assert found == judge_on_host(TOKEN, [draft], logits, [row])


@pytest.mark.parametrize("rule", [TOKEN, COUPLED], ids=str)
def test_many_logits_are_judged_in_parts(rule: Rule) -> None:
    random = np.random.default_rng(5)
    drafts = [tree_of(random, count, "drawn") for count in (3, 9, 0, 2, 30, 1, 4)]
    rows = random_rows(random, rule, [SAMPLINGS[number % len(SAMPLINGS)] for number in range(len(drafts))])
    logits = random_logits(random, drafts)
    buffer = torch.zeros(64, VOCAB)
    buffer[: len(logits)] = logits
    expected = judge_on_host(rule, drafts, logits, rows)
    for most in (1, 8 * VOCAB, 20 * VOCAB):
        judge, cases = DeviceJudge(Host(), buffer, most), cases_of(drafts, rows)[1:]
        assert judge.launch([rule] * len(cases), cases, buffer[: len(logits)])() == expected[1:]


def test_rows_of_several_rules_and_parts_are_read_once() -> None:
    """Rules of one round, in two parts each; the logits lie where passes leave them."""
    with Stand() as stand:
        random = np.random.default_rng(6)
        device, buffer = StandingDevice(stand), torch.zeros(64, VOCAB, device="cuda")
        judge = DeviceJudge(device, buffer, most=14 * VOCAB)
        rules = [TOKEN, BLOCK, COUPLED, BLOCK, TOKEN, COUPLED]
        for _ in range(5):
            drafts = [chain_of(np.random.default_rng(8), 4, "drawn") for _ in rules]
            samplings = [SAMPLINGS[number] for number in range(len(rules))]
            rows = [random_rows(random, *each)[0] for each in zip(rules, [[one] for one in samplings], strict=True)]
            logits = random_logits(random, drafts)
            buffer[: len(logits)].copy_(logits)
            before = stand.counts()
            verdicts = judge.launch(rules, cases_of(drafts, rows), buffer[: len(logits)])()
            used = {name: count - before[name] for name, count in stand.counts().items()}
            alone = zip(rules, drafts, torch.split(logits, 5), rows, strict=True)
            assert verdicts == [judge_on_host(rule, [draft], part, [row])[0] for rule, draft, part, row in alone]
        assert used["reads"] == 1
        assert used["launches"] <= 16


@pytest.mark.parametrize("rule", [TOKEN, BLOCK], ids=str)
def test_drafts_that_were_drawn_in_one_place_are_gathered_by_one_operation(rule: Rule) -> None:
    """Whatever lies between their rows: as a session draws them, a step of all rows after the other."""
    random = np.random.default_rng(3)
    q = random.dirichlet(np.full(VOCAB, 0.7), size=(5, 3)).astype(np.float32)  # steps, rows
    with Stand() as stand:
        there, buffer = torch.from_numpy(q).to("cuda"), torch.zeros(32, VOCAB, device="cuda")
        judge = DeviceJudge(StandingDevice(stand), buffer)
        for _ in range(4):
            tokens = random.integers(VOCAB, size=(3, 4)).tolist()
            drafts = [Draft(tuple(each), q=there[:4, number]) for number, each in enumerate(tokens)]
            on_host = [Draft(tuple(each), q=q[:4, number]) for number, each in enumerate(tokens)]
            rows, logits = random_rows(random, rule, [SAMPLINGS[1]] * 3), random_logits(random, drafts)
            buffer[: len(logits)].copy_(logits)
            before = stand.counts()
            found = judge.launch([rule] * 3, cases_of(drafts, rows), buffer[: len(logits)])()
            used = {name: count - before[name] for name, count in stand.counts().items()}
            assert found == judge_on_host(rule, on_host, logits, rows)
    assert used == {"copies": 1, "reads": 1, "launches": 2}


P = torch.tensor([[0.4, 0.4, 0.1, 0.06, 0.04], [0.1, 0.2, 0.3, 0.25, 0.15], [0.2, 0.2, 0.2, 0.2, 0.2]]).log()
Q = np.array([[0.1, 0.1, 0.5, 0.2, 0.1], [0.4, 0.3, 0.1, 0.1, 0.1]], dtype=np.float32)
ROWS = distribution(P, SamplingParams()).double().numpy()
ROWS /= ROWS.sum(axis=1, keepdims=True)


def noises_of(draws: int) -> list[Row]:
    return [Row(RoundNoise(seed, 4), SamplingParams()) for seed in range(draws)]


def p_of_texts(rule: Rule, draws: int = 6_000) -> float:
    """That texts of two tokens have the distribution of the target."""
    drafts, rows = [], noises_of(draws)
    for row in rows:
        random = np.random.default_rng([row.noise.seed, 7])
        drafts.append(Draft(tuple(int(random.choice(5, p=each / each.sum(dtype=float))) for each in Q), q=Q))
    counts: Counter[tuple[int, ...]] = Counter()
    verdicts = judge_on_device(rule, drafts, P.repeat(draws, 1), rows)
    for draft, verdict, row in zip(drafts, verdicts, rows, strict=True):
        assert verdict is not None
        text = [draft.tokens[node] for node in verdict.path] + [verdict.token]
        if len(text) == 1:  # what follows does not depend on the draft
            text.append(int(np.random.default_rng([row.noise.seed, 8]).choice(5, p=ROWS[1])))
        counts[tuple(text[:2])] += 1
    return p_value(counts, {(a, b): ROWS[0][a] * ROWS[1][b] for a in range(5) for b in range(5)})


def first_tokens(drafts: list[Draft], logits: torch.Tensor) -> float:
    """That the first token has the distribution of the target."""
    counts: Counter[tuple[int, ...]] = Counter()
    for draft, verdict in zip(drafts, judge_on_device(TOKEN, drafts, logits, noises_of(len(drafts))), strict=True):
        assert verdict is not None
        counts[(draft.tokens[verdict.path[0]] if verdict.path else verdict.token,)] += 1
    return p_value(counts, {(token,): chance for token, chance in enumerate(ROWS[0])})


def p_of_chosen_trees(draws: int = 3_000) -> float:
    tree = Draft((0, 2, 3, 1), parents=(-1, -1, -1, 0))
    return first_tokens([tree] * draws, P[[0, 1, 2, 1, 1]].repeat(draws, 1))


Q_OF_TREES = np.array([[0.15, 0.02, 0.7, 0.08, 0.05], [0.1, 0.5, 0.2, 0.1, 0.1]], dtype=np.float32)


def p_of_drawn_trees(others: bool = True, draws: int = 3_000) -> float:
    """Two children without replacement, and perhaps one of another drafter, which may be of the same token."""
    q, q_of_other = Q_OF_TREES.astype(float) / Q_OF_TREES.sum(axis=1, keepdims=True, dtype=float)
    drafts = []
    for seed in range(draws):
        random = np.random.default_rng([seed, 9])
        tokens = random.choice(5, size=2, replace=False, p=q).tolist()
        other = int(random.choice(5, p=q_of_other))
        nodes = [*tokens, other] if others and other not in tokens else tokens
        trials = [(0, 0), (1, 0)] + ([(nodes.index(other), 1)] if others else [])
        drafts.append(
            Draft(tuple(nodes), (-1,) * len(nodes), q=Q_OF_TREES, trials=tuple(Trial(*trial) for trial in trials))
        )
    rows = [row for draft in drafts for row in (0, *([1] * len(draft)))]
    return first_tokens(drafts, P[rows])


def test_texts_have_the_distribution_of_the_target() -> None:
    for rule in (TOKEN, BLOCK):
        assert p_of_texts(rule) > THRESHOLD
    assert p_of_chosen_trees() > THRESHOLD
    assert p_of_drawn_trees() > THRESHOLD
    assert p_of_drawn_trees(others=False) > THRESHOLD


def otherwise(weights: torch.Tensor, numbers: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return draw(target, numbers, target)


@contextmanager
def patched(module: object, name: str, value: object) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, name, value)
        yield


def test_a_correction_drawn_from_the_target_is_found() -> None:
    with patched(chains, "draw", otherwise):
        assert p_of_texts(TOKEN) < THRESHOLD
        assert p_of_texts(BLOCK) < THRESHOLD


def test_the_number_of_acceptance_used_for_the_next_token_is_found() -> None:
    def shared(self: RoundNoise, position: int) -> Key:
        return key(self.seed, self.start, position, Purpose.ACCEPT)

    with patched(RoundNoise, "next", shared):
        assert p_of_texts(TOKEN) < THRESHOLD


def test_a_rejected_sibling_that_may_still_be_drawn_is_found() -> None:
    with patched(trees, "without", lambda weights, tokens, gone: weights):
        assert p_of_chosen_trees() < THRESHOLD


def test_a_sibling_judged_by_the_q_of_the_first_is_found() -> None:
    with patched(trees, "without", lambda weights, tokens, gone: weights):
        assert p_of_drawn_trees() < THRESHOLD


def test_a_residual_of_the_last_sibling_alone_is_found() -> None:
    with patched(trees, "draw", otherwise):
        assert p_of_drawn_trees(others=False) < THRESHOLD

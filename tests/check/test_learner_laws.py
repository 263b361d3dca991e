"""The laws that learners' files are held against, and the chance of a false alarm."""

import numpy as np
import pytest
from scipy.stats import binom

from outrider.check.learner import kernels
from outrider.check.learner.chapter import task_of
from outrider.check.learner.decoding_laws import Decoder, decoded_law, plain_law, right, wrong_decoders
from outrider.check.learner.evidence import (
    FALSE_ALARMS,
    MOST_TESTS,
    THRESHOLD,
    Law,
    explanation,
    log_bound,
    strangest,
)
from outrider.check.learner.judges import texts
from outrider.check.learner.judges.verification import Counts, _acceptance_laws, _correction_laws, _judge_counts
from outrider.check.learner.mistakes import MISTAKES
from outrider.check.learner.tables import BATCH, DRAFT, PROMPT, SAMPLED, TARGET, TEXT_TOKENS
from outrider.check.learner.verdicts import Verdict

PAIRS = list(zip(SAMPLED.p[:2], SAMPLED.q, strict=True))


@pytest.mark.parametrize("p, q", PAIRS)
def test_the_right_laws_give_the_targets_distribution(p, q):
    accepted = next(iter(kernels.acceptances(p, q)))[2]
    corrected = next(iter(kernels.corrections(p, q)))[2][:, :-1]
    assert q * accepted + (q * (1 - accepted)) @ corrected == pytest.approx(p)


@pytest.mark.parametrize("lookahead", [1, 2, 4])
def test_the_right_decoder_gives_the_law_of_plain_decoding(lookahead):
    found = decoded_law(Decoder("right", "", right), TARGET, DRAFT, PROMPT, lookahead, 4)
    truth = plain_law(TARGET, PROMPT, 4)
    assert found.keys() == truth.keys()
    assert all(found[text] == pytest.approx(truth[text]) for text in truth)


def test_every_law_is_one_and_every_mistake_has_words():
    for p, q in PAIRS:
        for mistake, _, chances in kernels.acceptances(p, q):
            assert (chances >= 0).all()
            assert (chances <= 1).all()
            assert mistake in MISTAKES or mistake == kernels.RIGHT
        for mistake, _, chances in kernels.corrections(p, q):
            sums = chances.sum(axis=1)
            assert np.all(np.isclose(sums, 1) | (sums == 0))  # 0: this token is never rejected
            assert mistake in MISTAKES or mistake == kernels.RIGHT
    assert {decoder.mistake for decoder in wrong_decoders(TARGET)} <= set(MISTAKES)


@pytest.mark.parametrize("laws", [_acceptance_laws, _correction_laws])
def test_no_mistake_looks_right(laws):
    truth, *wrong = laws()
    for law in wrong:
        assert np.abs(law.chances - truth.chances).max() > 0.015, (law.mistake, law.detail)


def test_whole_texts_show_every_mistake():
    truth = texts.at(plain_law(TARGET, PROMPT, 4), range(4))
    for law in texts.wrong_laws(PROMPT, 2):
        # Mild ones are found in verify_speculation, where draft tokens are chosen.
        if "temperature of about 0.8" not in law.detail and "1.25" not in law.detail:
            assert np.abs(law.chances - truth).sum() > 0.02, (law.mistake, law.detail)


def test_the_bound_is_above_the_exact_chance():
    generator = np.random.default_rng(0)
    for _ in range(2000):
        trials, chance = int(generator.integers(1, 3000)), generator.uniform(0.001, 0.999)
        count = int(generator.integers(0, trials + 1))
        tail = min(binom.logcdf(count, trials, chance), binom.logsf(count - 1, trials, chance))
        assert log_bound(count, trials, chance) >= max(tail, -700) - 1e-9 or tail < -600


def test_the_threshold_is_the_stated_rate_shared_by_all_tests():
    assert pytest.approx(FALSE_ALARMS) == MOST_TESTS * np.exp(THRESHOLD)


def drawn(generator, chances, trials):
    return np.array([generator.multinomial(trials, row / row.sum()) for row in chances], dtype=float)


def test_right_counts_are_never_called_wrong():
    """150 runs of 270 tests: at the stated rate some would fail if the bound were off by five orders of magnitude."""
    generator = np.random.default_rng(1)
    accepted, corrected = next(iter(_acceptance_laws())).chances, next(iter(_correction_laws())).chances
    bonus = np.append(SAMPLED.p[2], 0)[None]
    for _ in range(150):
        counts = Counts(*(drawn(generator, chances, 800) for chances in (accepted, corrected, bonus)))
        verdict = Verdict(task_of(2))
        _judge_counts(verdict, counts, False, None)
        assert verdict.findings == []
        assert verdict.tests < MOST_TESTS / 4


def test_right_texts_are_never_called_wrong():
    generator = np.random.default_rng(2)
    for prompt in dict.fromkeys(BATCH):
        truth = texts.right_law(prompt)
        chances = np.array(list(truth.values()))
        for _ in range(30):
            counts = dict(zip(truth, generator.multinomial(500, chances / chances.sum()).astype(float), strict=True))
            assert texts.strange_text(Verdict(task_of(4)), counts, prompt, 2) is None
    assert len(next(iter(truth))) == TEXT_TOKENS


@pytest.mark.parametrize("laws", [_acceptance_laws, _correction_laws])
def test_counts_of_a_mistake_are_explained_by_it(laws):
    generator = np.random.default_rng(3)
    truth, *wrong = laws()
    for law in wrong:
        if (law.chances.sum(axis=1) > 0).all():
            counts = drawn(generator, law.chances, 40_000)
            assert strangest(counts, truth.chances) is not None
            found = explanation(counts, wrong)
            assert found is not None
            assert np.abs(found.chances - law.chances).max() < 0.06  # it, or one that can hardly be told from it


def test_what_no_mistake_explains_is_left_unexplained():
    counts = np.array([[5000.0, 5000.0]])
    assert (
        explanation(counts, [Law("always", "", np.array([[1.0, 0.0]])), Law("never", "", np.array([[0.1, 0.9]]))])
        is None
    )

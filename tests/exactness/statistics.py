"""The truth by enumeration, and how far a sample may stray from it.

False alarms. This package makes fewer than MOST_TESTS chi-square tests that a correct decoder must pass: 64 in the
matrix, 3 of the hard case, 56 of batches, 2 of array libraries, 4 of llama.cpp, 31 of trees, 9 of verify_speculation,
22 of drafting across tokenizers, 12 of prices, 3 of early stopping, 11 of logits processors, 17 of memories, 13 of
lookups, 13 of heads, 16 of heads and lookups in one tree, 5 of heads that learn while idle, 10 of grammars, 9 of
drafters and rules side by side, 5 of verdicts on a device, 6 of what earlier texts taught and the 10 controls of the
mutations, 321 in all.
Each fails below p = FAMILY_WISE / MOST_TESTS = 1e-6 / 400 = 2.5e-9, so that by the union bound a correct decoder,
under seeds chosen afresh, would fail any of them in less than one run in a million. The seeds are fixed: what passes
once passes always. Every cell expects at least LEAST_EXPECTED draws, for the chi-square distribution to hold; rarer
outcomes are merged into one cell.

Stages. Most samples are not drawn to their end (`p_of_stages`): a sample that is seen to fit after a quarter, a third,
half or three quarters of its draws is given up there, as conditional power allows. A mistake may be missed by this, but
not called where there is none: the one decision to call it is made at the end, so that the false alarms are those above
or fewer. What little power it costs is bought back with a fifth of draws more at the end: see test_statistics.py.
Mistakes that whole samples show in 0.3, 0.5, 0.8, 0.95 and 0.99 of cases are shown in at least 0.51, 0.72, 0.92, 0.97
and 0.99 (simulated, with 8 to 124 degrees of freedom). `OUTRIDER_ALL_DRAWS=1` draws all samples to their end.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from scipy.stats import chi2

from outrider import SamplingParams, TableModel

FAMILY_WISE = 1e-6
MOST_TESTS = 400
THRESHOLD = FAMILY_WISE / MOST_TESTS
LEAST_EXPECTED = 10
# (share of the draws, the p-value above which a sample is given up there as fitting)
STAGES = ((1 / 4, 0.5), (1 / 3, 0.3), (1 / 2, 0.1), (3 / 4, 0.01))
END = 1.2  # the share that the others are drawn to
ALL_DRAWS = os.environ.get("OUTRIDER_ALL_DRAWS") == "1"

Outcome = tuple[int, ...]
SURE = 1.0
IMPOSSIBLE = 0.0


def reference_distribution(
    logits: Sequence[float], sampling: SamplingParams, prompt: Sequence[int], output: Sequence[int]
) -> list[float]:
    """What a token is sampled from, in float64, as plainly as can be, with no code of the package."""
    scores = []
    for token, logit in enumerate(logits):
        score = float(logit) + sampling.logit_bias.get(token, 0.0)
        if token in prompt or token in output:
            score = score * sampling.repetition_penalty if score < 0 else score / sampling.repetition_penalty
        occurrences = list(output).count(token)
        score -= sampling.frequency_penalty * occurrences
        if occurrences:
            score -= sampling.presence_penalty
        scores.append(score)
    for processor in sampling.logits_processors:
        scores = processor(list(output), np.array(scores)).tolist()
    best = max(scores)
    if sampling.temperature == 0:
        return [float(token == scores.index(best)) for token in range(len(scores))]
    weights = [np.exp((score - best) / sampling.temperature) for score in scores]
    ranking = sorted(range(len(weights)), key=lambda token: -weights[token])
    if sampling.top_k:
        for token in ranking[sampling.top_k :]:
            weights[token] = 0.0
    total, held = sum(weights), 0.0
    for token in ranking:
        if held >= sampling.top_p * total:
            weights[token] = 0.0
        held += weights[token]
    for token in ranking:
        if weights[token] < sampling.min_p * max(weights):
            weights[token] = 0.0
    total = sum(weights)
    return [weight / total for weight in weights]


class Conditionals:
    """What follows every output of a target, worked out once for each."""

    def __init__(self, target: TableModel, prompt: Sequence[int], sampling: SamplingParams) -> None:
        self._target = target
        self._prompt = prompt
        self._sampling = sampling
        self._known: dict[Outcome, tuple[list[float], np.ndarray]] = {}

    def after(self, output: Outcome) -> list[float]:
        """The probability of every token."""
        return self._of(output)[0]

    def draw(self, output: Outcome, generator: np.random.Generator) -> int:
        return int(self._of(output)[1].searchsorted(generator.random(), side="right"))

    def _of(self, output: Outcome) -> tuple[list[float], np.ndarray]:
        if output not in self._known:
            logits = self._target.logits_after([*self._prompt, *output])
            truth = reference_distribution(logits, self._sampling, self._prompt, output)
            reached = np.cumsum(truth)
            self._known[output] = truth, reached / reached[-1]
        return self._known[output]


def joint_distribution(
    target: TableModel, prompt: Sequence[int], length: int, sampling: SamplingParams
) -> dict[Outcome, float]:
    """The probability of every possible output of `length` tokens."""
    conditionals = Conditionals(target, prompt, sampling)
    joint: dict[Outcome, float] = {(): SURE}
    for _ in range(length):
        joint = {
            (*output, token): probability * conditional
            for output, probability in joint.items()
            for token, conditional in enumerate(conditionals.after(output))
            if conditional > 0
        }
    return joint


def p_value(counts: Counter[Outcome], expected: dict[Outcome, float], share: float = 1.0) -> float:
    """Of Pearson's chi-square test; 0 if something impossible was drawn.

    Args:
        share: of a larger sample, whose cells are kept. Then some expect fewer than LEAST_EXPECTED draws, which is good
            enough to decide whether to go on, and not to call a mistake.
    """
    if any(outcome not in expected for outcome in counts):
        return IMPOSSIBLE
    draws, least = counts.total(), LEAST_EXPECTED * share
    rare_observed, rare_expected = 0.0, 0.0
    statistic, cells = 0.0, 0
    for outcome in sorted(expected, key=expected.__getitem__):
        if draws * expected[outcome] < least or 0 < rare_expected < least:
            rare_observed += counts[outcome]
            rare_expected += draws * expected[outcome]
        else:
            statistic += (counts[outcome] - draws * expected[outcome]) ** 2 / (draws * expected[outcome])
            cells += 1
    if rare_expected:
        statistic += (rare_observed - rare_expected) ** 2 / rare_expected
        cells += 1
    return float(chi2.sf(statistic, cells - 1)) if cells > 1 else SURE


def fits(counts: Counter[Outcome], expected: dict[Outcome, float], share: float) -> bool:
    """Whether a sample of which so much is drawn is given up as fitting."""
    above = dict(STAGES).get(share, SURE)
    return not ALL_DRAWS and above < SURE and p_value(counts, expected, share) > above


def p_of_stages(
    first: Callable[[int], Counter[Outcome]], expected: dict[Outcome, float], draws: int, shares: Sequence[float] = ()
) -> float:
    """The p-value of a sample, drawn as far as it takes to judge it.

    Args:
        first: the first so many draws, more each time.
        draws: of a whole sample.
        shares: after which a mistake may be called as well, which makes one more test at THRESHOLD of each.
    """
    for share in sorted({*shares, *(share for share, _ in STAGES)}):
        counts = first(round(share * draws))
        if share in shares and (p := p_value(counts, expected)) < THRESHOLD:
            return p
        if fits(counts, expected, share):
            return p_value(counts, expected)
    return p_value(first(round(END * draws)), expected)


def completions(truth: Conditionals, outputs: Iterable[Outcome], length: int) -> Counter[Outcome]:
    """Outputs of differing length, each continued to `length` from the truth: exact just if they were."""
    generator = np.random.default_rng(0)
    counts: Counter[Outcome] = Counter()
    for output in outputs:
        while len(output) < length:
            output = (*output, truth.draw(output, generator))
        counts[output] += 1
    return counts

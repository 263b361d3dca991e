"""Task 2: what the results of verify_speculation say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from outrider.check.learner import kernels
from outrider.check.learner.evidence import ROUNDING, Law, Strange, explanation, strangest, tests_of, unlikely
from outrider.check.learner.judges.probes import Reading, judge_greedy, judge_probes
from outrider.check.learner.judges.wording import chances, comparison, tokens
from outrider.check.learner.kernels import ratio, residual
from outrider.check.learner.process import Observed
from outrider.check.learner.tables import DRAFT_SHIFT, NEARLY_SURE, SAMPLED, TARGET_SHIFT, probes
from outrider.check.learner.verdicts import Finding, Table, Verdict
from outrider.maths.arrays import HostFloats

WIDTH = SAMPLED.q.shape[1]
P, Q = SAMPLED.p, SAMPLED.q
ALL = slice(None)
# The second position is also counted by its token alone; for a likelihood it may count once.
APART = np.r_[0:WIDTH, 2 * WIDTH : 2 * WIDTH + WIDTH**2]
FEW_CALLS = 2000
Example = Callable[[Strange], tuple[tuple[str, ...], Table]]


@dataclass
class Counts:
    """What happened with chance.

    Attributes:
        accepted: [2 * vocab + vocab ** 2, 2], accepted and rejected: the first position by its token, the second by
            its token, and by both.
        corrected: [2 * vocab, vocab + 1] by position and rejected token; the last outcome is no token.
        bonus: [1, vocab + 1].
        next_kept: how many corrections at the first position are the second draft token.
        malformed: the first result that cannot be read.
        unread: how many results cannot be read.
    """

    accepted: HostFloats
    corrected: HostFloats
    bonus: HostFloats
    next_kept: int = 0
    malformed: str = ""
    calls: int = 0
    unread: int = 0


def judge_verification(verdict: Verdict, observed: Observed) -> None:
    """Add what the observations say: of chance first; what sure cases say is used where that explains nothing."""
    later: list[Finding] = []
    reading: Reading | None = None
    for message in observed.of("probes"):
        asked = probes(0.0 if message["what"] == "one-hot" else NEARLY_SURE)
        if message["what"] == "sure":
            reading = judge_probes(verdict, later, message, asked)
        else:
            judge_greedy(verdict, later, message, asked)
    for message in observed.of("counts"):
        counts = _read(message["counts"], reading or Reading())
        verdict.trials.append(f"{counts.calls:,} calls")
        if counts.calls < FEW_CALLS:
            verdict.notes.append(f"only {counts.calls:,} calls were possible in the time: small mistakes may hide")
        # Where some calls failed, the others are no fair sample.
        if not observed.of("problem") and (reading is None or reading.usable):
            fixed = observed.of("fixed")
            _judge_counts(verdict, counts, bool(fixed) and not fixed[0]["greedy"], reading)
    for finding in later:
        if not verdict.findings:
            verdict.add(finding)
    if any(message["without_min"] for message in observed.of("text")):
        _judge_missing_min(verdict)


def _judge_missing_min(verdict: Verdict) -> None:
    """The text of the function has no min. That may be the reason of an error, and it may do no harm."""
    verdict.findings[:] = [
        replace(finding, mistake="no_min") if finding.mistake in ("no_max", "not_a_number") else finding
        for finding in verdict.findings
    ]
    if not verdict.findings:
        verdict.notes.append(
            "acceptance without min: p/q may be above 1. Here that does no harm: a number below 1 is held against it"
        )


def _read(told: Sequence[Sequence[Any]], reading: Reading) -> Counts:
    """Read results with the accepted tokens in front, or without: as more of them make sense."""
    ways = [_read_as(told, replace(reading, prefix=prefix)) for prefix in (reading.prefix, not reading.prefix)]
    return min(ways, key=lambda counts: counts.unread)


def _read_as(told: Sequence[Sequence[Any]], reading: Reading) -> Counts:
    counts = Counts(np.zeros((2 * WIDTH + WIDTH**2, 2)), np.zeros((2 * WIDTH, WIDTH + 1)), np.zeros((1, WIDTH + 1)))
    for draft, number, following, times in told:
        x = tuple(int(token) for token in draft)
        much = int(times)
        counts.calls += much
        result = reading.read(x, int(number), list(following))
        if result is None:
            counts.unread += much
            counts.malformed = counts.malformed or f"draft {tokens(x)}: returned ({number}, {following})"
            continue
        accepted, token = result
        outcome = WIDTH if token is None or not 0 <= token < WIDTH else token
        counts.accepted[x[0], int(accepted == 0)] += much
        if accepted >= 1:
            for group in (WIDTH + x[1], 2 * WIDTH + WIDTH * x[0] + x[1]):
                counts.accepted[group, int(accepted == 1)] += much
        if accepted < 2:
            counts.corrected[WIDTH * accepted + x[accepted], outcome] += much
            counts.next_kept += much * (accepted == 0 and token == x[1])
        else:
            counts.bonus[0, outcome] += much
    return counts


def _judge_counts(verdict: Verdict, counts: Counts, constant: bool, reading: Reading | None) -> None:
    if constant:
        verdict.add(Finding("constant", example=("every draft had the same result in each of hundreds of calls",)))
        return
    accepted = _component(verdict, counts.accepted, list(_acceptance_laws()), _accepted_example, independent=APART)
    rejections = counts.corrected[:WIDTH].sum()
    if any(finding.mistake == "no_correction" for finding in verdict.findings):
        pass
    elif rejections and counts.next_kept == rejections:
        verdict.add(Finding("next_kept", example=("with a draft [x, y] and x rejected, y came every time",)))
    else:
        _component(verdict, counts.corrected, list(_correction_laws()), _corrected_example, skip=_implied(accepted))
    if reading is None or reading.rows:
        laws = [Law(key, detail, law[None]) for key, detail, law in kernels.bonuses(P[2], Q[1], P[1], P[0])]
        _component(verdict, counts.bonus, laws, _bonus_example, skip=_implied(accepted))
    if counts.malformed and not verdict.findings:
        verdict.add(Finding("malformed", example=(counts.malformed,)))


def _implied(accepted: str | None) -> tuple[str, ...]:
    """What need not be said of correction and bonus once this is said of acceptance."""
    implied = {
        "greedy": ("greedy_correction", "bonus_greedy"),
        "row_shift": ("correction_row",),
        "both_temperatures": ("p_temperature", "q_temperature"),
    }
    return implied.get(accepted or "", ())


def _component(
    verdict: Verdict,
    counts: HostFloats,
    laws: list[Law],
    example: Example,
    skip: tuple[str, ...] = (),
    independent: Any = ALL,
) -> str | None:
    """Test one step of the algorithm; returns the key of the mistake found in it."""
    right = laws[0].chances
    verdict.tests += tests_of(counts) + len(laws) - 1
    strange = strangest(counts, right)
    if strange is None:
        apart = [Law(law.mistake, law.detail, law.chances[independent]) for law in laws[1:]]
        strange = unlikely(counts[independent], apart, right[independent])
        if strange is None:
            return None
        strange = replace(strange, group=int(np.arange(len(counts))[independent][strange.group]))
    law = explanation(counts, laws[1:])
    key = "unknown" if law is None else law.mistake
    if key not in skip:
        lines, table = example(strange)
        verdict.add(Finding(key, "" if law is None else law.detail, lines, table))
    return key


def _both(first: HostFloats, second: HostFloats) -> HostFloats:
    """Chances of acceptance [vocab] at the first and [vocab] or [vocab, vocab] at the second position, as outcomes."""
    second = np.broadcast_to(second, (WIDTH, WIDTH))
    # Drafts come equally often, and the second position is reached where the first was accepted.
    reached = first / max(first.sum(), ROUNDING)
    kept = np.concatenate([first, reached @ second, second.ravel()])
    kept = np.minimum(kept, 1)  # rounding
    return np.column_stack([kept, 1 - kept])


def _acceptance_laws() -> Iterator[Law]:
    pairs = list(zip(kernels.acceptances(P[0], Q[0]), kernels.acceptances(P[1], Q[1]), strict=True))
    for (key, detail, first), (_, _, second) in pairs:
        yield Law(key, detail, _both(first, second))
    one, two = P[0] / Q[0], P[1] / Q[1]
    sure = np.minimum(1, one)
    yield Law("no_min", "the ratios of all positions are multiplied", _both(sure, np.minimum(1, one[:, None] * two)))
    yield Law("product", "", _both(sure, sure[:, None] * np.minimum(1, two)))
    yield Law("one_uniform", "", _both(sure, np.minimum(1, np.minimum(1, two) / sure[:, None])))
    raw = [(np.log(P[i]) + TARGET_SHIFT) / (np.log(Q[i]) + DRAFT_SHIFT) for i in (0, 1)]
    yield Law("raw_logits", "", _both(*(np.clip(each, 0, 1) for each in raw)))
    for first, second in ((P[1], P[2]), (P[2], P[0]), (P[0], P[0])):
        yield Law("row_shift", "", _both(ratio(first, Q[0]), ratio(second, Q[1])))
    for first, second in ((Q[1], Q[0]), (Q[0], Q[0]), (Q[1], Q[1])):
        yield Law("draft_row_shift", "", _both(ratio(P[0], first), ratio(P[1], second)))


def _correction_laws() -> Iterator[Law]:
    pairs = list(zip(kernels.corrections(P[0], Q[0]), kernels.corrections(P[1], Q[1]), strict=True))
    for (key, detail, first), (_, _, second) in pairs:
        yield Law(key, detail, np.concatenate([first, second]))
    for (p1, q1), (p2, q2) in (
        ((P[1], Q[1]), (P[0], Q[0])),
        ((P[0], Q[0]), (P[0], Q[0])),
        ((P[1], Q[0]), (P[2], Q[1])),
        ((P[1], Q[1]), (P[2], Q[1])),
    ):
        laws = [np.tile(np.append(residual(p, q), 0.0), (WIDTH, 1)) for p, q in ((p1, q1), (p2, q2))]
        yield Law("correction_row", "", np.concatenate(laws))
    for p1, p2 in ((P[1], P[2]), (P[2], P[2])):
        laws = [np.tile(np.append(p, 0.0), (WIDTH, 1)) for p in (p1, p2)]
        yield Law("correction_row", "it comes from p of a later row", np.concatenate(laws))


def _accepted_example(strange: Strange) -> tuple[tuple[str, ...], Table]:
    if strange.group < 2 * WIDTH:
        (place, x), before = divmod(strange.group, WIDTH), ""
    else:
        first, x = divmod(strange.group - 2 * WIDTH, WIDTH)
        place, before = 1, f" after token {first} was accepted"
    p, q = P[place, x], Q[place, x]
    lines = (
        f"p = {chances(P[place])}, q = {chances(Q[place])}, draft token {x}{before}, {strange.trials:,} calls",
        f"accepted with chance min(1, {p:.2f}/{q:.2f}) = {min(1, p / q):.2f}",
    )
    return lines, comparison(["accepted", "rejected"], strange.counts, strange.chances)


def _corrected_example(strange: Strange) -> tuple[tuple[str, ...], Table]:
    place, x = divmod(strange.group, WIDTH)
    left = np.maximum(P[place] - Q[place], 0)
    lines = (
        f"p = {chances(P[place])}, q = {chances(Q[place])}, draft token {x} rejected in {strange.trials:,} calls",
        f"the next token comes from max(p - q, 0) = {chances(left)} divided by {left.sum():.2f}",
    )
    return lines, comparison([*map(str, range(WIDTH)), "none"], strange.counts, strange.chances)


def _bonus_example(strange: Strange) -> tuple[tuple[str, ...], Table]:
    lines = (f"all draft tokens accepted in {strange.trials:,} calls; the last row of the target is {chances(P[2])}",)
    return lines, comparison([*map(str, range(WIDTH)), "none"], strange.counts, strange.chances)

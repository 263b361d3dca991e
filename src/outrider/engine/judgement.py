"""From the target's logits to verdicts: sampling settings and rule together."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate
from typing import Protocol

from outrider.engine.events import TokenLogprobs
from outrider.errors import InputError, OutriderError
from outrider.maths.arrays import Array, float32, float32_on_host, largest, on_host, operations
from outrider.maths.distributions import AllAtOnce, Lazy, OnDemand
from outrider.maths.draft import Draft, Verdict
from outrider.maths.noise import RoundNoise
from outrider.maths.rules import Rule, follow
from outrider.maths.sampling import (
    BadLogitError,
    History,
    SamplingParams,
    adjust,
    common_settings,
    distribution,
    log_probabilities,
    most_probable,
    top_log_probabilities,
)
from outrider.runtimes.base import Top
from outrider.runtimes.judging import Case, Judge

Verdicts = list[Verdict | OutriderError]
FEW_TOKENS = 512  # up to this vocabulary all rows at once take less time than those that are read, one by one
# Probabilities that the host reads at once where it judges for a device: a rule would read several times for each row.
MOST_READ = 2**22


class Judged(Protocol):
    """What a verdict depends on besides draft and logits.

    Attributes:
        sampling: the settings; the noise is made of their seed.
    """

    @property
    def sampling(self) -> SamplingParams: ...

    @property
    def history(self) -> History: ...

    @property
    def noise(self) -> RoundNoise: ...


def begin(
    drafts: Sequence[Draft],
    logits: Array,
    sequences: Sequence[Judged],
    rules: Sequence[Rule],
    top: Top | None = None,
    judge: Judge | None = None,
) -> Callable[[], Verdicts]:
    """Launch the verdicts that a device makes, perhaps before it has made the logits.

    Args:
        logits: [sum of 1 + draft tokens, vocab], of the target at each pending token and at the draft tokens after it,
            in any precision.
        rules: of each draft.
        top: the most probable tokens of these rows, where the pass has found them already.
        judge: of the session; on a GPU there is one for any session.

    Returns:
        what waits for all verdicts, or makes them on the host.
    """
    if drafts and (judge is not None or not on_host(logits)):
        judge = judge or _judge_for(logits)
        if judge is not None and _all_plainly_greedy(sequences):
            return _begin_choosing(drafts, logits, sequences, rules, judge)
        if judge is not None:
            return _begin_on_device(drafts, logits, sequences, rules, judge)
    return partial(_judge_on_host, drafts, logits, sequences, rules, top)


def _judge_for(logits: Array) -> Judge | None:
    """For logits on a GPU, whatever session they are of."""
    if operations(logits).name != "torch" or logits.device.type != "cuda":
        return None
    from outrider.runtimes.torch.cuda.verdicts.judge import judge_for

    return judge_for(logits)


def _all_plainly_greedy(sequences: Sequence[Judged]) -> bool:
    common = common_settings([sequence.sampling for sequence in sequences])
    return common is not None and common.greedy


def _begin_choosing(
    drafts: Sequence[Draft], logits: Array, sequences: Sequence[Judged], rules: Sequence[Rule], judge: Judge
) -> Callable[[], Verdicts]:
    """Of greedy rows nothing but the most probable tokens is asked; the host judges rows with a bad logit."""
    read = judge.choose(logits)

    def finish() -> Verdicts:
        found, verdicts = read(), Verdicts()
        for draft, rows, sequence, rule in zip(drafts, _rows_of(drafts), sequences, rules, strict=True):
            choices = [token for token in found[rows] if token is not None]
            if len(choices) == 1 + len(draft):
                verdicts.append(follow(draft, choices))
            else:
                case = _case(sequence, draft, rows)
                verdicts.append(_judge_case(case, logits, rule))
        return verdicts

    return finish


def _begin_on_device(
    drafts: Sequence[Draft], logits: Array, sequences: Sequence[Judged], rules: Sequence[Rule], judge: Judge
) -> Callable[[], Verdicts]:
    """What the device cannot judge, and rows with a bad logit, are judged by the host one by one."""
    cases = [
        _case(sequence, draft, rows) for draft, rows, sequence in zip(drafts, _rows_of(drafts), sequences, strict=True)
    ]
    able = [number for number, case in enumerate(cases) if judge.judges(rules[number], case)]
    asked = [rules[number] for number in able], [cases[number] for number in able]
    read = judge.launch(*asked, logits) if able else list

    def finish() -> Verdicts:
        found = dict(zip(able, read(), strict=True))
        return [found.get(number) or _judge_case(case, logits, rules[number]) for number, case in enumerate(cases)]

    return finish


def _judge_on_host(
    drafts: Sequence[Draft], logits: Array, sequences: Sequence[Judged], rules: Sequence[Rule], top: Top | None
) -> Verdicts:
    if not drafts:
        return []
    together = _judge_together(drafts, logits, sequences, rules, top)
    if together is not None:
        return together
    return [
        _judge_case(_case(sequence, draft, rows), logits, rule)
        for draft, sequence, rule, rows in zip(drafts, sequences, rules, _rows_of(drafts), strict=True)
    ]


def _case(sequence: Judged, draft: Draft, rows: slice) -> Case:
    return Case(draft, rows.start, sequence.sampling, sequence.history, _noise(sequence, draft))


def _judge_case(case: Case, logits: Array, rule: Rule) -> Verdict | OutriderError:
    try:
        rows = logits[case.first : case.first + 1 + len(case.draft)]
        return judge(case.draft, rows, case.sampling, case.history, rule, case.noise)
    except OutriderError as error:
        return error


def _judge_together(
    drafts: Sequence[Draft], logits: Array, sequences: Sequence[Judged], rules: Sequence[Rule], top: Top | None
) -> Verdicts | None:
    """With one softmax or argmax over all rows: for texts of equal settings.

    Returns:
        None where each row must be judged by itself: settings differ, a logit is not finite, or a rule fails. Also
        where that is faster: on a CPU with a large vocabulary, where distributions after a rejection need not be
        computed.
    """
    common, host = common_settings([sequence.sampling for sequence in sequences]), on_host(logits)
    if common is None or (host and not common.greedy and logits.shape[-1] > FEW_TOKENS):
        return None
    try:
        if common.greedy:
            choices = _greedy_choices(logits, top)
            return [follow(draft, choices[rows]) for draft, rows in zip(drafts, _rows_of(drafts), strict=True)]
        p = distribution(float32(logits), common)
    except OutriderError:
        return None
    if host or p.shape[0] * p.shape[1] <= MOST_READ:
        p, drafts = float32_on_host(p), [_on_host(draft) for draft in drafts]
    else:
        drafts = [_beside(draft, p) for draft in drafts]
    try:
        return [
            rule.verdict(
                draft,
                OnDemand(1 + len(draft), p[rows].__getitem__) if host else AllAtOnce(p[rows]),
                _noise(sequence, draft),
            )
            for draft, rows, sequence, rule in zip(drafts, _rows_of(drafts), sequences, rules, strict=True)
        ]
    except OutriderError:  # of a rule: whose it is, each row by itself says
        return None


def _noise(sequence: Judged, draft: Draft) -> RoundNoise:
    return sequence.noise.knowing(draft.experience)


def _greedy_choices(logits: Array, top: Top | None) -> list[int]:
    """The most probable token of each row; the vocabulary is not searched twice.

    Raises:
        ModelError: a row holds a NaN, or no finite largest value.
    """
    # On an accelerator any of equal tokens may come first in `top`. A bad logit makes its row of `top` NaN.
    if top is None or not on_host(logits) or any(map(math.isnan, top.probabilities[:, 0].tolist())):
        return [int(token) for token in most_probable(logits)]
    found: list[int] = top.tokens[:, 0].tolist()
    return found


def _rows_of(drafts: Sequence[Draft]) -> list[slice]:
    """The rows of the logits that belong to each draft."""
    ends = list(accumulate(1 + len(draft) for draft in drafts))
    return [slice(end - 1 - len(draft), end) for end, draft in zip(ends, drafts, strict=True)]


def _beside(draft: Draft, logits: Array) -> Draft:
    """The draft with q in the library and on the device of `logits`."""
    return draft if draft.q is None else replace(draft, q=float32(draft.q, like=logits))


def _on_host(draft: Draft) -> Draft:
    """The draft with q in NumPy."""
    q = None if draft.q is None else float32_on_host(draft.q)
    return draft if q is draft.q else replace(draft, q=q)


def judge(
    draft: Draft, logits: Array, sampling: SamplingParams, history: History, rule: Rule, noise: RoundNoise
) -> Verdict:
    """The verdict on one draft.

    Args:
        logits: [1 + draft tokens, vocab], of the target at the pending token and at each draft token, in any precision.

    Raises:
        ModelError: a logit that the verdict depends on is not a finite number.
        InputError: the text's own settings made it so.
    """
    try:
        return _judged(draft, logits, sampling, history, rule, noise)
    except BadLogitError as error:
        if sampling.adjusts_logits and all(map(math.isfinite, largest(logits)[0].tolist())):
            raise InputError(
                f"logit_bias, penalties or logits_processors turn finite logits into {error.value}: leave at least "
                "one token, and make no NaN"
            ) from error
        raise


def _judged(
    draft: Draft, logits: Array, sampling: SamplingParams, history: History, rule: Rule, noise: RoundNoise
) -> Verdict:
    rows = 1 + len(draft)

    def adjusted(numbers: Array, first: int, end: int) -> Array:
        if not sampling.adjusts_logits:
            return numbers
        paths = [[draft.tokens[ancestor] for ancestor in draft.path(row - 1)] for row in range(first, end)]
        return adjust(float32(numbers), sampling, history, paths)

    def in_numpy(row: int) -> Array:
        p = distribution(adjusted(float32(logits[row : row + 1]), row, row + 1), sampling)
        # A NumPy view of the same memory: the many small steps of a rule are faster in NumPy than in PyTorch.
        return float32_on_host(p)[0]

    def greedy_choice(row: int) -> int:
        return int(most_probable(adjusted(logits[row : row + 1], row, row + 1))[0])

    if sampling.greedy:
        try:
            return follow(draft, most_probable(adjusted(logits, 0, rows)).tolist())
        except OutriderError:  # perhaps of a row that plain decoding does not reach
            return follow(draft, Lazy(rows, greedy_choice))
    if not on_host(logits):
        p = distribution(adjusted(float32(logits), 0, rows), sampling)
        return rule.verdict(_beside(draft, logits), AllAtOnce(p), noise)
    return rule.verdict(_on_host(draft), OnDemand(rows, in_numpy), noise)


def logprobs_of(draft: Draft, verdict: Verdict, logits: Array, top: int) -> list[TokenLogprobs]:
    """The target's log probabilities of the tokens that a verdict emits, before any sampling setting.

    Args:
        top: of how many most probable tokens besides.
    """
    tokens = verdict.emitted(draft)
    rows = [0, *(node + 1 for node in verdict.path)][: len(tokens)]
    raw = float32(logits)
    chosen = log_probabilities(raw, rows, tokens)
    if not top:
        return [TokenLogprobs(logprob) for logprob in chosen]
    most = top_log_probabilities(raw, top)
    return [TokenLogprobs(logprob, most[row]) for logprob, row in zip(chosen, rows, strict=True)]

"""From the target's logits to a verdict: sampling settings and rule together."""

from __future__ import annotations

from dataclasses import replace

from outrider.arrays import Array, operations
from outrider.draft import ROOT, Draft
from outrider.noise import RoundNoise
from outrider.sampling import (
    History,
    SamplingParams,
    adjust,
    check_finite,
    distribution,
    log_probabilities,
    most_probable,
)
from outrider.verification import Rule, Verdict, follow


def judge(
    draft: Draft, logits: Array, sampling: SamplingParams, history: History, rule: Rule, noise: RoundNoise
) -> Verdict:
    """The verdict on one draft.

    Args:
        logits: [1 + draft tokens, vocab], of the target after the pending token and after each draft token, in any
            precision.

    Raises:
        ModelError: a logit is not a finite number.
    """
    ops = operations(logits)
    if sampling.adjusts_logits:
        paths = [[draft.tokens[ancestor] for ancestor in draft.path(node)] for node in range(ROOT, len(draft))]
        logits = adjust(ops.float32(logits), sampling, history, paths)
    if sampling.greedy:
        return follow(draft, most_probable(logits).tolist())
    logits = ops.float32(logits)
    check_finite(logits)
    p = distribution(logits, sampling)
    if draft.q is not None:
        draft = replace(draft, q=ops.float32(draft.q, like=p))
    return rule(draft, p, noise)


def logprobs_of(draft: Draft, verdict: Verdict, logits: Array) -> list[float]:
    """The target's log probabilities of the tokens that a verdict emits, before any sampling setting."""
    rows = [0, *(node + 1 for node in verdict.path)]
    tokens = [draft.tokens[node] for node in verdict.path]
    if verdict.token is not None:
        tokens.append(verdict.token)
    return log_probabilities(operations(logits).float32(logits), rows[: len(tokens)], tokens)

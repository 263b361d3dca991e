"""What right and wrong algorithms do at one position: chances of acceptance, and laws of the token that follows.

p and q are the distributions [vocab] of target and draft model. Each function yields (mistake, detail, array); the
right algorithm has the key RIGHT. Of laws that look the same the first is named.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from outrider.maths.arrays import HostFloats

RIGHT = "right"
TEMPERATURES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.25, 1.5, 2.0, 3.0, 5.0)
Named = tuple[str, str, HostFloats]


def tempered(chances: HostFloats, temperature: float) -> HostFloats:
    """A distribution at another temperature."""
    return normalised(np.asarray(chances ** (1 / temperature)))


def normalised(weights: HostFloats) -> HostFloats:
    """Weights [..., vocab] divided by their sum; rows of zeros stay."""
    total = weights.sum(axis=-1, keepdims=True)
    return np.asarray(np.divide(weights, total, out=np.zeros_like(weights, dtype=float), where=total > 0))


def residual(p: HostFloats, q: HostFloats) -> HostFloats:
    """max(p - q, 0), normalised; p where nothing is left."""
    left = np.maximum(p - q, 0)
    return normalised(left) if left.sum() > 1e-9 else p


def softmax(x: HostFloats) -> HostFloats:
    return normalised(np.exp(x))


def hot(token: int, width: int) -> HostFloats:
    return np.asarray(np.eye(width)[token])


def ratio(p: HostFloats, q: HostFloats) -> HostFloats:
    """min(1, p / q) of every token."""
    return np.minimum(1, p / q)


def acceptances(p: HostFloats, q: HostFloats) -> Iterator[Named]:
    """The chance [vocab] with which each draft token is accepted."""
    width = len(p)
    yield RIGHT, "", ratio(p, q)
    yield "swapped", "accepted with chance min(1, q/p)", ratio(q, p)
    yield "reversed", "", 1 - ratio(p, q)
    yield "always", "", np.ones(width)
    yield "never", "", np.zeros(width)
    yield "no_chance", "accepted just where p is at least q", (p >= q).astype(float)
    yield "greedy", "accepted just where it is the target's most probable token", hot(int(p.argmax()), width)
    yield "target_alone", "accepted with chance p", p
    yield "draft_alone", "accepted with chance q", q
    yield "draft_alone", "accepted with chance 1 - q", 1 - q
    yield "half", "accepted with chance 1/2", np.full(width, 0.5)
    for temperature in TEMPERATURES:
        cold_q, cold_p = tempered(q, temperature), tempered(p, temperature)
        yield "q_temperature", f"q fits a temperature of about {temperature:g}", ratio(p, cold_q)
        yield "p_temperature", f"p fits a temperature of about {temperature:g}", ratio(cold_p, q)
        yield "both_temperatures", f"p and q fit a temperature of about {temperature:g}", ratio(cold_p, cold_q)
    for threshold in (0.3, 0.5, 0.62, 0.8):
        yield "no_chance", f"accepted just where p/q is above about {threshold:g}", (p > threshold * q).astype(float)
    for threshold in (0.12, 0.2, 0.28, 0.35):
        detail = f"draft tokens with q below about {threshold:.2f} are never accepted"
        yield "discarded", detail, ratio(p, q) * (q >= threshold)
    for token in range(width):
        yield "discarded", f"draft token {token} is never accepted", ratio(p, q) * (np.arange(width) != token)
    yield "share", "accepted with chance p / (p + q)", p / (p + q)
    yield "difference", "accepted with chance 1 - max(q - p, 0)", 1 - np.maximum(q - p, 0)


def partner(mistake: str, p: HostFloats, q: HostFloats, temperature: float = 1.0) -> HostFloats:
    """The correction that usually comes with a wrong acceptance."""
    if mistake == "swapped":
        return residual(q, p)
    if mistake == "greedy":
        return hot(int(p.argmax()), len(p))
    if mistake == "q_temperature":
        return residual(p, tempered(q, temperature))
    if mistake == "p_temperature":
        return residual(tempered(p, temperature), q)
    if mistake == "both_temperatures":
        return residual(tempered(p, temperature), tempered(q, temperature))
    return residual(p, q)


def corrections(p: HostFloats, q: HostFloats) -> Iterator[Named]:
    """The law [vocab, vocab + 1] of the correction after each rejected token; the last outcome is no token at all."""
    width = len(p)
    left = np.maximum(p - q, 0)
    rest = residual(p, q)

    def same(law: HostFloats) -> HostFloats:
        return np.tile(np.append(law, 0.0), (width, 1))

    def each(laws: HostFloats) -> HostFloats:
        return np.column_stack([laws, np.zeros(width)])

    yield RIGHT, "", same(rest)
    yield "from_target", "", same(p)
    yield "rejected_kept", "", each(np.eye(width))
    yield "from_draft", "", same(q)
    yield "from_draft", "always the draft model's most probable token", same(hot(int(q.argmax()), width))
    yield "swapped", "the correction comes from max(q - p, 0)", same(residual(q, p))
    yield "absolute", "", same(normalised(np.abs(p - q)))
    yield "banned", "", each(normalised(p * (1 - np.eye(width))))
    missing = 1 - left.sum()
    yield "not_normalised", "where the sum falls short, the last token comes", same(left + missing * hot(-1, width))
    yield "not_normalised", "where the sum falls short, token 0 comes", same(left + missing * hot(0, width))
    yield (
        "not_normalised",
        "where the sum falls short, no token of the vocabulary comes",
        np.tile(np.append(left, missing), (width, 1)),
    )
    yield "softmax_residual", "", same(softmax(left))
    yield "softmax_residual", "and it is normalised before", same(softmax(rest))
    yield "softmax_target", "", same(softmax(p))
    yield "greedy_correction", "always the target's most probable token", same(hot(int(p.argmax()), width))
    yield "greedy_correction", "always the token with the largest p - q", same(hot(int((p - q).argmax()), width))
    kept, ones = ratio(p, q), np.ones(width)
    for low, high in ((kept, ones), (0 * ones, 1 - kept)):
        yield "equal_noise", "the uniform that rejected also draws the correction", each(drawn_from(low, high, rest))
        yield "equal_noise", "the uniform that rejected also draws a token of p", each(drawn_from(low, high, p))
    for temperature in TEMPERATURES:
        cold_q, cold_p = tempered(q, temperature), tempered(p, temperature)
        yield "q_temperature", f"q fits a temperature of about {temperature:g}", same(residual(p, cold_q))
        yield "p_temperature", f"p fits a temperature of about {temperature:g}", same(residual(cold_p, q))
        yield "both_temperatures", f"p and q fit a temperature of about {temperature:g}", same(residual(cold_p, cold_q))
    yield "uniform", "", same(np.full(width, 1 / width))
    yield "uniform", "among the tokens with p above q", same(normalised((p > q).astype(float)))


def drawn_from(low: HostFloats, high: HostFloats, law: HostFloats) -> HostFloats:
    """The tokens [vocab, vocab] that a uniform from `low` to `high` [vocab] draws by the cumulative sum of a law."""
    return normalised(overlap(low[:, None], high[:, None], law))


def overlap(low: HostFloats, high: HostFloats, law: HostFloats) -> HostFloats:
    """How much of the interval from `low` to `high` lies in each token's share of the cumulative sum of `law`."""
    ends = np.cumsum(law)
    starts = ends - law
    return np.asarray(np.maximum(np.minimum(high, ends) - np.maximum(low, starts), 0))


def bonuses(p: HostFloats, q: HostFloats, p_before: HostFloats, p_first: HostFloats) -> Iterator[Named]:
    """The law [vocab + 1] of the token after full acceptance; the last outcome is no token.

    Args:
        p: of the target after the last draft token.
        q: of the draft model before the last draft token.
        p_before: of the target before the last draft token.
        p_first: of the target before the first draft token.
    """
    width = len(p)
    yield RIGHT, "", np.append(p, 0.0)
    yield "no_bonus", "", np.append(np.zeros(width), 1.0)
    yield "bonus_from_draft", "it comes from the last row of the draft model", np.append(q, 0.0)
    yield "bonus_row", "it comes from the row before", np.append(p_before, 0.0)
    yield "bonus_row", "it comes from the first row", np.append(p_first, 0.0)
    yield "bonus_residual", "", np.append(residual(p, q), 0.0)
    yield "bonus_greedy", "", np.append(hot(int(p.argmax()), width), 0.0)
    yield "softmax_target", "", np.append(softmax(p), 0.0)
    for temperature in TEMPERATURES:
        yield "p_temperature", f"p fits a temperature of about {temperature:g}", np.append(tempered(p, temperature), 0)
    yield "uniform", "", np.append(np.full(width, 1 / width), 0.0)

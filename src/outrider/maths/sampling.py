"""From logits to the distribution that is sampled from.

The order, which follows transformers' `generate` (the presence and frequency penalties, which it lacks, follow the
OpenAI API and stand beside the repetition penalty):

    logit bias, repetition penalty, frequency and presence penalty, logits processors, temperature, top-k, top-p, min-p,
    softmax

Drafter and target pass through the same functions, so that the drafter's q is the distribution it really drew from.
Ties at a threshold are all kept: the distribution does not depend on how a library sorts.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any

import numpy as np

from outrider.errors import ModelError, SettingError, shown
from outrider.maths.arrays import Array, HostInts, gather, largest, log_sum_exp, operations, replace, top
from outrider.maths.processors import LogitsProcessor, process

SMALLEST_TEMPERATURE = 1e-6
LARGEST_TEMPERATURE = 1e20  # beyond a float32 a banned token has no probability that is a number
BIAS = "{token id >= 0: number of at most 1e20}"
LARGEST_TOP_K = 2**31  # beyond every vocabulary
LARGEST_WHOLE = 2**53  # up to which a float holds every whole number
# Larger numbers, divided by the smallest temperature, leave what a float32 holds.
LARGEST_SHIFT = 1e20  # of logit bias and penalties that are added
LARGEST_FACTOR = 1e6  # of the repetition penalty, and 1 over it
LEAST_TEMPERATURE = f"0 or at least {SMALLEST_TEMPERATURE} (use 0 for greedy)"
NUMBERS = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
)


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How tokens are sampled.

    Attributes:
        temperature: divides the logits; 0 is greedy decoding.
        top_k: keep the k most probable tokens; 0 keeps all.
        top_p: keep the most probable tokens that together hold this probability; 1 keeps all.
        min_p: drop tokens less probable than this fraction of the most probable one; 0 keeps all.
        repetition_penalty: above 1, divides positive and multiplies negative logits of tokens that occurred in the
            prompt or the output (CTRL, arXiv 1909.05858, section 4.1).
        presence_penalty: subtracted from the logits of tokens that occurred in the output.
        frequency_penalty: subtracted once per occurrence in the output.
        logit_bias: added to the logits of single tokens, {token: bias}.
        seed: for reproducible output; None draws a fresh one.
        logits_processors: functions of (output so far, logits) that change logits: grammars, for example
            (processors.py).

    Raises:
        SettingError: a value is out of its range.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    logits_processors: tuple[LogitsProcessor, ...] = ()

    def __post_init__(self) -> None:
        put = object.__setattr__  # frozen for everybody else
        for name in NUMBERS:
            put(self, name, _plain(name, getattr(self, name)))
        _require(isinstance(self.logit_bias, Mapping), "logit_bias", self.logit_bias, BIAS)
        hot = "from 0 to 1e20 (0 is greedy)"
        _require(0 <= self.temperature <= LARGEST_TEMPERATURE, "temperature", self.temperature, hot)
        _require(
            self.temperature == 0 or self.temperature >= SMALLEST_TEMPERATURE,
            "temperature",
            self.temperature,
            LEAST_TEMPERATURE,
        )
        _require(self.top_k >= 0 and self.top_k % 1 == 0, "top_k", self.top_k, "a whole number >= 0")
        _require(0 < self.top_p <= 1, "top_p", self.top_p, "above 0 and at most 1 (1 keeps all tokens)")
        _require(0 <= self.min_p <= 1, "min_p", self.min_p, "from 0 to 1 (0 keeps all tokens)")
        _require(
            1 / LARGEST_FACTOR <= self.repetition_penalty <= LARGEST_FACTOR,
            "repetition_penalty",
            self.repetition_penalty,
            "from 1e-06 to 1e+06 (1 is no penalty)",
        )
        for name in ("presence_penalty", "frequency_penalty"):
            value = getattr(self, name)
            _require(abs(value) <= LARGEST_SHIFT, name, value, "a number from -1e20 to 1e20 (0 is no penalty)")
        put(self, "top_k", min(int(self.top_k), LARGEST_TOP_K))
        for token, bias in self.logit_bias.items():
            sound = isinstance(token, Integral) and isinstance(bias, Real) and token >= 0
            _require(sound and _plain("logit_bias", bias) <= LARGEST_SHIFT, "logit_bias", {token: bias}, BIAS)
        if not all(type(token) is int and type(bias) is float for token, bias in self.logit_bias.items()):
            plain = {int(token): _plain("logit_bias", bias) for token, bias in self.logit_bias.items()}
            put(self, "logit_bias", plain)
        whole = self.seed is None or (isinstance(self.seed, Integral) and 0 <= self.seed < 2**64)
        _require(
            isinstance(self.logits_processors, tuple) and all(map(callable, self.logits_processors)),
            "logits_processors",
            self.logits_processors,
            "a tuple of functions (output, logits) -> logits",
        )
        _require(whole, "seed", self.seed, "a whole number from 0 to 2**64 - 1, or None")
        if self.seed is not None:
            put(self, "seed", int(self.seed))

    @property
    def greedy(self) -> bool:
        return self.temperature == 0

    @property
    def looks_back(self) -> bool:
        """Whether a penalty makes the distribution depend on which tokens occurred."""
        return self.repetition_penalty != 1 or self.presence_penalty != 0 or self.frequency_penalty != 0

    @property
    def adjusts_logits(self) -> bool:
        return self.looks_back or bool(self.logit_bias) or bool(self.logits_processors)


def _plain(name: str, value: Any) -> int | float:
    """A number of any library as one of Python's."""
    if type(value) is float:
        return value
    _require(isinstance(value, Real), name, value, "a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf if value > 0 else -math.inf
    return value if type(value) is int and abs(value) < LARGEST_WHOLE else number


def _require(holds: bool, name: str, value: object, limit: str) -> None:
    if not holds:  # also when a comparison met a NaN
        raise SettingError(f"{name} is {shown(value)}: it must be {limit}")


UNCHANGED = SamplingParams()  # the model's own distribution


def common_settings(rows: Sequence[SamplingParams]) -> SamplingParams | None:
    """Settings that make the `distribution` of all rows in one operation.

    Returns:
        None where rows differ in more than their seeds, or depend on what stands before them.
    """
    first = rows[0]
    if first.adjusts_logits:
        return None
    alike = _filters(first)
    for other in rows:
        if other is not first and (other.adjusts_logits or _filters(other) != alike):
            return None
    return first


def _filters(params: SamplingParams) -> tuple[float, int, float, float]:
    return params.temperature, params.top_k, params.top_p, params.min_p


class History:
    """What a sequence says so far, as penalties and logits processors look at it.

    Attributes:
        prompt: the tokens that occurred in it.
        output: how often each token occurred.
        tokens: the output in its order.
    """

    def __init__(self, prompt: Sequence[int]) -> None:
        self.prompt = frozenset(prompt)
        self.output: Counter[int] = Counter()
        self.tokens: list[int] = []

    def extend(self, tokens: Sequence[int]) -> None:
        self.tokens.extend(tokens)
        for token in tokens:  # Counter.update takes longer for the few of a round
            self.output[token] += 1


def adjust(logits: Array, params: SamplingParams, history: History, paths: Sequence[Sequence[int]]) -> Array:
    """Logit bias, penalties and logits processors, position by position.

    Args:
        logits: float32 [rows, vocab].
        history: the tokens emitted so far.
        paths: for each row the draft tokens between the history and the position that the row predicts; parents come
            first.

    Returns:
        float32 [rows, vocab], a new array where anything changed.
    """
    if params.looks_back or params.logit_bias:
        logits = _with_penalties(logits, params, history, paths)
    if params.logits_processors:
        logits = process(logits, params.logits_processors, history.tokens, paths)
    return logits


def _with_penalties(logits: Array, params: SamplingParams, history: History, paths: Sequence[Sequence[int]]) -> Array:
    vocab_size = logits.shape[-1]
    rows: list[int] = []
    tokens: list[int] = []
    occurrences: list[int] = []
    seen: list[bool] = []
    output = history.output
    for row, path in enumerate(paths):
        along = Counter(path)
        touched = set(params.logit_bias)
        if params.looks_back:
            touched.update(history.prompt, output, along)
        for token in touched:
            if token < vocab_size:
                count = output.get(token, 0) + along.get(token, 0)
                rows.append(row)
                tokens.append(token)
                occurrences.append(count)
                seen.append(count > 0 or token in history.prompt)
    if not tokens:
        return logits
    values = gather(logits, rows, tokens)
    return replace(logits, rows, tokens, _penalised(values, tokens, occurrences, seen, params))


def _penalised(
    values: np.ndarray[Any, Any],
    tokens: Sequence[int],
    occurrences: Sequence[int],
    seen: Sequence[bool],
    params: SamplingParams,
) -> np.ndarray[Any, Any]:
    if params.logit_bias:
        values = values + np.array([params.logit_bias.get(token, 0.0) for token in tokens])
    if params.repetition_penalty != 1:
        factor = np.where(values < 0, params.repetition_penalty, 1 / params.repetition_penalty)
        values = np.where(seen, values * factor, values)
    if params.frequency_penalty or params.presence_penalty:
        counts = np.array(occurrences)
        values = values - (params.frequency_penalty * counts + params.presence_penalty * (counts > 0))
    return np.asarray(values)


def distribution(logits: Array, params: SamplingParams) -> Array:
    """The distribution sampled from at temperature > 0, after `adjust`.

    Args:
        logits: float32 [rows, vocab].

    Returns:
        float32 [rows, vocab]; each row sums to 1 up to rounding.

    Raises:
        ModelError: a row holds a NaN, or no finite largest value.
    """
    ops = operations(logits)
    if params.temperature != 1:
        logits = logits / params.temperature
    if 0 < params.top_k < logits.shape[-1]:
        check_finite(logits)  # a NaN would be dropped with the improbable tokens
        logits = ops.keep_where_at_least(logits, ops.kth_largest(logits, params.top_k), -math.inf)
    probabilities = ops.softmax(logits)
    # One bad logit makes the whole row NaN, so that one number of it tells.
    if any(map(math.isnan, ops.to_numpy(probabilities[:, 0]).tolist())):
        check_finite(logits)
    if params.top_p == 1 and params.min_p == 0:
        return probabilities
    if params.top_p < 1:
        threshold = ops.nucleus_threshold(probabilities, params.top_p)
        probabilities = ops.keep_where_at_least(probabilities, threshold, 0.0)
    if params.min_p > 0:
        threshold = ops.kth_largest(probabilities, 1) * params.min_p
        probabilities = ops.keep_where_at_least(probabilities, threshold, 0.0)
    return ops.divide(probabilities, ops.sums(probabilities))


def most_probable(logits: Array) -> HostInts:
    """The greedy choice of each row, [rows]; the first of equals.

    Raises:
        ModelError: a row holds a NaN, or no finite largest value.
    """
    values, tokens = largest(logits)
    _refuse_bad(values)
    return tokens


def live_rows(logits: Array) -> list[int]:
    """The rows [rows, vocab] that allow any token: a grammar may forbid all that a draft model knows."""
    return [row for row, value in enumerate(largest(logits)[0].tolist()) if value != -math.inf]


class BadLogitError(ModelError):
    """A row of logits holds a NaN, or has no finite largest value.

    Attributes:
        value: what it has instead.
    """

    def __init__(self, value: float) -> None:
        super().__init__(
            f"the model produced a logit of {value}: it must be finite; try --dtype float32, or another model file"
        )
        self.value = value

    def __reduce__(self) -> tuple[type[BadLogitError], tuple[float]]:
        return type(self), (self.value,)  # pickle would call the class with the message


def check_finite(logits: Array) -> None:
    """Raises ModelError if a row of `logits` [rows, vocab] holds a NaN or has no finite largest value."""
    _refuse_bad(largest(logits)[0])


def _refuse_bad(values: np.ndarray[Any, Any]) -> None:
    if not all(map(math.isfinite, values.tolist())):
        raise BadLogitError(next(value for value in values.tolist() if not math.isfinite(value)))


def log_probabilities(logits: Array, rows: Sequence[int], tokens: Sequence[int]) -> list[float]:
    """log softmax of the raw logits [rows, vocab] at (rows[i], tokens[i]): natural logarithms, before any setting."""
    return [float(x) for x in gather(logits, rows, tokens) - log_sum_exp(logits)[list(rows)]]


def top_log_probabilities(logits: Array, count: int) -> list[dict[int, float]]:
    """The same of the `count` most probable tokens of each row, {token: logarithm}, the most probable first."""
    values, tokens = top(logits, count)
    values = values - log_sum_exp(logits)[:, None]
    return [dict(zip(*row, strict=True)) for row in zip(tokens.tolist(), values.tolist(), strict=True)]

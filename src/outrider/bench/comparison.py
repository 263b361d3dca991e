"""Several systems on the same questions, interleaved question by question, and the results."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from outrider.bench.systems import Measurement, System
from outrider.prompts.chat import Chat, encode_within
from outrider.prompts.files import FilePrompt
from outrider.runtimes.base import Model


@dataclass(frozen=True, slots=True)
class Answer:
    """All systems' answers to one question."""

    category: str
    measurements: Mapping[str, Measurement]


@dataclass(frozen=True, slots=True)
class Row:
    """One system in one category.

    Attributes:
        questions: how many.
        tokens_per_second: all emitted tokens over all seconds of decoding.
        speedup: the baseline's seconds per token over this system's, both summed over the questions.
        median_speedup: the median of the speed-ups of the questions.
        mean_tokens_per_round: emitted tokens per forward pass of the target; None for peers.
        overhead: the share of decoding time outside drafting and verification; None for peers.
        same_tokens: the share of questions that get the baseline's answer, token for token.
    """

    category: str
    system: str
    questions: int
    tokens_per_second: float
    speedup: float
    median_speedup: float
    mean_tokens_per_round: float | None
    overhead: float | None
    same_tokens: float


def run_comparison(
    questions: Sequence[FilePrompt],
    systems: Mapping[str, System],
    target: Model,
    max_tokens: int,
    progress: Callable[[int, int], None] | None = None,
) -> list[Answer]:
    """Ask every system every question. The order of the systems rotates from question to question.

    Args:
        target: gives the tokenizer and the context; a question that leaves no room for max_tokens is cut.
        progress: called with (questions done, all questions).
    """
    answers = []
    names = list(systems)
    for number, question in enumerate(questions):
        prompt = question_tokens(question, target, max_tokens)
        turned = names[number % len(names) :] + names[: number % len(names)]
        measured = {name: systems[name](prompt, max_tokens) for name in turned}
        answers.append(Answer(question.category, {name: measured[name] for name in names}))
        if progress is not None:
            progress(number + 1, len(questions))
    return answers


def question_tokens(question: FilePrompt, target: Model, max_tokens: int) -> tuple[int, ...]:
    """A question as a chat prompt; its text is cut if it leaves no room for max_tokens."""
    room = target.traits.context_length - max_tokens
    return encode_within(question.request.prompt, target.tokenizer, target.name, room, Chat())


def summarise(answers: Sequence[Answer], baseline: str) -> list[Row]:
    """A row for each category and system, and for all categories together."""
    categories = list(dict.fromkeys(answer.category for answer in answers))
    groups = [(category, [a for a in answers if a.category == category]) for category in categories]
    if len(groups) > 1:
        groups.append(("all", list(answers)))
    return [_row(category, name, group, baseline) for category, group in groups for name in group[0].measurements]


def _row(category: str, system: str, answers: Sequence[Answer], baseline: str) -> Row:
    mine = [answer.measurements[system] for answer in answers]
    base = [answer.measurements[baseline] for answer in answers]
    stats = [measurement.stats for measurement in mine if measurement.stats is not None]
    tokens, seconds = _totals(mine)
    base_tokens, base_seconds = _totals(base)
    rounds = sum(each.rounds for each in stats)
    spent = sum(each.seconds_decoding for each in stats)
    return Row(
        category=category,
        system=system,
        questions=len(answers),
        tokens_per_second=tokens / seconds,
        speedup=(base_seconds / base_tokens) / (seconds / tokens),
        median_speedup=statistics.median(
            b.seconds_per_token / m.seconds_per_token for b, m in zip(base, mine, strict=True)
        ),
        mean_tokens_per_round=sum(each.emitted for each in stats) / rounds if rounds else None,
        overhead=sum(each.seconds_elsewhere for each in stats) / spent if spent else None,
        same_tokens=sum(m.tokens == b.tokens for m, b in zip(mine, base, strict=True)) / len(answers),
    )


def _totals(measurements: Sequence[Measurement]) -> tuple[int, float]:
    return sum(len(m.tokens) for m in measurements), sum(m.seconds_decoding for m in measurements)

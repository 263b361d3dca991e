"""A trace in numbers: totals, and the lookahead over time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from outrider.engine.record import RoundRecord, SequenceRound
from outrider.engine.statistics import Statistics

Text = tuple[int, int]  # (which engine of the trace, the id of the sequence there)


@dataclass(frozen=True, slots=True)
class Summary:
    """All texts of a trace together.

    Attributes:
        texts: how many there are.
        rounds: of the engine; a round of several texts counts once.
        passes: forward passes of the target.
        read: prompt tokens that the target read, the pending one of each text aside.
        statistics: counts are sums over the texts. Seconds are the engine's: a round of several texts counts once,
            while the statistics of each text count the whole round.
    """

    texts: int
    rounds: int
    passes: int
    read: int
    statistics: Statistics

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, for JSON."""
        return {
            "texts": self.texts,
            "rounds": self.rounds,
            "passes": self.passes,
            "read": self.read,
            "statistics": self.statistics.as_dict(),
        }


def summarise(records: Iterable[RoundRecord]) -> Summary:
    """Sum up a trace: acceptance by position, tokens by origin, time by phase."""
    records = list(records)
    statistics = Statistics()
    for record in records:
        for part in record.sequences:
            if part.tokens:
                statistics.count_round(part.drafted, max(part.depths, default=part.drafted), part.accepted)
            statistics.emitted += len(part.tokens)
            statistics.origins.update(part.origins)
        statistics.count_time(
            record.seconds_drafting,
            record.seconds_verification,
            record.seconds_elsewhere,
            read=sum(part.read for part in record.sequences),
            fed=max(sum(map(_fed, record.sequences)), 1),
        )
    return Summary(
        texts=len({text for _, text, _ in parts(records)}),
        rounds=len(records),
        passes=sum(record.passes for record in records),
        read=sum(part.read for record in records for part in record.sequences),
        statistics=statistics,
    )


def parts(records: Iterable[RoundRecord]) -> Iterator[tuple[int, Text, SequenceRound]]:
    """(index of the round in the trace, text, its part) for every part of every round.

    A decoder may open several engines, one after the other, and each counts rounds and sequences from 0.
    """
    engine = 0
    last = -1
    for place, record in enumerate(records):
        engine += record.number <= last
        last = record.number
        for part in record.sequences:
            yield place, (engine, part.sequence), part


@dataclass(frozen=True, slots=True)
class LookaheadCourse:
    """The lookahead over the rounds, of one text or the mean of several.

    Attributes:
        texts: how many texts each number is a mean of.
        rounds_per_value: how many rounds each number is a mean of.
        planned, drafted, accepted: tokens per round and text; NaN where no text could draft. `planned` is NaN also
            where the drafter chose by itself.
    """

    texts: int
    rounds_per_value: int
    planned: Sequence[float]
    drafted: Sequence[float]
    accepted: Sequence[float]


def lookahead_courses(records: Sequence[RoundRecord], *, most_texts: int, most_values: int) -> list[LookaheadCourse]:
    """The lookahead over time: one course per text, or one mean if there are more than `most_texts`.

    Args:
        most_values: the longest that a course may be; rounds are averaged to keep it.
    """
    emitting = [(place, text, part) for place, text, part in parts(records) if part.tokens]
    texts = sorted({text for _, text, _ in emitting})
    groups = [{text} for text in texts] if len(texts) <= most_texts else [set(texts)]
    width = max(-(-len(records) // most_values), 1)
    courses = []
    for group in groups:
        bins: list[list[SequenceRound]] = [[] for _ in range(-(-len(records) // width))]
        for place, text, part in emitting:
            if text in group:
                bins[place // width].append(part)
        courses.append(
            LookaheadCourse(
                len(group),
                width,
                [_mean([part.planned for part in each if part.planned is not None]) for each in bins],
                [_mean([part.drafted for part in each]) for each in bins],
                [_mean([part.accepted for part in each]) for each in bins],
            )
        )
    return courses


def _fed(part: SequenceRound) -> int:
    """The tokens that a text fed in the round; a text that emits has fed its pending token and its draft too."""
    return part.read + (1 + part.drafted if part.tokens else 0)


def _mean(values: Sequence[int]) -> float:
    return sum(values) / len(values) if values else float("nan")

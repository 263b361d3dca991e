"""How fast a run went, round by round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from outrider.engine.record import RoundRecord


@dataclass(frozen=True, slots=True)
class Pace:
    """Speed over the rounds.

    Attributes:
        rounds_per_value: over how many rounds each number is taken.
        tokens_per_second: tokens emitted, of all texts, by the seconds of these rounds.
        active: texts that took part in a round, on average.
    """

    rounds_per_value: int
    tokens_per_second: Sequence[float]
    active: Sequence[float]


def pace(records: Sequence[RoundRecord], *, most_values: int) -> Pace:
    """Speed and texts along a run.

    Args:
        most_values: as many rounds are taken together as keep the numbers within this length.
    """
    width = max(-(-len(records) // most_values), 1)
    bins = [records[start : start + width] for start in range(0, len(records), width)]
    return Pace(width, [_speed(each) for each in bins], [_active(each) for each in bins])


def _speed(records: Sequence[RoundRecord]) -> float:
    seconds = sum(each.seconds_drafting + each.seconds_verification + each.seconds_elsewhere for each in records)
    return sum(len(part.tokens) for each in records for part in each.sequences) / seconds if seconds else 0.0


def _active(records: Sequence[RoundRecord]) -> float:
    return sum(len(each.sequences) for each in records) / len(records)

"""How numbers are written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from outrider.check.learner.verdicts import Table
from outrider.maths.arrays import HostFloats


def chances(values: Iterable[float]) -> str:
    """A distribution."""
    return "[" + " ".join(f"{value:.2f}" for value in values) + "]"


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def tokens(values: Iterable[int]) -> str:
    return "[" + ", ".join(str(value) for value in values) + "]"


def comparison(headings: Sequence[str], counts: HostFloats, right: HostFloats) -> Table:
    """Shares of counts, and what they should be."""
    trials = max(counts.sum(), 1)
    return Table(
        ["", *headings],
        [
            ["yours", *(percent(count / trials) for count in counts)],
            ["right", *(percent(chance) for chance in right)],
        ],
    )

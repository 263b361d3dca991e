"""A lookahead driven by the rolling acceptance rate."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Hashable, Sequence
from numbers import Integral, Real

from outrider.errors import SettingError, shown
from outrider.lookahead.policy import LookaheadPolicy, Outcome, Times

LONGEST_WINDOW = 2**20  # updates that are kept


class AdaptiveSpeculator:
    """A lookahead driven by the rolling average of the acceptance rate.

    When the average over the last `window` rounds is above `raise_above`, the lookahead grows by one; when it is below
    `lower_below`, it shrinks by one; in between it stays. Rounds before a change count for nothing after it: the rate
    of a long draft says little about that of a short one.

    Args:
        initial_lookahead: where it starts, in tokens.
        min_lookahead, max_lookahead: the bounds, in tokens.
        window: over how many updates the acceptance rate is averaged.
        raise_above, lower_below: the thresholds of the averaged acceptance rate.
        patience: how many updates must be in the average before the lookahead may move.

    Raises:
        SettingError: bounds or thresholds that contradict each other, or are no numbers.
    """

    def __init__(
        self,
        initial_lookahead: int = 4,
        *,
        min_lookahead: int = 1,
        max_lookahead: int = 16,
        window: int = 8,
        raise_above: float = 0.8,
        lower_below: float = 0.5,
        patience: int = 2,
    ) -> None:
        for name, count in (
            ("initial_lookahead", initial_lookahead),
            ("min_lookahead", min_lookahead),
            ("max_lookahead", max_lookahead),
            ("window", window),
            ("patience", patience),
        ):
            if not isinstance(count, Integral) or isinstance(count, bool):
                raise SettingError(f"{name} is {shown(count)}: it must be a whole number")
        for name, rate in (("raise_above", raise_above), ("lower_below", lower_below)):
            if not isinstance(rate, Real):
                raise SettingError(f"{name} is {shown(rate)}: it must be a number from 0 to 1")
        if not 0 <= min_lookahead <= initial_lookahead <= max_lookahead:
            raise SettingError(
                f"initial_lookahead is {initial_lookahead}: it must lie between min_lookahead {min_lookahead} "
                f"and max_lookahead {max_lookahead}, and these must be at least 0"
            )
        if not 0 <= lower_below < raise_above <= 1:
            raise SettingError(
                f"lower_below is {lower_below} and raise_above {raise_above}: they must be in order and within 0 to 1"
            )
        if not 1 <= patience <= window:
            raise SettingError(f"patience is {patience}: it must be from 1 to window, {window}")
        self.lookahead = int(initial_lookahead)
        self.min_lookahead = int(min_lookahead)
        self.max_lookahead = int(max_lookahead)
        self.window = int(window)
        self.raise_above = raise_above
        self.lower_below = lower_below
        self.patience = int(patience)
        self._rates: deque[float] = deque(maxlen=min(self.window, LONGEST_WINDOW))

    def __repr__(self) -> str:
        return f"AdaptiveSpeculator({self.lookahead})"

    @property
    def acceptance_rate(self) -> float | None:
        """The rolling average, accepted / drafted; None before the first update."""
        return sum(self._rates) / len(self._rates) if self._rates else None

    def update_lookahead(self, acceptance_rate: float) -> int:
        """Learn the acceptance rate of one round and return the lookahead for the next.

        Raises:
            SettingError: the rate does not lie in 0 to 1.
        """
        if not (isinstance(acceptance_rate, Real) and 0 <= acceptance_rate <= 1):
            raise SettingError(
                f"acceptance_rate is {shown(acceptance_rate)}: it must lie in 0 to 1 (accepted / drafted)"
            )
        self._rates.append(acceptance_rate)
        if len(self._rates) >= self.patience:
            average = sum(self._rates) / len(self._rates)
            if average > self.raise_above and self.lookahead < self.max_lookahead:
                self._move(self.lookahead + 1)
            elif average < self.lower_below and self.lookahead > self.min_lookahead:
                self._move(self.lookahead - 1)
        return self.lookahead

    def _move(self, lookahead: int) -> None:
        self.lookahead = lookahead
        self._rates.clear()

    def copy(self) -> AdaptiveSpeculator:
        """A new one with the same settings that starts at the present lookahead and knows no rate yet."""
        return AdaptiveSpeculator(
            self.lookahead,
            min_lookahead=self.min_lookahead,
            max_lookahead=self.max_lookahead,
            window=self.window,
            raise_above=self.raise_above,
            lower_below=self.lower_below,
            patience=self.patience,
        )


class Adaptive(LookaheadPolicy):
    """A policy with one AdaptiveSpeculator per sequence, each a copy of the given one."""

    def __init__(self, speculator: AdaptiveSpeculator | None = None) -> None:
        if speculator is not None and not isinstance(speculator, AdaptiveSpeculator):
            raise SettingError(f"speculator is {shown(speculator)}: give an AdaptiveSpeculator, or None")
        self._pattern = speculator if speculator is not None else AdaptiveSpeculator()
        self._speculators = defaultdict[Hashable, AdaptiveSpeculator](self._pattern.copy)

    def __repr__(self) -> str:
        return f"Adaptive({self._pattern!r})"

    @property
    def learns(self) -> bool:
        return False  # from one text for another

    @property
    def most(self) -> int:
        return self._pattern.max_lookahead

    def plan(self, sequences: Sequence[Hashable]) -> list[int]:
        return [self._speculators[sequence].lookahead for sequence in sequences]

    def observe(self, outcomes: Sequence[Outcome], times: Times | None) -> None:
        for outcome in outcomes:
            if outcome.drafted:
                # At most one path of a tree is accepted.
                self._speculators[outcome.sequence].update_lookahead(outcome.accepted / outcome.longest)

    def forget(self, sequence: Hashable) -> None:
        self._speculators.pop(sequence, None)

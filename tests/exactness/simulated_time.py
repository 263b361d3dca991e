"""Models whose passes cost simulated seconds, so that what a policy makes of time is the same on every machine."""

from collections.abc import Callable
from dataclasses import replace

from outrider import TableModel
from outrider.runtimes.base import Pass, Scored
from outrider.runtimes.stateless import StatelessSession

Price = Callable[[float, int, int], float]  # (now, rows, tokens of the longest row) -> seconds


class Clock:
    """Stands still but for the passes that are paid for."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class TimedModel(TableModel):
    """A table model whose passes take time.

    Args:
        pads_rows: as models do that compute every row as long as the longest.
    """

    def __init__(self, model: TableModel, clock: Clock, price: Price, *, pads_rows: bool = False) -> None:
        super().__init__(model.table, name=model.name)
        self.clock = clock
        self.price = price
        self.traits = replace(self.traits, pads_rows=pads_rows)

    def pay(self, rows: int, tokens: int) -> None:
        self.clock.now += self.price(self.clock.now, rows, tokens)

    def open(self, rows: int, capacity: int) -> StatelessSession:
        return TimedSession(self, rows, capacity)


class TimedSession(StatelessSession):
    _model: TimedModel

    def extend(self, work: Pass) -> Scored:
        self._model.pay(len(work.rows), max(map(len, work.tokens)))
        return super().extend(work)


def steady(start: float, per_token: float) -> Price:
    """The same at all times, and for every row."""
    return lambda now, rows, tokens: start + per_token * rows * tokens


def changing(cheap: Price, dear: Price, period: float) -> Price:
    """Cheap and dear by turns, each for `period` seconds."""
    return lambda now, rows, tokens: (dear if now // period % 2 else cheap)(now, rows, tokens)

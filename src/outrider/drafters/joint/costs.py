"""What questions to a head take, measured while they are asked."""

from __future__ import annotations

from outrider.drafters.joint.terms import StepPrices

STEP = 0.1  # of the EMAs
OUTLIER = 3.0  # times the EMA: longer times are clipped to it, since another program held the question up
FEW = 4  # entries that every first question reads
HORIZON = 8  # questions over which a longer way to catch up is spread


class QuestionCosts:
    """Seconds of questions: of the first one of a round, of each further node, and of what was missed before.

    The first question reads what came since the last round. Where rounds were skipped there is more to read. That is
    paid once, and then many questions may follow: so it is spread over a few of them.
    """

    def __init__(self) -> None:
        self._first = self._further = self._entry = 0.0

    def prices(self, missing: int, rate: float) -> StepPrices:
        """In tokens.

        Args:
            missing: entries that the first question reads.
            rate: tokens per second.
        """
        late = max(missing - FEW, 0) * self._entry / HORIZON
        return StepPrices((self._first + late) * rate, self._further * rate)

    def learn_first(self, seconds: float, missing: int) -> None:
        """One text was caught up with, and asked about."""
        if missing <= FEW:
            self._first = _moved(self._first, seconds)
        else:
            self._entry = _moved(self._entry, max(seconds - self._first, 0.0) / (missing - FEW))

    def learn_together(self, seconds: float, missing: int, answering: float, nodes: int) -> None:
        """All questions of a round.

        Args:
            seconds: of reading the text.
            answering: seconds of all answers, the first one with them.
            nodes: that were read after the text; the first answer counts as half of one, for it reads none.
        """
        each = answering / (nodes + 0.5)
        self.learn_first(seconds + 0.5 * each, missing)
        if nodes:
            self.learn_further(each)

    def learn_further(self, seconds: float) -> None:
        """One node was read and asked about."""
        self._further = _moved(self._further, seconds)


def _moved(known: float, seconds: float) -> float:
    if not known:
        return seconds
    return known + STEP * (min(seconds, OUTLIER * known) - known)

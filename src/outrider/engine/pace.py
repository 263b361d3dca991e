"""How much of a prompt a round reads, so that it ends soon enough to be interrupted, cancelled or shared."""

from __future__ import annotations

from outrider.lookahead import CostCurve
from outrider.runtimes.base import Traits

FIRST = 32  # tokens, where nothing is known of passes yet
FEWEST = 16  # fewer would read the weights more often than needed
KNOWN = 17  # tokens of a pass that is measured as an engine opens
NEW = 0.5  # the weight of a new pass in the EMA


class ReadingPace:
    """Chooses the prompt tokens of a round by number, and where a model is slow by time.

    A laptop reads 20 tokens a second with a large model: for 512 of them keys, other texts and clients that are gone
    would wait half a minute. By time only where a prompt has the same bits in any pieces
    (`Traits.reads_in_any_pieces`): elsewhere the speed of the moment would decide how a text is rounded.

    Args:
        costs: says what the first piece takes, if it was measured.

    Attributes:
        by_time: whether time counts.
    """

    def __init__(self, traits: Traits, costs: CostCurve) -> None:
        self.by_time = traits.reads_in_any_pieces
        self._costs = costs
        self._seconds_of_a_token: float | None = None

    def tokens(self, most: int, seconds: float) -> int:
        """How many prompt tokens the coming round reads, of all texts together.

        Args:
            most: by number.
            seconds: that they may take.
        """
        if not self.by_time:
            return most
        of_a_token = self._seconds_of_a_token
        if of_a_token is None:
            if not self._costs.measured:
                return min(FIRST, most)
            of_a_token = self._costs.seconds(1, KNOWN) / KNOWN
        if of_a_token * most <= seconds:
            return most
        return max(int(seconds / of_a_token), min(FEWEST, most))

    def observe(self, tokens: int, seconds: float) -> None:
        """Learn from a pass that read prompts.

        Args:
            tokens: all that it fed. Of few each takes longer than it would among many.
        """
        if tokens < FEWEST:
            return
        of_a_token, known = seconds / tokens, self._seconds_of_a_token
        self._seconds_of_a_token = of_a_token if known is None else known + NEW * (of_a_token - known)

"""What a session offers that judges drafts where the logits lie, on a device, instead of reading them on the host."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from outrider.maths.arrays import Array
from outrider.maths.draft import Draft, Verdict
from outrider.maths.noise import RoundNoise
from outrider.maths.rules import Rule
from outrider.maths.sampling import History, SamplingParams

Reading = Callable[[], list[Verdict | None]]
Choices = Callable[[], list[int | None]]


@dataclass(frozen=True, slots=True)
class Case:
    """A draft that is to be judged.

    Attributes:
        first: the row of the logits at the pending token; those of the draft tokens follow.
        history: of the text so far.
        noise: of the round, with the experience of the draft.
    """

    draft: Draft
    first: int
    sampling: SamplingParams
    history: History
    noise: RoundNoise


class Judge(Protocol):
    """Judges drafts on a device. Its verdicts are those of `maths/rules.py`."""

    def choose(self, logits: Array) -> Choices:
        """Find the most probable token of each row; does not wait.

        Args:
            logits: of a pass, on the device; perhaps not computed yet.

        Returns:
            what reads the tokens, and waits for them; None for a row with a NaN or without a finite largest value.
        """

    def judges(self, rule: Rule, case: Case) -> bool:
        """Whether it can; the host judges what it cannot."""

    def launch(self, rules: Sequence[Rule], cases: Sequence[Case], logits: Array) -> Reading:
        """Launch the verdicts; does not wait.

        Args:
            rules: of each draft.
            logits: of a pass, on the device; perhaps not computed yet.

        Returns:
            what reads the verdicts, and waits for them; None for a draft with a logit that is not finite.
        """

"""Known mistakes: what each is called, what it does, and the remedy, in words for who made it."""

from outrider.check.learner.mistakes.base import Mistake
from outrider.check.learner.mistakes.decoding import DECODING
from outrider.check.learner.mistakes.failures import FAILURES
from outrider.check.learner.mistakes.verification import VERIFICATION

MISTAKES = VERIFICATION | DECODING | FAILURES

__all__ = ["MISTAKES", "Mistake"]

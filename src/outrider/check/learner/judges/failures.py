"""What errors, and processes that end too early, say about a mistake."""

from __future__ import annotations

import re
import signal

from outrider.check.learner.process import Message, Observed
from outrider.check.learner.verdicts import Finding, Verdict

NOT_A_NUMBER = re.compile(r"\bnan\b|ZeroDivision|divide by zero|division by zero|`inf`|infinite|contain(s)? NaN", re.I)
SUM_NOT_1 = re.compile(r"do not sum to 1|sum\(pvals", re.I)
NO_CHANCE = re.compile(r"p < 0, p > 1|p must be|p_in >= 0|not non-negative|less than 0|< 0|negative", re.I)
# A chance and the rest of it: [r, 1 - r].
ONE_MINUS = re.compile(r"[,\[]\s*1(\.0?)?\s*-|binomial|bernoulli", re.I)


def finding_of(problem: Message) -> Finding:
    """The mistake behind an error."""
    error = str(problem["error"])
    lines = tuple((int(line), str(function), str(text)) for line, function, text in problem["lines"])
    mistake, detail = str(problem["mistake"]), ""
    if mistake == "fails":
        mistake = _mistake_in(error, lines[-1][2] if lines else "")
    return Finding(mistake, detail, (error,), lines=lines)


def _mistake_in(error: str, line: str) -> str:
    if SUM_NOT_1.search(error) or NO_CHANCE.search(error):
        if ONE_MINUS.search(line):
            return "no_min"
        return "not_normalised" if SUM_NOT_1.search(error) else "no_max"
    if NOT_A_NUMBER.search(error):
        return "not_a_number"
    return "fails"


def add_failures(verdict: Verdict, observed: Observed) -> None:
    """What was raised, and how the process ended."""
    for problem in observed.of("problem"):
        verdict.add(finding_of(problem))
    where = f" (at {observed.line})" if observed.line else ""
    if observed.ending == "time":
        verdict.add(Finding("hangs", example=(f"while {observed.stage}{where}",)))
    elif observed.ending == "flood":
        verdict.add(Finding("floods", example=(f"while {observed.stage}{where}",)))
    elif observed.ending == "gone":
        verdict.add(Finding("dies", example=(f"it {_ended(observed.status)} while {observed.stage}{where}",)))


def _ended(status: int) -> str:
    if status >= 0:
        return f"ended by itself with exit status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"

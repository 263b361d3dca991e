"""Task 3: what the course of a lookahead says. Chance plays no part."""

from __future__ import annotations

from collections.abc import Sequence

from outrider.check.learner.process import Observed
from outrider.check.learner.verdicts import Finding, Verdict

LARGEST = 128  # tokens; nobody drafts more
START = 4
TURN = 200  # where the rates of a mixed course turn


def judge_adaptive(verdict: Verdict, observed: Observed) -> None:
    """Add what the observations say."""
    starts = {int(told): int(seen) for message in observed.of("starts") for told, seen in message["starts"].items()}
    for told, seen in starts.items():
        if told != seen:
            verdict.add(Finding("initial", example=(f"AdaptiveSpeculator({told}) starts at {seen}",)))
            break
    courses = {
        str(message["name"]): [float(each) for each in message["lookaheads"]] for message in observed.of("course")
    }
    if len(courses) < 5:
        return
    verdict.trials.append(f"{sum(map(len, courses.values())):,} updates (no chance in them)")
    ones, zeros = courses["ones"], courses["zeros"]
    for course in courses.values():
        broken = next((each for each in course if each % 1), None)
        if broken is not None:
            verdict.add(Finding("no_whole_number", example=(f"it was {broken:g}",)))
            break
    rises, falls = ones[-1] > START, zeros[-1] < START
    if ones[-1] < START and zeros[-1] > START:
        verdict.add(Finding("wrong_way", example=(*_shown("1.0", ones), *_shown("0.0", zeros))))
    else:
        if not rises:
            verdict.add(Finding("never_rises", example=_shown("1.0", ones)))
        if not falls:
            verdict.add(Finding("never_falls", example=_shown("0.0", zeros)))
    for rate, course in (("1.0", ones), ("0.0", zeros)):
        if max(course) > LARGEST or min(course) < 1:
            verdict.add(Finding("bounds", example=_shown(rate, course)))
    if rises and falls:
        _judge_average(verdict, courses["zeros then ones"], courses["ones then zeros"])


def _judge_average(verdict: Verdict, up: Sequence[float], down: Sequence[float]) -> None:
    """Whether old rounds are forgotten, and whether one round alone is not enough."""
    if up[-1] <= up[TURN - 1] or down[-1] >= down[TURN - 1]:
        stuck = up if up[-1] <= up[TURN - 1] else down
        first, second = ("0.0", "1.0") if stuck is up else ("1.0", "0.0")
        line = (
            f"after 200 rounds of {first} and 200 of {second} it is {stuck[-1]:g}, and was {stuck[TURN - 1]:g} between"
        )
        verdict.add(Finding("not_rolling", example=(line,)))
    elif up[TURN] > up[TURN - 1] and down[TURN] < down[TURN - 1]:
        verdict.add(
            Finding(
                "no_average",
                example=(
                    f"after 200 rounds of 0.0 a single 1.0 raises it from {up[TURN - 1]:g} to {up[TURN]:g}",
                    f"after 200 rounds of 1.0 a single 0.0 lowers it from {down[TURN - 1]:g} to {down[TURN]:g}",
                ),
            )
        )


def _shown(rate: str, course: Sequence[float]) -> tuple[str]:
    some = ", ".join(f"{each:g}" for each in course[:6])
    return (
        f"acceptance rate {rate} again and again, from {START}: {some}, ... {course[-1]:g} after {len(course)} rounds",
    )

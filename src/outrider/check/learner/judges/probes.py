"""Results of verify_speculation where chance plays no part, and how its results are to be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from outrider.check.learner.judges.failures import finding_of
from outrider.check.learner.judges.wording import tokens
from outrider.check.learner.process import Message
from outrider.check.learner.tables import Probe
from outrider.check.learner.verdicts import Finding, Verdict

GREEDY_ERRORS = ("fails", "not_a_number", "no_max", "not_normalised", "no_min")


@dataclass
class Reading:
    """How a result (number, tokens) is to be read.

    Attributes:
        prefix: whether the tokens begin with the accepted draft tokens; else they are what follows these.
        counts: what a returned number means, where it does not mean itself.
        by_length: the number says nothing, and the tokens are the accepted ones and one more.
        rows: whether there is a row of target logits for a bonus.
        usable: whether further results can be read at all.
    """

    prefix: bool = True
    counts: dict[int, int] = field(default_factory=dict)
    by_length: bool = False
    rows: int = 1
    usable: bool = True

    def read(self, draft: Sequence[int], number: int, following: list[int]) -> tuple[int, int | None] | None:
        """(accepted draft tokens, the token that follows or None); None if it makes no sense."""
        accepted = self.counts.get(number, number)
        if self.by_length and following != list(draft):  # these are all of them, without a bonus
            accepted = len(following) - 1
        if not 0 <= accepted <= len(draft):
            return None
        if self.prefix:
            if following[:accepted] != list(draft[:accepted]):
                return None
            following = following[accepted:]
        if len(following) > 1:
            return None
        return accepted, following[0] if following else None


def judge_probes(verdict: Verdict, later: list[Finding], message: Message, asked: Sequence[Probe]) -> Reading:
    """Add what the results of probes say; returns how to read others.

    Args:
        later: gets what is only worth saying where nothing else explains it.
    """
    results, rows = message["results"], int(message["rows"])
    pairs = list(zip(asked, results, strict=True))
    failed = [result for _, result in pairs if "error" in result]
    if failed:
        later.append(finding_of(failed[0]))
        return Reading(rows=rows)
    seen = [(probe, int(result["count"]), [int(token) for token in result["tokens"]]) for probe, result in pairs]
    reading = Reading(prefix=_has_prefix(seen), rows=rows)
    offsets = [number - probe.accepted for probe, number, _ in seen]
    if _goes_on(verdict, seen, offsets):
        reading.usable = False
        return reading
    _missing_tokens(verdict, seen, rows)
    if any(offsets) and all(_tokens_right(probe, following) for probe, _, following in seen):
        wrong = next(index for index, offset in enumerate(offsets) if offset)
        verdict.add(Finding("count", example=_example(*seen[wrong], rows)))
        short = [(number, probe.accepted) for probe, number, _ in seen if len(probe.draft) == 2]
        reading.counts = dict(short)
        reading.by_length = reading.prefix
        reading.usable = reading.prefix or len(reading.counts) == len(short)
    return reading


def _has_prefix(seen: Sequence[tuple[Probe, int, list[int]]]) -> bool:
    """Whether more results look like accepted tokens and one more than like that one alone."""
    longer = sum(len(following) > 1 for probe, _, following in seen if probe.accepted)
    return 2 * longer > sum(1 for probe, _, _ in seen if probe.accepted)


def _tokens_right(probe: Probe, following: list[int]) -> bool:
    kept, full = list(probe.draft[: probe.accepted]), probe.accepted == len(probe.draft)
    right = [[*kept, probe.token], [probe.token]]
    return following in ([*right, kept, []] if full else right)


def _later(probe: Probe) -> int:
    """How many tokens after the rejected one agree with the target's row of their place."""
    rows = probe.case.p.argmax(axis=1)
    return sum(int(rows[place] == probe.draft[place]) for place in range(probe.accepted + 1, len(probe.draft)))


def _goes_on(verdict: Verdict, seen: Sequence[tuple[Probe, int, list[int]]], offsets: Sequence[int]) -> bool:
    """Whether tokens after a rejected one are kept or counted."""
    extra = [_later(probe) if probe.accepted < len(probe.draft) else 0 for probe, _, _ in seen]
    rejected = [item for item, late in zip(seen, extra, strict=True) if late]

    def longer(probe: Probe, following: list[int]) -> bool:
        expected = ([*probe.draft[: probe.accepted], probe.token], [probe.token])
        return any(following[: len(each)] == each and len(following) > len(each) for each in expected)

    kept = [item for item in rejected if longer(item[0], item[2])]
    if len(kept) == len(rejected) or (any(offsets) and list(offsets) == extra):
        verdict.add(Finding("goes_on", example=_example(*(kept or rejected)[0], 1)))
        return True
    return False


def _missing_tokens(verdict: Verdict, seen: Sequence[tuple[Probe, int, list[int]]], rows: int) -> None:
    def nothing_follows(probe: Probe, following: list[int]) -> bool:
        return following in (list(probe.draft[: probe.accepted]), [])

    rejections = [item for item in seen if item[0].accepted < len(item[0].draft)]
    if all(nothing_follows(probe, following) for probe, _, following in rejections):
        verdict.add(Finding("no_correction", example=_example(*rejections[0], rows)))
    full = [item for item in seen if item[0].accepted == len(item[0].draft)]
    if rows and all(nothing_follows(probe, following) for probe, _, following in full):
        verdict.add(Finding("no_bonus", example=_example(*full[0], rows)))


def judge_greedy(verdict: Verdict, later: list[Finding], message: Message, asked: Sequence[Probe]) -> None:
    """Add what is said of one-hot distributions."""
    pairs, rows, what = list(zip(asked, message["results"], strict=True)), int(message["rows"]), str(message["what"])
    where = "one-hot p and q" if what == "one-hot" else what
    for probe, result in pairs:
        if "error" in result:
            finding = finding_of(result)
            key = "temperature_0" if finding.mistake in GREEDY_ERRORS else finding.mistake
            if later:  # it fails in other cases too
                return
            lines = (f"{where}: {probe.name}", *finding.example)
            verdict.add(Finding(key, "", lines, lines=finding.lines))
            return
    wrong = [(probe, result) for probe, result in pairs if not _tokens_right(probe, result["tokens"])]
    if wrong:
        probe, result = wrong[0]
        example = _example(probe, int(result["count"]), result["tokens"], rows)
        later.append(Finding("greedy_wrong", "", (where, *example)))


def _example(probe: Probe, number: int, following: list[int], rows: int) -> tuple[str, ...]:
    most = [int(token) for token in probe.case.p.argmax(axis=1)]
    right = [*probe.draft[: probe.accepted]] + ([probe.token] if rows or probe.accepted < len(probe.draft) else [])
    return (
        f"draft {tokens(probe.draft)}, and the target is sure of {tokens(most)}: {probe.name}",
        f"returned ({number}, {tokens(following)}); right is ({probe.accepted}, {tokens(right)})",
    )

"""What is recorded of a round: for the lookahead policy, for the statistics of each text, for observers."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import count

from outrider.engine.feeds import Feed
from outrider.engine.meanwhile import Meanwhile
from outrider.engine.record import JudgedDraft, Observer, RoundRecord, SequenceRound
from outrider.engine.round import Committed, RoundResult
from outrider.engine.speculation import Speculations
from outrider.engine.stopwatch import Stopwatch
from outrider.lookahead import Outcome, Times
from outrider.maths.draft import Draft, Verdict


class Books:
    """Records every round.

    Args:
        speculations: their policies learn from every round.
        opened: when the engine was opened, by its clock.
        observer: called with the record of every round.
        meanwhile: where the observer is called while a device works.
    """

    def __init__(
        self, speculations: Speculations, observer: Observer | None, opened: float, meanwhile: Meanwhile
    ) -> None:
        self._speculations = speculations
        self._observer = observer
        self._opened = opened
        self._meanwhile = meanwhile
        self._rounds = count()

    def enter(self, result: RoundResult, watch: Stopwatch) -> None:
        """Record a round."""
        times = watch.times
        # Tokens that a grammar forces are no evidence about the drafter.
        free = [each for each in result.committed if not each.feed.forced]
        steady = len(free) == len(result.feeds) and all(feed.read == 0 for feed in result.feeds)
        # A policy hears of the texts that it planned for: what it knows of passes ends with them.
        for speculation, own in self._speculations.shared_out([each for each in free if each.feed.planned]):
            if speculation.present:
                its = times if speculation.seconds is None else replace(times, drafting=speculation.seconds)
                speculation.lookahead.observe([_outcome_of(each) for each in own], its if steady else None)
        for feed in result.feeds:
            feed.sequence.statistics.count_time(
                times.drafting, times.verification, times.elsewhere, read=feed.read, fed=len(feed.tokens)
            )
        number = next(self._rounds)
        if self._observer is not None:
            record = _record_of(number, watch.started - self._opened, result, times)
            self._meanwhile.add(partial(self._observer, record))


def _outcome_of(committed: Committed) -> Outcome:
    feed, draft, verdict = committed.feed, committed.feed.proposed, committed.verdict
    depths = () if draft.is_chain else draft.depths
    return Outcome(
        feed.sequence.id,
        planned=feed.budget.nodes,
        drafted=len(draft.tokens),
        accepted=len(verdict.path),
        depths=depths,
        path=verdict.path,
        levels=feed.budget.depth,
        expected=sum(draft.chances or ()),
        weighed=draft.weighed,
    )


def _record_of(number: int, started: float, result: RoundResult, times: Times) -> RoundRecord:
    parts = [_part_of(each) for each in result.committed]
    parts += [_part_of_reader(feed) for feed in result.feeds if not feed.emits]
    return RoundRecord(
        number, started, result.passes, times.drafting, times.verification, times.elsewhere, tuple(parts)
    )


def _part_of(committed: Committed) -> SequenceRound:
    feed, draft, verdict = committed.feed, committed.feed.proposed, committed.verdict
    events = committed.events
    drafted = len(draft.tokens)
    texts = tuple([event.text for event in events])
    return SequenceRound(
        feed.sequence.id,
        feed.read,
        planned=None if feed.budget.prices.totals or feed.forced else feed.budget.nodes,
        drafted=drafted,
        accepted=len(verdict.path),
        tokens=tuple([event.token for event in events]),
        origins=tuple([event.origin for event in events]),
        source=draft.source if drafted else "",
        finish_reason=feed.sequence.finish_reason,
        depths=() if draft.is_chain else draft.depths,
        texts=texts if any(texts) else (),
        draft=_judged(draft, verdict) if drafted else None,
    )


def _judged(draft: Draft, verdict: Verdict) -> JudgedDraft:
    return JudgedDraft(draft.tokens, draft.all_parents, draft.all_sources, draft.chances, verdict.path)


def _part_of_reader(feed: Feed) -> SequenceRound:
    return SequenceRound(
        feed.sequence.id,
        feed.read,
        planned=0,
        drafted=0,
        accepted=0,
        tokens=(),
        origins=(),
        source="",
        finish_reason=feed.sequence.finish_reason,
    )

"""One round over all rows: plan -> launch -> collect -> commit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from outrider.drafters.base import Reading
from outrider.drafters.several.base import told_to, union_of
from outrider.engine.events import TokenEvent
from outrider.engine.failures import as_text_error, isolated
from outrider.engine.feeds import Feed, plan_feeds
from outrider.engine.grouping import group_by_work
from outrider.engine.guiding import forced_draft
from outrider.engine.judgement import Verdicts, logprobs_of
from outrider.engine.judgement import begin as begin_judging
from outrider.engine.meanwhile import Meanwhile
from outrider.engine.pace import ReadingPace
from outrider.engine.sequence import ActiveSequence
from outrider.engine.speculation import Speculation, Speculations
from outrider.engine.stopwatch import Stopwatch
from outrider.lookahead import CostCurve
from outrider.maths.arrays import Array
from outrider.maths.budget import Budget
from outrider.maths.draft import Verdict
from outrider.runtimes.base import NOTHING, Features, Model, Pass, Scored, Session


@dataclass(slots=True)
class Flight:
    """A forward pass that was launched.

    Attributes:
        features: what it returns besides logits.
        verdicts: waits for the verdicts, one for each feed that emits.
        seconds: how long it took, once it is collected.
    """

    feeds: list[Feed]
    scored: Scored
    features: Features
    started: float
    verdicts: Callable[[], Verdicts]
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Committed:
    """The result of a round for one row that was judged."""

    feed: Feed
    verdict: Verdict
    events: list[TokenEvent]

    @property
    def sequence(self) -> ActiveSequence:
        return self.feed.sequence


@dataclass(frozen=True, slots=True)
class RoundResult:
    """The result of a round.

    Attributes:
        feeds: one for each row that took part.
        committed: one for each row that was judged.
        passes: how many forward passes of the target there were.
    """

    feeds: list[Feed]
    committed: list[Committed]
    passes: int

    @property
    def events(self) -> list[TokenEvent]:
        return [event for each in self.committed for event in each.events]


class Round:
    """What every round does: draft, score with the target, judge, commit.

    Args:
        speculations: what drafts, for which texts.
        costs: what passes cost; groups rows where passes pad them.
        learns: whether `costs` learns from each pass.
        clock: seconds.
        meanwhile: what the host does while a device works.
    """

    def __init__(
        self,
        target: Model,
        session: Session,
        speculations: Speculations,
        costs: CostCurve,
        learns: bool,
        clock: Callable[[], float],
        meanwhile: Meanwhile,
    ) -> None:
        self._target = target
        self._session = session
        self._speculations = speculations
        self._costs = costs
        self._learns = learns
        self._pace = ReadingPace(target.traits, costs)
        self._pads = target.traits.pads_rows
        self._overlaps = target.traits.asynchronous
        self._clock = clock
        self._meanwhile = meanwhile

    def run(self, active: Sequence[ActiveSequence], watch: Stopwatch) -> RoundResult:
        """One round. A text that fails ends with an error; the others go on."""
        feeds = self.plan(active)
        watch.phase_ends("drafting")
        committed: list[Committed] = []
        passes = 0
        for members in self._groups(feeds):
            for flight in isolated(self._fly, members, self._session, self._target):
                watch.phase_ends("verification")
                if not self._overlaps:
                    self._tell_drafters(flight)
                watch.phase_ends("drafting")
                committed += self.commit(flight)  # before the next pass, which may overwrite the logits
                watch.phase_ends("elsewhere")
                passes += 1
        watch.phase_ends("verification")  # of passes that failed
        return RoundResult(feeds, committed, passes)

    def plan(self, active: Sequence[ActiveSequence]) -> list[Feed]:
        """What every row feeds: the tokens that its cache lacks, then a draft."""
        feeds = plan_feeds(active, self._session, self._pace)
        self._costs.depth = sum(feed.start for feed in feeds) / len(feeds)
        drafting = [feed for feed in feeds if self._may_draft(feed) and not self._force(feed)]
        for speculation, own in self._speculations.shared_out(drafting):
            if len(own) == len(drafting):
                self._draft(speculation, own)
                speculation.seconds = None
            else:
                started = self._clock()
                self._draft(speculation, own)
                speculation.seconds = self._clock() - started
        return feeds

    def launch(self, feeds: list[Feed]) -> Flight:
        """Start a forward pass of the target over these rows, and on a device the verdicts behind it."""
        features = self._wants(feeds)
        work = Pass(
            [feed.sequence.row for feed in feeds],
            [feed.tokens for feed in feeds],
            [feed.parents for feed in feeds],
            [feed.wanted for feed in feeds],
            features,
        )
        started = self._clock()
        scored = self._session.extend(work)
        judged = [feed for feed in feeds if feed.emits]
        drafts, sequences = [feed.proposed for feed in judged], [feed.sequence for feed in judged]
        rules = [sequence.rule for sequence in sequences]
        verdicts = begin_judging(drafts, scored.logits, sequences, rules, scored.top, scored.judge)
        return Flight(feeds, scored, features, started, verdicts)

    def collect(self, flight: Flight) -> Flight:
        """Wait until the device is done, and learn what the pass cost."""
        flight.scored.wait()
        flight.seconds = self._clock() - flight.started
        counts = [len(feed.tokens) for feed in flight.feeds]
        if any(feed.read for feed in flight.feeds):
            self._pace.observe(sum(counts), flight.seconds)
        elif self._learns and flight.scored.settled:
            tokens = len(counts) * max(counts) if self._pads else sum(counts)
            self._costs.observe(len(counts), tokens, flight.seconds)
        return flight

    def commit(self, flight: Flight) -> Iterator[Committed]:
        """Judge every draft, commit what is accepted and emit it. A row with NaN among its logits fails alone."""
        logits = flight.scored.logits
        judged = [feed for feed in flight.feeds if feed.emits]
        first = 0
        for feed, verdict in zip(judged, flight.verdicts(), strict=True):
            if isinstance(verdict, Verdict):
                yield Committed(feed, verdict, self._emit(feed, verdict, logits, first))
            else:
                feed.sequence.fail(as_text_error(self._target, verdict))
            first += feed.wanted

    def _fly(self, feeds: list[Feed]) -> Flight:
        flight = self.launch(feeds)
        if self._overlaps:  # while the device works
            self._tell_drafters(flight)
            self._meanwhile.do()
        self.collect(flight)
        for feed in feeds:
            if not feed.emits:
                self._session.keep(feed.sequence.row, range(len(feed.tokens)))
                feed.sequence.prompt_read = feed.start + len(feed.tokens)
        return flight

    def _draft(self, speculation: Speculation, feeds: Sequence[Feed]) -> None:
        """Add the drafts of one drafter, for the texts that are its own."""
        if not speculation.present:
            return
        sequences = [feed.sequence for feed in feeds]
        for sequence in sequences:
            sequence.heed(speculation.taught(sequence))
        planned = speculation.lookahead.budgets([sequence.id for sequence in sequences])
        trees = speculation.trees
        budgets = [self._within_row(budget, s, trees) for budget, s in zip(planned, sequences, strict=True)]
        for feed, budget in zip(feeds, planned, strict=True):
            feed.planned, feed.paused = True, budget.longest <= 0
        drafts = speculation.drafter.propose(sequences, budgets) or ()
        for feed, budget, draft in zip(feeds, budgets, drafts, strict=False):
            try:
                feed.add(budget, draft)
            except Exception as error:  # of a constraint
                feed.sequence.fail(as_text_error(self._target, error))

    def _wants(self, feeds: list[Feed]) -> Features:
        """What the drafters of these rows read of the pass. Top tokens take time to find: where drafts do not pay in
        any row of a drafter, neither does learning from them."""
        wanted = []
        for speculation, own in self._speculations.shared_out(feeds):
            wants = speculation.drafter.wants
            wanted.append(replace(wants, top=0) if wants.top and all(feed.paused for feed in own) else wants)
        return union_of(wanted)

    def _groups(self, feeds: list[Feed]) -> list[list[Feed]]:
        """The cheapest partition into rows that share a pass."""
        if not self._pads:
            return [feeds]
        groups = group_by_work([len(feed.tokens) for feed in feeds], self._costs)
        return [[feeds[index] for index in group] for group in groups]

    def _emit(self, feed: Feed, verdict: Verdict, logits: Array, first: int) -> list[TokenEvent]:
        """Commit what is accepted, and emit it.

        Args:
            logits: of the whole pass; those of this row begin at `first`.
        """
        sequence, draft = feed.sequence, feed.proposed
        self._session.keep(sequence.row, feed.path_of(verdict.path))
        logprobs = None
        if sequence.request.logprobs:
            logprobs = logprobs_of(draft, verdict, logits[first : first + feed.wanted], sequence.request.top_logprobs)
        try:
            events = sequence.advance(draft, verdict, logprobs)
        except Exception as error:  # of its tokenizer, or of a grammar
            sequence.fail(as_text_error(self._target, error))
            events = []
        self._tell_verdict(feed, verdict)
        return events

    def _may_draft(self, feed: Feed) -> bool:
        if not feed.emits or feed.sequence.request.num_draft_tokens == 0:
            return False
        read = feed.read
        if read and self._pace.by_time:  # of all its pieces: how large the last one is must not decide what is drafted
            read = len(feed.sequence.request.prompt) - 1 - feed.sequence.statistics.cached_tokens
        return read <= self._speculations.of(feed.sequence).drafter.may_draft_beside

    def _force(self, feed: Feed) -> bool:
        """Draft what a grammar leaves no choice about; whether the drafter has nothing to do for this text."""
        try:
            draft = forced_draft(feed.sequence, self._target.traits.vocab_size)
        except Exception as error:  # of a constraint; its text ends with this round, and needs no draft
            feed.sequence.fail(as_text_error(self._target, error))
            return True
        if draft is not None:
            feed.force(draft)
        return draft is not None

    def _tell_verdict(self, feed: Feed, verdict: Verdict) -> None:
        """Tell the drafter what became of its own draft."""
        speculation = self._speculations.of(feed.sequence)
        drafter = speculation.drafter
        if not feed.forced:
            speculation.learn(feed.sequence)  # first, so that after an interrupt nothing is learned unnoticed
        if feed.cut is not None:
            drafter.observe(feed.sequence, feed.cut.made, feed.cut.on_made(verdict))
        elif not feed.forced:
            drafter.observe(feed.sequence, feed.proposed, verdict)

    def _tell_drafters(self, flight: Flight) -> None:
        """Let every drafter read the pass: its part for the drafter's own texts."""
        feeds = flight.feeds
        parts = [(each, own) for each, own in self._speculations.shared_out(feeds) if each.present]
        if not parts:
            return
        given = union_of([speculation.drafter.wants for speculation, _ in parts])
        readings = readings_of(feeds, flight.scored, given != NOTHING)
        if len(parts[0][1]) == len(feeds):
            parts[0][0].drafter.read([feed.sequence for feed in feeds], readings)
            return
        reading_of = {feed.sequence.id: reading for feed, reading in zip(feeds, readings, strict=True)}
        for speculation, own in parts:
            its = [reading_of[feed.sequence.id] for feed in own]
            told = told_to(speculation.drafter.wants, flight.features, its)
            speculation.drafter.read([feed.sequence for feed in own], told)

    def _within_row(self, planned: Budget, sequence: ActiveSequence, trees: bool) -> Budget:
        """The budget, cut to what the text may still emit and its row may hold."""
        depth = max(min(planned.nodes, planned.depth, sequence.most_drafted), 0)
        if not depth or not trees:
            return Budget(depth, depth, planned.prices)
        nodes = min(planned.nodes, self._session.capacity - len(sequence.tokens))
        asked = sequence.request.num_draft_tokens
        return Budget(nodes if asked is None else min(nodes, asked), depth, planned.prices)


def readings_of(feeds: Sequence[Feed], scored: Scored, features: bool) -> list[Reading]:
    """The reading of each row: what the pass returned for it."""
    if not features:
        return [Reading(feed.start, feed.tokens, feed.draft) for feed in feeds]
    if len(feeds) == 1:  # nothing to cut
        top = scored.top if feeds[0].wanted else None
        return [Reading(feeds[0].start, feeds[0].tokens, feeds[0].draft, scored.hidden, top)]
    readings = []
    fed = judged = 0
    for feed in feeds:
        hidden = tuple(layer[fed : fed + len(feed.tokens)] for layer in scored.hidden)
        top = scored.top.part(judged, judged + feed.wanted) if scored.top is not None and feed.wanted else None
        readings.append(Reading(feed.start, feed.tokens, feed.draft, hidden, top))
        fed += len(feed.tokens)
        judged += feed.wanted
    return readings

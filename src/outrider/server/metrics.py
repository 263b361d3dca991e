"""Counters and histograms for Prometheus, under vLLM's names with the prefix `outrider:`.

What speculation gained is measured: each round without prefill is compared with what plain decoding takes for as many
tokens. A plain round of as many rows takes the mean of those that were run; until there was one, the measured cost of
such a pass.
"""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from outrider.engine.engine import Engine
from outrider.engine.record import RoundRecord
from outrider.lookahead import CostCurve

PREFIX = "outrider:"
GAIN, DECODE_SECONDS, PLAIN_SECONDS = (
    f"{PREFIX}{name}" for name in ("speculation_gain", "decode_seconds", "plain_decode_seconds")
)
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
SHORT_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
PLAIN_MEMORY = 0.95  # EMA decay of what a plain round takes
TEXT_MEMORY = 0.9  # EMA decay of what a text takes
LONGEST_RETRY = 60.0  # seconds


def gain(plain: float, taken: float) -> float:
    """Seconds that plain decoding takes / seconds taken, over all rounds without prefill; 1 before the first."""
    return plain / taken if taken else 1.0


class Metrics:
    """The numbers of one service.

    Args:
        model: the label of all of them.
    """

    def __init__(self, model: str) -> None:
        self.registry = CollectorRegistry()
        self._model = model
        self._costs: CostCurve | None = None
        self._plain_seconds: dict[int, float] = {}  # of a round, by rows
        self._submitted: dict[int, float] = {}  # texts that wait for a row
        self._text_seconds = 1.0
        self._taken = self._plain = 0.0  # seconds of rounds, and of plain ones in their place
        self.drafts = self._counter("spec_decode_num_drafts", "Drafts that were judged.")
        self.draft_tokens = self._counter("spec_decode_num_draft_tokens", "Draft tokens that were judged.")
        self.accepted_tokens = self._counter("spec_decode_num_accepted_tokens", "Draft tokens that were accepted.")
        self._accepted_at = Counter(
            f"{PREFIX}spec_decode_num_accepted_tokens_per_pos",
            "Accepted draft tokens by their place in the draft.",
            ["model_name", "position"],
            registry=self.registry,
        )
        self.prompt_tokens = self._counter("prompt_tokens", "Prompt tokens read.")
        self.prefix_queries = self._counter("prefix_cache_queries", "Prompt tokens of texts that ended.")
        self.prefix_hits = self._counter("prefix_cache_hits", "Of these, those that the prefix cache held.")
        self.generation_tokens = self._counter("generation_tokens", "Tokens emitted.")
        self._finished = Counter(
            f"{PREFIX}request_success", "Texts that ended.", ["model_name", "finished_reason"], registry=self.registry
        )
        self.refused_full = self._counter("request_refused_queue_full", "Requests refused with status 429.")
        self.refused_bad = self._counter("request_refused_invalid", "Requests refused with another status.")
        self.drafter_failures = self._gauge("drafter_failures", "How often the drafter failed.")
        self.rounds = self._counter("rounds", "Rounds of the engine.")
        self.decode_seconds = self._counter("decode_seconds", "Seconds of rounds without prefill.")
        self.plain_seconds = self._counter(
            "plain_decode_seconds", "Seconds that plain decoding takes for the tokens of these rounds, as measured."
        )
        self.running = self._gauge("num_requests_running", "Texts that are decoded.")
        self.waiting = self._gauge("num_requests_waiting", "Texts that wait for a row.")
        self._gain = self._gauge("speculation_gain", "Seconds of plain decoding / seconds taken; above 1 is a gain.")
        self._gain.set_function(lambda: gain(self._plain, self._taken))
        self.first_token = self._histogram("time_to_first_token_seconds", "Request to first token.", SECONDS)
        self.between_tokens = self._histogram(
            "inter_token_latency_seconds", "Mean time between two tokens of a text.", SHORT_SECONDS
        )
        self.whole_text = self._histogram("e2e_request_latency_seconds", "From the request to the last token.", SECONDS)
        self.queue_time = self._histogram("request_queue_time_seconds", "How long a text waits for a row.", SECONDS)

    def watch(self, engine: Engine) -> None:
        """Read the state of an engine whenever somebody asks."""
        self._costs = engine.costs
        self.running.set_function(lambda: len(engine.active))
        self.waiting.set_function(lambda: len(engine.waiting))
        self.drafter_failures.set_function(lambda: engine.drafter_failures)

    def exposition(self) -> bytes:
        """All numbers in the text format of Prometheus."""
        return generate_latest(self.registry)

    def seconds_until_room(self, rows: int) -> float:
        """A guess of when a row is free: what texts took lately, by the number of rows."""
        return min(max(self._text_seconds / rows, 1.0), LONGEST_RETRY)

    # The methods below are called in the engine's thread.

    def text_submitted(self, number: int) -> None:
        self._submitted[number] = time.perf_counter()

    def text_left(self, number: int) -> None:
        self._submitted.pop(number, None)

    def count_round(self, record: RoundRecord) -> float | None:
        """Count what a round did.

        Returns:
            the seconds of a plain round of as many rows, as measured; None where that is not known.
        """
        self.rounds.inc()
        emitted = drafted = accepted = drafts = read = 0
        for part in record.sequences:
            read += part.read
            emitted += len(part.tokens)
            if part.drafted:
                drafts += 1
                drafted += part.drafted
                accepted += part.accepted
                for place in range(part.accepted):
                    self._accepted_at.labels(self._model, place).inc()
            if self._submitted and (since := self._submitted.pop(part.sequence, None)) is not None:
                self.queue_time.observe(max(time.perf_counter() - since - _seconds(record), 0.0))
        if drafts:
            self.drafts.inc(drafts)
            self.draft_tokens.inc(drafted)
            self.accepted_tokens.inc(accepted)
        self.generation_tokens.inc(emitted)
        self.prompt_tokens.inc(read)
        rows, seconds = len(record.sequences), _seconds(record)
        if not (read or drafted):
            known = self._plain_seconds.get(rows, seconds)
            self._plain_seconds[rows] = PLAIN_MEMORY * known + (1 - PLAIN_MEMORY) * seconds
        plain = self._plain_round(rows, record.seconds_elsewhere)
        if emitted and not read and plain is not None:
            self._compare(seconds, plain * emitted / rows)
        return plain

    def _compare(self, taken: float, plain: float) -> None:
        self._taken += taken
        self._plain += plain
        self.decode_seconds.inc(taken)
        self.plain_seconds.inc(plain)

    def _plain_round(self, rows: int, elsewhere: float) -> float | None:
        """Seconds of a plain round of so many rows; None where that was never measured."""
        known = self._plain_seconds.get(rows)
        if known is not None or self._costs is None or not self._costs.measured:
            return known
        return self._costs.seconds(rows, rows) + elsewhere

    # Called in the event loop.

    def count_text(self, reason: str, arrived: float, first: float, last: float, tokens: int) -> None:
        """Count a text that ended; times as of `time.perf_counter`."""
        self._finished.labels(self._model, reason).inc()
        if not tokens:
            return
        self.first_token.observe(first - arrived)
        self.whole_text.observe(last - arrived)
        self._text_seconds = TEXT_MEMORY * self._text_seconds + (1 - TEXT_MEMORY) * (last - arrived)
        if tokens > 1:
            self.between_tokens.observe((last - first) / (tokens - 1))

    def count_prefix(self, cached: int, prompt: int) -> None:
        """Count what a text that ended found in the prefix cache, in tokens."""
        self.prefix_queries.inc(prompt)
        self.prefix_hits.inc(cached)

    def _counter(self, name: str, help: str) -> Counter:
        return Counter(PREFIX + name, help, ["model_name"], registry=self.registry).labels(self._model)

    def _gauge(self, name: str, help: str) -> Gauge:
        return Gauge(PREFIX + name, help, ["model_name"], registry=self.registry).labels(self._model)

    def _histogram(self, name: str, help: str, buckets: tuple[float, ...]) -> Histogram:
        found = Histogram(PREFIX + name, help, ["model_name"], registry=self.registry, buckets=buckets)
        return found.labels(self._model)


def _seconds(record: RoundRecord) -> float:
    return record.seconds_drafting + record.seconds_verification + record.seconds_elsewhere

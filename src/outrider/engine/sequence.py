"""One text while it is decoded."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from outrider.engine.events import NO_LOGPROBS, FinishReason, Origin, TokenEvent, TokenLogprobs
from outrider.engine.statistics import Statistics
from outrider.maths.draft import Draft, Verdict
from outrider.maths.noise import MASK, RoundNoise
from outrider.maths.processors import Constraint, blamed_on
from outrider.maths.rules import Rule
from outrider.maths.sampling import History, SamplingParams
from outrider.prompts.request import PreparedRequest
from outrider.text import Detokenizer, StopScanner, Tokenizer


class ActiveSequence:
    """The state of one request: its tokens, and everything else that belongs to it alone.

    The last token is *pending*: known, but not yet in the target's cache. Each round feeds it first.

    Args:
        id: tells sequences apart.
        request: what was asked for.
        limit: the most tokens of prompt and output together.
        rule: that judges its drafts.
        seed: of its draws.
        tokenizer: makes the text; None leaves it out.
        isolation: a prefix is shared with texts of the same key; None with no text.
    """

    def __init__(
        self,
        id: int,
        request: PreparedRequest,
        limit: int,
        rule: Rule,
        seed: int,
        tokenizer: Tokenizer | None = None,
        isolation: Hashable | None = None,
    ) -> None:
        self.id = id
        self.request = request
        self.tokens: list[int] = list(request.prompt)
        self.limit = limit
        self.rule = rule
        self.row = -1
        self.prompt_read = 0  # tokens of it that the target has read, until the text begins
        self.history = History(request.prompt)
        self.statistics = Statistics()
        self.finish_reason: FinishReason | None = None
        self.error: Exception | None = None
        self.seed = seed
        self.isolation = isolation
        self.lessons: tuple[int, ...] = ()  # what it has taught itself, as `Speculation.lessons`
        self.constraints = [each for each in request.sampling.logits_processors if isinstance(each, Constraint)]
        self._pieces: list[str] = []
        # What is expected may be an earlier text of this seed, so that a draft copied from it knows the noise.
        self._expected = (hash(request.predicted) & MASK,) if request.predicted else ()
        self._taught: tuple[int, ...] = ()
        self._noise: RoundNoise | None = None
        self._tokenizer = tokenizer
        self._detokenizer = self._new_detokenizer()
        self._scanner = StopScanner(request.stop)

    @property
    def sampling(self) -> SamplingParams:
        return self.request.sampling

    @property
    def predicted(self) -> Sequence[int]:
        return self.request.predicted

    @property
    def pending(self) -> int:
        return self.tokens[-1]

    @property
    def output(self) -> Sequence[int]:
        return self.tokens[len(self.request.prompt) :]

    @property
    def text(self) -> str:
        """The text of the tokens emitted so far."""
        return "".join(self._pieces)

    @property
    def room(self) -> int:
        """How many tokens may still be emitted."""
        return self.limit - len(self.tokens)

    @property
    def most_drafted(self) -> int:
        """The most levels of a draft: a round emits one token more than it accepts."""
        asked = self.request.num_draft_tokens
        return max(self.room - 1 if asked is None else min(asked, self.room - 1), 0)

    @property
    def finished(self) -> bool:
        return self.finish_reason is not None

    @property
    def noise(self) -> RoundNoise:
        """The random numbers of the coming round, whose first token follows the pending one."""
        if self._noise is None or self._noise.start != len(self.tokens):  # one round asks for it many times
            known = (*self._expected, *self._taught)
            self._noise = RoundNoise(self.seed, len(self.tokens), self.rule.shares_noise).knowing(known)
        return self._noise

    def heed(self, taught: tuple[int, ...]) -> None:
        """The coming draft rests on what other texts of this seed taught (`Speculation.taught`)."""
        if taught != self._taught:
            self._taught, self._noise = taught, None

    def advance(self, draft: Draft, verdict: Verdict, logprobs: Sequence[TokenLogprobs] | None) -> list[TokenEvent]:
        """Emit what a round decided, up to a stop; nothing if the text was cancelled during the round."""
        events: list[TokenEvent] = []
        if self.finished:
            return events
        self.statistics.count_round(len(draft.tokens), draft.deepest, len(verdict.path))
        emitted = [(draft.tokens[node], Origin.DRAFTED, draft.source_of(node)) for node in verdict.path]
        if verdict.token is not None:
            emitted.append((verdict.token, _origin_of_next(draft, verdict), ""))
        for place, (token, origin, source) in enumerate(emitted):
            events.append(self._emit(token, origin, source, NO_LOGPROBS if logprobs is None else logprobs[place]))
            if self.finished:
                break
        return events

    def cancel(self) -> None:
        """End the sequence: the caller wants no more of it."""
        self.finish_reason = FinishReason.CANCELLED

    def fail(self, error: Exception) -> None:
        """End the sequence without another token."""
        self.error = error
        self.finish_reason = FinishReason.ERROR

    def settle(self) -> None:
        """After an interrupt within `advance`: rebuild everything else from the tokens."""
        self.history = History(self.request.prompt)
        self.history.extend(self.output)
        self._detokenizer = self._new_detokenizer()
        self._scanner = StopScanner(self.request.stop)
        self._pieces = [self._text_of(token) for token in self.output]
        if not self.finished and len(self.output):
            self._finish_if_due()
        if self.finished and not self._scanner.stopped:
            self._pieces.append(self._rest_of_text())

    def _emit(self, token: int, origin: Origin, source: str, logprobs: TokenLogprobs) -> TokenEvent:
        self.tokens.append(token)
        self.history.extend([token])
        self.statistics.emitted += 1
        self.statistics.origins[origin] += 1
        text = self._text_of(token)
        self._finish_if_due()
        if self.finished and not self._scanner.stopped:
            text += self._rest_of_text()
        self._pieces.append(text)
        index = len(self.tokens) - len(self.request.prompt) - 1
        return TokenEvent(
            self.id, index, token, text, origin, source, logprobs.chosen, self.finish_reason, logprobs.top
        )

    def _finish_if_due(self) -> None:
        if self._scanner.stopped or self.pending in self.request.stop_token_ids or self._is_complete():
            self.finish_reason = FinishReason.STOP
        elif self.room <= 0:
            self.finish_reason = FinishReason.LENGTH

    def _is_complete(self) -> bool:
        """Whether a grammar lets nothing follow: then the text ends without a stop token."""
        if not self.constraints:
            return False
        with blamed_on("a constraint"):
            return any(each.ended(self.history.tokens) for each in self.constraints)

    def _new_detokenizer(self) -> Detokenizer | None:
        if self._tokenizer is None:
            return None
        return Detokenizer(self._tokenizer, self.request.prompt if self.request.continues else ())

    def _text_of(self, token: int) -> str:
        if self._detokenizer is None or token in self.request.stop_token_ids:
            return ""
        return self._scanner.push(self._detokenizer.push(token))

    def _rest_of_text(self) -> str:
        if self._detokenizer is None:
            return ""
        return self._scanner.push(self._detokenizer.flush()) + self._scanner.flush()


def _origin_of_next(draft: Draft, verdict: Verdict) -> Origin:
    if not len(draft):
        return Origin.PLAIN
    return Origin.BONUS if verdict.bonus else Origin.CORRECTION

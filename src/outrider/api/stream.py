"""A text as it comes, and as it is when it is finished."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType

from outrider.api.desk import Desk
from outrider.engine.events import FinishReason, TokenEvent
from outrider.engine.statistics import Statistics
from outrider.prompts.request import PreparedRequest


@dataclass(frozen=True, slots=True)
class Generation:
    """A finished text.

    Attributes:
        tokens: the emitted tokens, a stop token included, the prompt left out.
        text: what they say, without a stop string or stop token; empty where there is no tokenizer. It goes on from a
            prompt of text or tokens, space included, and begins by itself after a conversation.
        finish_reason: stop or length; cancelled where a stream was closed before the end.
        stats: what speculation did.
        logprobs: the target's log probability of each token, before any sampling setting; None if not asked for.
        seed: reproduces the text.
        top_logprobs: for each token the same of the most probable tokens in its place, {token: log probability}, the
            most probable first; None if not asked for.
    """

    tokens: list[int]
    text: str
    finish_reason: FinishReason
    stats: Statistics
    logprobs: list[float] | None
    seed: int
    top_logprobs: list[Mapping[int, float]] | None = None


class TokenStream:
    """An iterator of the tokens of a text, as events. Closing it, or dropping it, ends the text.

        with decoder.stream(prompt) as stream:
            for event in stream:
                print(event.text, end="")
        print(stream.finish_reason)

    Its attributes say how far it has been read.
    """

    def __init__(self, desk: Desk, request: PreparedRequest) -> None:
        self._desk = desk
        self._request = request
        self._read: list[TokenEvent] = []
        self._closed = False
        self._handle = desk.submit(request)

    def __iter__(self) -> TokenStream:
        return self

    def __next__(self) -> TokenEvent:
        try:
            event = self._desk.next_event(self._handle)
        except BaseException:
            self.close()
            raise
        if event is not None:
            self._read.append(event)
            return event
        if self._handle.error is not None:
            raise self._handle.error
        raise StopIteration

    def reading(self) -> Iterator[tuple[int, int]]:
        """Read the prompt before the first token is asked for: how many tokens are read, and of how many, round by
        round."""
        try:
            for read in self._desk.reading(self._handle):
                yield read, self._handle.prompt_length
        except (Exception, KeyboardInterrupt):
            self.close()
            raise

    def __enter__(self) -> TokenStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def tokens(self) -> list[int]:
        """The tokens read so far, a stop token included."""
        return [event.token for event in self._read]

    @property
    def text(self) -> str:
        """What they say, without a stop string or stop token."""
        return "".join(event.text for event in self._read)

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why the text ended; None while there is more to read."""
        if self._read and self._read[-1].finish_reason is not None:
            return self._read[-1].finish_reason
        if self._handle.error is not None:
            return FinishReason.ERROR
        return FinishReason.CANCELLED if self._closed else None

    @property
    def stats(self) -> Statistics:
        """What speculation did, up to the round of the last event."""
        return self._handle.stats

    @property
    def seed(self) -> int:
        """Reproduces the text."""
        return self._handle.seed

    def generation(self) -> Generation:
        """Read to the end, and give the whole text; of a closed stream what was read.

        Raises:
            ModelError: the target failed on this text.
        """
        for _ in self:
            pass
        reason = self.finish_reason
        assert reason is not None
        return Generation(
            tokens=self.tokens,
            text=self.text,
            finish_reason=reason,
            stats=self.stats,
            logprobs=[event.logprob for event in self._read if event.logprob is not None]
            if self._request.logprobs
            else None,
            seed=self.seed,
            top_logprobs=[event.top_logprobs for event in self._read if event.top_logprobs is not None]
            if self._request.top_logprobs
            else None,
        )

    def close(self) -> None:
        """End the text, where it has not ended, and leave unread what is unread."""
        self._closed = True
        self._desk.leave(self._handle)

    def __repr__(self) -> str:
        return f"TokenStream({self.finish_reason or 'unfinished'}, {len(self._read)} tokens read)"

    def __del__(self) -> None:
        if "_handle" in self.__dict__:  # not where the engine refused the request
            self.close()

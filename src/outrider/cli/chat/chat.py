"""A chat: the engine, what was said, the settings, and what speculation brought so far."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from outrider.cli.chat.answering import Answer, Writer, answer
from outrider.cli.chat.conversation import Conversation
from outrider.cli.chat.keys import Stopped
from outrider.cli.chat.settings import Settings
from outrider.cli.options.output import Colour
from outrider.cli.render import OriginWriter, PlainWriter
from outrider.cli.terminal import messages
from outrider.engine.engine import Engine
from outrider.engine.events import FinishReason
from outrider.engine.statistics import Statistics
from outrider.errors import InputError

ENDINGS = {FinishReason.CANCELLED: "stopped", FinishReason.LENGTH: "cut off by max_tokens"}


@dataclass(slots=True)
class Chat:
    """A conversation with one model.

    Attributes:
        predicted: text that is expected in every answer.
        colour: when origins are shown in colours.
        answers: what speculation did, answer by answer.
        retries: how many answers to the last question were thrown away.
        stopped: whether the answer that comes is to end.
        notes: what was learned while the user typed; shown before the next answer.
    """

    engine: Engine
    conversation: Conversation
    settings: Settings
    predicted: str = ""
    colour: Colour = "auto"
    answers: list[Statistics] = field(default_factory=list)
    retries: int = 0
    stopped: Stopped = field(default_factory=Stopped)
    notes: list[str] = field(default_factory=list)

    def say(self, question: str) -> None:
        """Ask, and write the answer as it comes, then a line about it.

        Raises:
            InputError, ModelError: as `answer`; nothing was said then.
        """
        self._ask(question, retries=0)

    def retry(self) -> None:
        """Ask the last question again, with another answer.

        Raises:
            InputError: nothing was said, or as `answer`; the chat is as it was then.
            ModelError: as `answer`.
        """
        before = list(self.conversation.turns)
        question = self.conversation.undo()
        with self._restoring(before):
            self._ask(question, self.retries + 1)

    @contextmanager
    def _restoring(self, turns: list[tuple[str, str]]) -> Iterator[None]:
        """Unless something new was said, what was said is `turns` afterwards."""
        try:
            yield
        finally:
            if len(self.conversation.turns) < len(turns):
                self.conversation.turns = turns

    def _ask(self, question: str, retries: int) -> None:
        found = answer(
            self.engine,
            [*self.conversation.messages(question)],
            self.settings,
            self._writer(),
            self.stopped,
            predicted=self.predicted,
            retries=retries,
        )
        if not found.stats.emitted:
            messages().print("stopped before the first token: the question is taken back", style="dim")
            return
        self.conversation.turns.append((question, found.text))
        self.answers.append(found.stats)
        self.retries = retries
        messages().print(line_about(found), style="dim")

    def _writer(self) -> Writer:
        return OriginWriter(self.colour) if self.settings.show else PlainWriter()


def line_about(found: Answer) -> str:
    """How an answer came."""
    stats = found.stats
    parts = [
        f"{stats.emitted} tokens",
        f"{stats.tokens_per_second:.1f}/s",
        f"{stats.mean_tokens_per_round:.2f} tokens per round",
    ]
    ending = ENDINGS.get(found.finish_reason)
    return " · ".join(parts if ending is None else [*parts, ending])


def total_of(answers: list[Statistics]) -> Statistics:
    """The counts and times of several answers together.

    Raises:
        InputError: there are none.
    """
    if not answers:
        raise InputError("there is no answer yet: ask something first")
    total = Statistics()
    for each in answers:
        total.rounds += each.rounds
        total.emitted += each.emitted
        total.drafted += each.drafted
        total.accepted += each.accepted
        total.origins += each.origins
        total.seconds_prefill += each.seconds_prefill
        total.seconds_drafting += each.seconds_drafting
        total.seconds_verification += each.seconds_verification
        total.seconds_elsewhere += each.seconds_elsewhere
    return total

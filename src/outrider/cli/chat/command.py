"""`outrider chat`: options, and the loop over messages."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from platformdirs import user_state_path

from outrider.cli.chat.answering import require_chat
from outrider.cli.chat.chat import Chat
from outrider.cli.chat.commands import Leave, obey
from outrider.cli.chat.conversation import Conversation
from outrider.cli.chat.reading import Reader, TerminalReader, reader_for
from outrider.cli.chat.resting import resting
from outrider.cli.chat.settings import Settings
from outrider.cli.options.drafters import DrafterKind
from outrider.cli.options.drafting import LearnOption, SelfTuningOptions
from outrider.cli.options.group import option
from outrider.cli.options.models import ModelOptions
from outrider.cli.options.output import ColourOption, ShowOption
from outrider.cli.options.prompt import PROMPT, StopOption, SystemPromptOption, check_length
from outrider.cli.options.sampling import SamplingOptions
from outrider.cli.terminal import messages, working
from outrider.drafters.lookup.drafter import LookupDrafter
from outrider.engine.engine import Engine
from outrider.errors import OutriderError
from outrider.pictures import pictures
from outrider.prompts.tokens import plain_prompt

FAILED = 1


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """What is said to the model besides the user's messages, and what is shown."""

    system_prompt: SystemPromptOption = None
    max_tokens: Annotated[int, option("--max-tokens -n --n-predict", "N", "The most tokens of an answer.", PROMPT)] = (
        1024
    )
    stop: StopOption = None
    show: ShowOption = False
    color: ColourOption = "auto"
    load: Annotated[Path | None, option("--load", "FILE", "Go on with a chat that /save wrote.", PROMPT)] = None
    learn: LearnOption = False
    no_history: Annotated[
        bool, option("--no-history", None, "Keep no file of your messages for the next chat.", PROMPT)
    ] = False

    def conversation(self) -> Conversation:
        """What was said before the first message.

        Raises:
            InputError: the file cannot be read, or the system prompt is no whole text.
        """
        found = Conversation()
        if self.load is not None:
            found.load(self.load)
        if self.system_prompt:
            plain_prompt(self.system_prompt)
            found.system = self.system_prompt
        return found

    def history(self) -> Path | None:
        """The file of messages; None for none."""
        return None if self.no_history else user_state_path("outrider", appauthor=False) / "chat_history"


def command(models: ModelOptions, drafting: SelfTuningOptions, sampling: SamplingOptions, chat: ChatOptions) -> int:
    """Talk with a model in the terminal, decoded speculatively; /help lists what else a line may say."""
    stops = tuple(chat.stop or ())
    check_length(chat.max_tokens, stops)
    kind = drafting.with_state(drafting.kind(models), many=False)
    notes: list[str] = []
    if chat.learn:
        kind = kind.learning(notes.append)
    lookahead, predicted = drafting.policy(kind), drafting.predicted(kind)
    settings = Settings(sampling.params(models.model), chat.max_tokens, stops, chat.show)
    conversation = chat.conversation()
    reader = reader_for(chat.history(), lambda: _status(models, kind, settings))
    target = models.open_target()
    drafter = kind.open(models.open_draft, target)
    with working("measuring what a pass costs"):
        engine = Engine(target, drafter, lookahead=lookahead, rule=drafting.rule, max_rows=1)
    require_chat(engine)
    complete = converse(Chat(engine, conversation, settings, predicted, chat.color, notes=notes), reader)
    if drafting.drafter_state is not None and isinstance(drafter, LookupDrafter):
        drafter.save(drafting.drafter_state)
    # A person saw what failed, and went on; a program asks for the status.
    return 0 if complete or isinstance(reader, TerminalReader) else FAILED


def converse(chat: Chat, reader: Reader) -> bool:
    """Answer messages and follow commands until there are none left; False if one of them failed."""
    complete = True
    while (line := _next_line(chat.engine, reader)) is not None:
        while chat.notes:
            messages().print(chat.notes.pop(0), style="dim")
        try:
            # A script that is interrupted ends, as other commands do.
            with chat.stopped.listening() if isinstance(reader, TerminalReader) else nullcontext():
                if not obey(chat, line):
                    chat.say(line)
        except Leave:
            break
        except OutriderError as error:
            complete = False
            messages().print("error: " + pictures(" ".join(str(error).split())), style="red")
    return complete


def _next_line(engine: Engine, reader: Reader) -> str | None:
    with resting(engine):
        return reader.read()


def _status(models: ModelOptions, kind: DrafterKind, settings: Settings) -> str:
    temperature = settings.sampling.temperature
    how = "greedy" if settings.sampling.greedy else f"temperature {temperature:g}"
    return f"{models.model} · {kind} · {how} · /help"

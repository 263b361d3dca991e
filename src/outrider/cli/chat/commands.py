"""Lines that begin with a slash: what they do to a chat."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table
from rich.text import Text

from outrider.cli.chat.chat import Chat, total_of
from outrider.cli.render import MEANINGS, summary
from outrider.cli.terminal import messages
from outrider.errors import SettingError

# A path such as /etc/hosts is no command.
COMMAND = re.compile(r"/(\w*)(?:\s+(.*))?", re.DOTALL)
OFF = "off"


class Leave(Exception):
    """The chat ends."""


@dataclass(frozen=True, slots=True)
class Command:
    """One of them.

    Attributes:
        takes: its argument, as the help shows it.
        run: with the chat and the argument, which may be empty.
    """

    name: str
    takes: str
    help: str
    run: Callable[[Chat, str], None]


def obey(chat: Chat, line: str) -> bool:
    """Do what a line asks for; False if it is no command, but a message.

    Raises:
        Leave: the chat is to end.
        SettingError: there is no such command.
        OutriderError: what the command raises.
    """
    found = COMMAND.fullmatch(line.strip())
    if found is None:
        return False
    name, argument = found[1].lower(), (found[2] or "").strip()
    if name not in COMMANDS:
        raise SettingError(f"command /{name} is unknown: /help lists them")
    COMMANDS[name].run(chat, argument)
    return True


def _help(chat: Chat, argument: str) -> None:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    for command in dict.fromkeys(COMMANDS.values()):
        grid.add_row(Text(f"/{command.name} {command.takes}"), Text(command.help))
    messages().print(grid, style="dim")
    _say("Alt-Enter begins a new line, as \\ at the end of one does. Ctrl-C stops an answer, Ctrl-D ends the chat.")


def _clear(chat: Chat, argument: str) -> None:
    chat.conversation.turns.clear()
    _say("the chat is empty")


def _undo(chat: Chat, argument: str) -> None:
    _say(f"taken back: {_beginning(chat.conversation.undo())}")
    chat.retries = 0


def _retry(chat: Chat, argument: str) -> None:
    chat.retry()


def _system(chat: Chat, argument: str) -> None:
    if argument:
        chat.conversation.system = None if argument == OFF else argument
    now = chat.conversation.system
    _say("there is no system prompt" if now is None else f"system prompt: {now}")


def _set(chat: Chat, argument: str) -> None:
    if argument:
        name, _, value = argument.replace("=", " ", 1).partition(" ")
        chat.settings.set(name, value.strip())
    _say(", ".join(f"{name} {value}" for name, value in chat.settings))


def _stats(chat: Chat, argument: str) -> None:
    total = total_of(chat.answers)
    _say(f"last answer: {summary(chat.answers[-1], None)}")
    _say(f"all {len(chat.answers)}: {summary(total, None)}")
    counts = ((total.origins[origin], meaning) for origin, meaning in MEANINGS.items())
    _say(", ".join(f"{count} {meaning}" for count, meaning in counts if count))


def _show(chat: Chat, argument: str) -> None:
    if argument not in ("", "on", OFF):
        raise SettingError(f"/show is {argument!r}: it must be on or off")
    if argument:
        chat.settings.show = argument == "on"
    _say(f"tokens are {'coloured' if chat.settings.show else 'not coloured'} by origin")


def _save(chat: Chat, argument: str) -> None:
    chat.conversation.save(_file("save", argument))
    _say(f"{len(chat.conversation.turns)} turns are in {argument}")


def _load(chat: Chat, argument: str) -> None:
    chat.conversation.load(_file("load", argument))
    _say(f"{len(chat.conversation.turns)} turns from {argument}")


def _exit(chat: Chat, argument: str) -> None:
    raise Leave


def _file(command: str, argument: str) -> Path:
    if not argument:
        raise SettingError(f"/{command} names no file: give one, /{command} chat.json")
    return Path(argument).expanduser()


def _beginning(text: str, length: int = 60) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else f"{text[: length - 3]}..."


def _say(text: str) -> None:
    messages().print(text, style="dim")


_EXIT = Command("exit", "", "End the chat, as Ctrl-D does.", _exit)
COMMANDS = {
    command.name: command
    for command in (
        Command("help", "", "This list.", _help),
        Command("clear", "", "Forget what was said; the system prompt stays.", _clear),
        Command("undo", "", "Take back the last question and its answer.", _undo),
        Command("retry", "", "Ask the last question again.", _retry),
        Command("system", "[TEXT|off]", "Set the system prompt, or say it.", _system),
        Command("set", "[NAME VALUE]", "Change a setting (/set temperature 0.7), or say them all.", _set),
        Command("stats", "", "What speculation brought.", _stats),
        Command("show", "[on|off]", "Colour each token by where it came from.", _show),
        Command("save", "FILE", "Write the chat to a file.", _save),
        Command("load", "FILE", "Go on with a chat from a file.", _load),
        _EXIT,
    )
} | {"quit": _EXIT}

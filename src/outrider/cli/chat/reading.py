"""Where the user's messages come from: an editor on a terminal, or lines of a file or pipe."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from outrider.cli.chat.commands import COMMANDS
from outrider.cli.chat.settings import NAMES
from outrider.cli.ending import Terminated
from outrider.cli.terminal import messages
from outrider.errors import InputError, SettingError

if TYPE_CHECKING:
    from prompt_toolkit.completion import Completer
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

CONTINUES = "\\"  # at the end of a line: the message goes on in the next one
PROMPT, CONTINUATION = "> ", "  "
STYLE = {"mark": "bold ansigreen", "bottom-toolbar": "noreverse", "status": "ansibrightblack"}
CHOICES = {"show": ["on", "off"], "set": [*NAMES], "system": ["off"]}


class Reader(Protocol):
    """Reads messages."""

    def read(self) -> str | None:
        """The next one; None at the end."""


class LineReader:
    """One message per line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def read(self) -> str | None:
        """The next line that says something; None at the end.

        Raises:
            InputError: it is no text.
        """
        lines: list[str] = []
        while line := self._line():
            line = line.rstrip("\r\n")
            if line.endswith(CONTINUES):
                lines.append(line.removesuffix(CONTINUES))
            elif lines or line.strip():
                return "\n".join([*lines, line])
        return "\n".join(lines) or None

    def _line(self) -> str:
        try:
            return self._stream.readline()
        except UnicodeDecodeError as error:
            raise InputError(f"standard input cannot be read as text ({error}): give UTF-8") from error


class TerminalReader:
    """An editor with several lines, history and completion.

    Args:
        history: the file that messages are kept in; None keeps none.
        status: what stands below the message.
        terminal: input and output of prompt_toolkit; none are those of the process.

    Raises:
        SettingError: prompt_toolkit is missing.
    """

    def __init__(self, history: Path | None, status: Callable[[], str], **terminal: Any) -> None:
        try:
            from prompt_toolkit import PromptSession
            from prompt_toolkit.history import FileHistory, InMemoryHistory
            from prompt_toolkit.styles import Style
        except ImportError as error:
            raise SettingError("a chat on a terminal needs prompt_toolkit: pip install 'outrider[chat]'") from error
        self._session: PromptSession[str] = PromptSession(
            [("class:mark", PROMPT)],
            multiline=True,
            prompt_continuation=CONTINUATION,
            history=InMemoryHistory() if history is None else FileHistory(_private(history)),
            key_bindings=_keys(),
            completer=command_completer(),
            complete_while_typing=False,
            bottom_toolbar=lambda: [("class:status", status())],
            style=Style.from_dict(
                {"mark": "bold ansigreen", "bottom-toolbar": "noreverse", "status": "ansibrightblack"}
            ),
            **terminal,
        )

    def read(self) -> str | None:
        """The next message that says something; None after Ctrl-D."""
        print()
        while True:
            try:
                text = self._session.prompt()
            except Terminated:
                raise
            except KeyboardInterrupt:
                messages().print("Ctrl-D or /exit ends the chat", style="dim")
                continue
            except EOFError:
                return None
            if text.strip():
                return text


def _keys() -> KeyBindings:
    """Enter sends; Alt-Enter and Ctrl-J begin a new line, as Enter does after a backslash."""
    from prompt_toolkit.key_binding import KeyBindings

    keys = KeyBindings()

    @keys.add("enter")
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.document.text_before_cursor.endswith(CONTINUES):
            buffer.delete_before_cursor()
            buffer.newline(copy_margin=False)
        else:
            buffer.validate_and_handle()

    @keys.add("escape", "enter")
    @keys.add("c-j")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.newline(copy_margin=False)

    return keys


def command_completer() -> Completer:
    """Completes commands, what they take, and files."""
    from prompt_toolkit.completion import Completer, NestedCompleter, PathCompleter, WordCompleter
    from prompt_toolkit.completion.base import CompleteEvent, Completion
    from prompt_toolkit.document import Document

    files = PathCompleter(expanduser=True)
    taken: dict[str, Completer | None] = {f"/{name}": WordCompleter(choices) for name, choices in CHOICES.items()}
    taken |= {"/save": files, "/load": files}
    # A command that takes something ends with a space: what it takes comes next.
    names = [f"{name} " if name in taken else name for name in (f"/{each}" for each in COMMANDS)]
    # By itself NestedCompleter takes a slash for the end of a word.
    first = WordCompleter(names, sentence=True)
    rest = NestedCompleter(taken)

    class Commands(Completer):
        def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
            if document.text_before_cursor.startswith("/"):
                chosen = rest if " " in document.text_before_cursor else first
                yield from chosen.get_completions(document, complete_event)

    return Commands()


def _private(file: Path) -> str:
    """The file, there and readable by its user alone.

    Raises:
        InputError: it cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(file, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600))
    except OSError as error:
        raise InputError(f"history {file} cannot be written ({error.strerror}): --no-history keeps none") from error
    return str(file)


def reader_for(history: Path | None, status: Callable[[], str]) -> Reader:
    """An editor where a person sits at a terminal, otherwise lines of standard input.

    Raises:
        SettingError, InputError: as TerminalReader.
    """
    if sys.stdin.isatty() and sys.stdout.isatty():
        return TerminalReader(history, status)
    return LineReader(sys.stdin)

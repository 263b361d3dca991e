"""One prompt, and how far it is continued."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from outrider.cli.options.files import STANDARD_INPUT, read_standard_input, read_text
from outrider.cli.options.group import option
from outrider.errors import InputError, SettingError

PROMPT = "Prompt"

SystemPromptOption = Annotated[
    str | None, option("--system-prompt", "TEXT", "Who the model is and what it should do.", PROMPT)
]
StopOption = Annotated[list[str] | None, option("--stop", "TEXT", "End before this string. Repeatable.", PROMPT)]


@dataclass(frozen=True, slots=True)
class PromptOptions:
    """One prompt, and how far it is continued."""

    prompt: Annotated[str | None, typer.Argument(help="The prompt; - or nothing reads standard input.")] = None
    file: Annotated[Path | None, option("--file -f", "FILE", "Read the prompt from a file.", PROMPT)] = None
    system_prompt: SystemPromptOption = None
    ignore_chat_template: Annotated[
        bool, option("--ignore-chat-template", None, "Continue the prompt as bare text.", PROMPT)
    ] = False
    max_tokens: Annotated[int, option("--max-tokens -n --n-predict", "N", "The most tokens to emit.", PROMPT)] = 256
    stop: StopOption = None

    @property
    def stops(self) -> tuple[str, ...]:
        """The strings that end a text."""
        return tuple(self.stop or ())

    def check(self) -> None:
        """Raises SettingError where a value is out of its range."""
        check_length(self.max_tokens, self.stops)

    def read(self) -> str:
        """The prompt, from the argument, a file, or standard input.

        Raises:
            InputError: there is none, it is empty, it is given twice, or it cannot be read.
        """
        text = self._read()
        if not text.strip():
            raise InputError("the prompt is empty: give at least one word")
        return text

    def _read(self) -> str:
        if self.prompt is not None and self.file is not None:
            raise InputError("a prompt and --file are both given: leave one of them out")
        if self.file is not None:
            return read_text(self.file)
        if self.prompt is not None and self.prompt != STANDARD_INPUT:
            return self.prompt
        if self.prompt is None and (sys.stdin is None or sys.stdin.isatty()):
            raise InputError("there is no prompt: give it as an argument, with --file, or on standard input")
        return read_standard_input()


def check_length(max_tokens: int, stops: Sequence[str]) -> None:
    """Raises SettingError where a text would end before its first token."""
    if max_tokens < 1:
        raise SettingError(f"--max-tokens is {max_tokens}: it must be at least 1")
    if "" in stops:
        raise SettingError("a --stop string is empty: give at least one character, or leave it out")

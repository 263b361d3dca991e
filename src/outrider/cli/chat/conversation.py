"""What was said so far, in memory and in files."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from outrider.cli.options.files import read_file
from outrider.errors import InputError
from outrider.prompts.schema import Message, refusal_of
from outrider.runtimes.files.whole_file import whole_file

SYSTEM, USER, ASSISTANT = "system", "user", "assistant"


class SavedChat(BaseModel):
    """A file of `save`: a line of a file of prompts, so that `outrider generate --input` reads it too."""

    model_config = ConfigDict(strict=True, extra="ignore")

    messages: list[Message]


@dataclass(slots=True)
class Conversation:
    """Questions and answers, in turn.

    Attributes:
        system: the system prompt; None for none.
        turns: (question, answer), the oldest first.
    """

    system: str | None = None
    turns: list[tuple[str, str]] = field(default_factory=list)

    def messages(self, question: str | None = None) -> list[dict[str, str]]:
        """What a chat template takes.

        Args:
            question: one that is not answered yet.
        """
        found = [] if self.system is None else [_message(SYSTEM, self.system)]
        for asked, answer in self.turns:
            found += [_message(USER, asked), _message(ASSISTANT, answer)]
        return found if question is None else [*found, _message(USER, question)]

    def undo(self) -> str:
        """Take back the last question and its answer; returns the question.

        Raises:
            InputError: nothing was said.
        """
        if not self.turns:
            raise InputError("nothing was said yet: ask something first")
        question, _ = self.turns.pop()
        return question

    def save(self, file: Path) -> None:
        """Write it to a file, as one line of JSON.

        Raises:
            InputError: the file cannot be written.
        """
        line = json.dumps({"messages": self.messages()}, ensure_ascii=False) + "\n"
        try:
            with whole_file(file) as stream:
                stream.write(line.encode())
        except OSError as error:
            raise InputError(f"file {file} cannot be written ({error.strerror}): choose another") from error

    def load(self, file: Path) -> None:
        """Take what a file of `save` holds in place of what was said.

        Raises:
            InputError: the file cannot be read, or holds no chat.
        """
        try:
            messages = SavedChat.model_validate_json(read_file(file)).messages
        except ValidationError as error:
            raise InputError(f"file {file} is no chat ({refusal_of(error)}): give one that /save wrote") from error
        said = [(message.role, message.content) for message in messages]
        system = said.pop(0)[1] if said and said[0][0] == SYSTEM else None
        roles = [role for role, _ in said]
        if roles != [USER, ASSISTANT] * (len(roles) // 2):
            raise InputError(f"file {file} is no chat: after the system prompt, user and assistant must take turns")
        texts = [text for _, text in said]
        self.system, self.turns = system, list(zip(texts[::2], texts[1::2], strict=True))


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}

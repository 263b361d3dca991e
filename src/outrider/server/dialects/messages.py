"""Messages as OpenAI's clients send them, in the terms of a chat template."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from outrider.errors import shown
from outrider.prompts.schema import Text
from outrider.server.errors import refused

TEXT_PARTS = ("text", "input_text", "output_text")
DEVELOPER = "developer"  # OpenAI's newer name of the system


class ChatMessage(BaseModel):
    """One turn; what else it says is for the chat template."""

    model_config = ConfigDict(strict=True, extra="allow")

    role: Text
    content: Any = None

    def plain(self) -> dict[str, Any]:
        """The message with its content as one text.

        Raises:
            ApiError: the content is something else than text.
        """
        role = "system" if self.role == DEVELOPER else self.role
        content = "" if self.content is None else text_content(self.content, "messages.content")
        return {**(self.model_extra or {}), "role": role, "content": content}


def text_content(content: Any, name: str) -> str:
    """A text, or the text of several parts.

    Raises:
        ApiError: it is neither.
    """
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise refused(f"{name} is {shown(content)}: it must be a text, or a list of parts of type text", name)
    pieces = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind not in TEXT_PARTS or not isinstance(part.get("text"), str):
            raise refused(f"{name} has a part of type {shown(kind)}: this server reads text alone", name)
        pieces.append(part["text"])
    return "".join(pieces)

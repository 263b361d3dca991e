"""Names of control tokens that a user types: they stay text, so that nobody can end a turn and write another's.

Chat templates write such names to mark turns, and a tokenizer reads all of a rendered conversation alike. So each name
in what a user or a tool says is marked before the template is rendered, and the rendered text is cut at the marks
before it is encoded: no piece holds a name that the template did not write.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

MARK = "\ufdd0"  # a noncharacter of Unicode: no text holds one
TRUSTED = ("system", "developer", "assistant")  # roles whose words may hold control tokens


class ControlNames:
    """The names of a tokenizer's control tokens.

    Args:
        names: read when they are first needed. Those of a single character cannot be kept apart.
    """

    def __init__(self, names: Callable[[], Iterable[str]]) -> None:
        self._names = names

    @cached_property
    def _starts(self) -> re.Pattern[str] | None:
        # The second character of every occurrence; occurrences may overlap.
        names = {name for name in self._names() if len(name) > 1}
        if not names:
            return None
        return re.compile("|".join(f"(?<={re.escape(name[0])})(?={re.escape(name[1:])})" for name in sorted(names)))

    def marked(self, messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """The conversation with a mark within every name that a user or a tool says."""
        return [message if message.get("role") in TRUSTED else self._marked_message(message) for message in messages]

    def _marked_message(self, message: Mapping[str, Any]) -> Mapping[str, Any]:
        return {key: self._marked_value(value) for key, value in message.items()}

    def _marked_value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._marked_text(value)
        if isinstance(value, list | tuple):  # parts of a content
            return [self._marked_part(part) for part in value]
        return value

    def _marked_part(self, part: Any) -> Any:
        if isinstance(part, Mapping) and isinstance(part.get("text"), str):
            return {**part, "text": self._marked_text(part["text"])}
        return part

    def _marked_text(self, text: str) -> str:
        bare = text.replace(MARK, "")
        return bare if self._starts is None else self._starts.sub(MARK, bare)


def encode_marked(text: str, encode: Callable[[str], list[int]]) -> list[int]:
    """The tokens of a rendered conversation, encoded piece by piece between the marks."""
    return [token for piece in text.split(MARK) if piece for token in encode(piece)]

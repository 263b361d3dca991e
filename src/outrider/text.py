"""Between text and tokens: what a tokenizer must offer, text that streams, and stop strings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from outrider.errors import SettingError

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class Tokenizer(Protocol):
    """What Outrider asks of a tokenizer."""

    @property
    def fingerprint(self) -> str:
        """Equal for two tokenizers that give every text the same tokens."""

    def encode(self, text: str) -> list[int]: ...

    def decode(self, tokens: Sequence[int]) -> str: ...

    def encode_chat(self, messages: Sequence[Mapping[str, str]]) -> list[int] | None:
        """The tokens of a conversation up to the assistant's turn; None where the model has no chat template."""


class Detokenizer:
    """Turns tokens into text as they come.

    A character may be spread over several tokens, and a token's text may depend on the one before; therefore the new
    text is the difference of two decodings, and it is held back while it ends in the middle of a character.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._tokens: list[int] = []
        self._start = 0  # where decoding begins: a little before the end, so that the cost stays constant
        self._read = 0  # tokens before this one have been turned into text

    def push(self, token: int) -> str:
        """The text that `token` completes; empty while a character is incomplete."""
        self._tokens.append(token)
        known = self._tokenizer.decode(self._tokens[self._start : self._read])
        text = self._tokenizer.decode(self._tokens[self._start :])
        if text.endswith(REPLACEMENT) or len(text) <= len(known):
            return ""
        self._start, self._read = self._read, len(self._tokens)
        return text[len(known) :]

    def flush(self) -> str:
        """What was held back; called once, at the end."""
        known = self._tokenizer.decode(self._tokens[self._start : self._read])
        return self._tokenizer.decode(self._tokens[self._start :])[len(known) :]


class StopScanner:
    """Lets text through until a stop string appears; text that may begin one is held back."""

    def __init__(self, stop: Sequence[str]) -> None:
        for string in stop:
            if not string:
                raise SettingError("a stop string is empty: give at least one character, or leave it out")
        self._stop = tuple(stop)
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """The text that is certain to come before any stop string. Sets `stopped` when one is complete."""
        if self.stopped:
            return ""
        if not self._stop:
            return text
        self._held += text
        found = [position for string in self._stop if (position := self._held.find(string)) >= 0]
        if found:
            self.stopped = True
            released, self._held = self._held[: min(found)], ""
            return released
        keep = max(_overlap(self._held, string) for string in self._stop)
        cut = len(self._held) - keep
        released, self._held = self._held[:cut], self._held[cut:]
        return released

    def flush(self) -> str:
        """What was held back and turned out to be no stop string; called once, at the end."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, string: str) -> int:
    """The length of the longest end of `text` that is a proper beginning of `string`."""
    for length in range(min(len(text), len(string) - 1), 0, -1):
        if text.endswith(string[:length]):
            return length
    return 0

"""Between text and tokens: what a tokenizer must offer, text that streams, and stop strings."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Protocol

from outrider.errors import SettingError

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
FEW = 16  # tokens that may be held back before it is asked whether they will become text at all
NEWEST = 8  # tokens that hold a whole character, if there is one


Vocabulary = Sequence[bytes | None]


class Tokenizer(Protocol):
    """What Outrider asks of a tokenizer.

    Attributes:
        vocabulary: the bytes that each token id stands for, whatever the runtime's own notation (a word that follows a
            space begins with one); None for an id that no text has, such as padding.
        special_tokens: ids that were added to the vocabulary and are no pieces of ordinary text; their bytes are their
            names.
        fingerprint: equal for two tokenizers with the same vocabulary and special tokens.
    """

    @property
    def vocabulary(self) -> Vocabulary: ...

    @property
    def special_tokens(self) -> frozenset[int]: ...

    @property
    def fingerprint(self) -> str: ...

    def encode(self, text: str) -> list[int]: ...

    def decode(self, tokens: Sequence[int]) -> str: ...

    def encode_chat(self, messages: Sequence[Mapping[str, str]]) -> list[int] | None:
        """The tokens of a conversation up to the assistant's turn; None where the model has no chat template."""


def half_character(text: str) -> tuple[int, str] | None:
    """The place and the name of the first half of a character (a lone surrogate); None where there is none.

    Bytes that are no UTF-8 become such halves in arguments and on standard input.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return error.start, f"U+{ord(text[error.start]):04X}"
    return None


def fingerprint_of(vocabulary: Vocabulary, special_tokens: frozenset[int]) -> str:
    """A digest of what tells tokenizers apart; padding at the end does not."""
    digest = hashlib.sha256()
    for token, piece in enumerate(vocabulary):
        if piece is not None:
            digest.update(b"%d %d %d " % (token, token in special_tokens, len(piece)) + piece)
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class TokenDifference:
    """The first token id that two tokenizers do not agree on, and what each of them says it is."""

    token: int
    one: str
    other: str


def first_difference(one: Tokenizer, other: Tokenizer) -> TokenDifference | None:
    """None where every token id means the same to both; ids that only pad a vocabulary mean nothing."""
    pieces = zip_longest(one.vocabulary, other.vocabulary)
    for token, (mine, theirs) in enumerate(pieces):
        specials = token in one.special_tokens, token in other.special_tokens
        if mine != theirs or (mine is not None and specials[0] != specials[1]):
            return TokenDifference(token, _describe(mine, specials[0]), _describe(theirs, specials[1]))
    return None


def _describe(piece: bytes | None, special: bool) -> str:
    if piece is None:
        return "nothing"
    shown = repr(piece.decode()) if _is_text(piece) else repr(piece)
    return f"the special token {shown}" if special else shown


def _is_text(piece: bytes) -> bool:
    try:
        piece.decode()
    except UnicodeDecodeError:
        return False
    return True


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
        self._wait = 0  # so many tokens must be held back before they are decoded again

    def push(self, token: int) -> str:
        """The text that `token` completes; empty while a character is incomplete."""
        self._tokens.append(token)
        held = len(self._tokens) - self._read
        if held > FEW and (held < self._wait or self._decoded_newest().endswith(REPLACEMENT)):
            return ""  # bytes that are no text: to decode all of them each time would take quadratic time
        known = self._tokenizer.decode(self._tokens[self._start : self._read])
        text = self._tokenizer.decode(self._tokens[self._start :])
        if text.endswith(REPLACEMENT) or len(text) <= len(known):
            self._wait = held + held // 8
            return ""
        self._wait = 0
        self._start, self._read = self._read, len(self._tokens)
        return text[len(known) :]

    def _decoded_newest(self) -> str:
        return self._tokenizer.decode(self._tokens[-NEWEST:])

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

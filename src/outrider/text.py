"""Between text and tokens: what a tokenizer must offer, text that streams, and stop strings."""

from __future__ import annotations

import codecs
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Protocol, runtime_checkable

from outrider.errors import SettingError, shown

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
MOST_BYTES = 4  # of a character in UTF-8
MOST_CONTEXT = 8  # tokens that a token is decoded beside


Vocabulary = Sequence[bytes | None]


@runtime_checkable
class EncodesChat(Protocol):
    """What tells a tokenizer of Outrider's from one of a library."""

    def encode_chat(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()
    ) -> list[int] | None:
        """The tokens of a conversation up to the assistant's turn; None where the model has no chat template.

        Args:
            tools: descriptions of functions, which the template shows to the model; given only where there are any.
        """


class Tokenizer(EncodesChat, Protocol):
    """What Outrider asks of a tokenizer.

    Attributes:
        vocabulary: the bytes that each token id stands for, whatever the runtime's own notation (a word that follows a
            space begins with one); None for an id that no text has, such as padding.
        special_tokens: ids that were added to the vocabulary and are no pieces of ordinary text; their bytes are their
            names.
        fingerprint: equal for two tokenizers with the same vocabulary and special tokens.
        chat_template: in Jinja; None where the model has none.
    """

    @property
    def vocabulary(self) -> Vocabulary: ...

    @property
    def special_tokens(self) -> frozenset[int]: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def chat_template(self) -> str | None: ...

    def encode(self, text: str) -> list[int]: ...

    def decode(self, tokens: Sequence[int]) -> str: ...


def piece_of(token: int, tokenizer: Tokenizer) -> bytes:
    """The bytes of a token; of a special one its name, and none for an id that no text has."""
    vocabulary = tokenizer.vocabulary
    return (vocabulary[token] if token < len(vocabulary) else None) or b""


def require_tokenizer(tokenizer: object) -> None:
    """Raises SettingError where it is neither one of Outrider's nor None."""
    if tokenizer is not None and not isinstance(tokenizer, EncodesChat):
        raise SettingError(f"tokenizer is {shown(tokenizer)}: give an outrider Tokenizer, or None")


@runtime_checkable
class LimitableTokenizer(Protocol):
    """A tokenizer that can refuse a text that is far too long before it encodes it."""

    def within(self, room: int) -> Tokenizer:
        """The same tokenizer, which raises TooLongError for texts that certainly have `room` tokens or more.

        It never refuses a text that has fewer.
        """


Speller = Callable[[int], bytes]


@runtime_checkable
class SpellingTokenizer(Protocol):
    """A tokenizer that may know what each token adds to a text, whatever stands before it."""

    def speller(self) -> Speller | None:
        """A function from a token to the bytes that it adds, none for a silent one (most special tokens).

        The text of some tokens is their bytes one after the other, in UTF-8. None where that is not so.
        """


def limited(tokenizer: Tokenizer | None, room: int) -> Tokenizer | None:
    """The tokenizer for texts of fewer than `room` tokens, where it can tell; else as it is."""
    if tokenizer is None:  # first, because asking after a protocol takes as long as a small request
        return None
    return tokenizer.within(room) if isinstance(tokenizer, LimitableTokenizer) else tokenizer


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
    pieces = [
        b"%d %d %d %b" % (token, token in special_tokens, len(piece), piece)
        for token, piece in enumerate(vocabulary)
        if piece is not None
    ]
    return hashlib.sha256(b"".join(pieces)).hexdigest()


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
    """Turns tokens into text as they come, each in constant time.

    Where the tokenizer spells its tokens, a text is their bytes. Elsewhere a token's text may depend on the one before
    (SentencePiece drops the space before the first word of a text), so it is the difference of two decodings. Bytes
    that are not yet a character, or never become one, are read as UTF-8: what can no longer become a character is shown
    as replacement characters at once. A character has at most 4 bytes.

    Args:
        before: the tokens that the text goes on from. They are not shown again, but the first word keeps its space.
    """

    def __init__(self, tokenizer: Tokenizer, before: Sequence[int] = ()) -> None:
        self._tokenizer = tokenizer
        self._context: list[int] = []  # what the next token is decoded beside
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._spell = tokenizer.speller() if isinstance(tokenizer, SpellingTokenizer) else None
        last = before[-1:]
        if self._spell is not None:
            if last and self._spell(last[0]):  # a character may have begun before
                self._utf8.decode(b"".join([self._spell(token) for token in before[-MOST_BYTES:]]))
        elif last and not self._is_silent(last[0]):
            self._context = list(last)
            self._read_beginning(before)

    def push(self, token: int) -> str:
        """The text that `token` completes; empty while a character is incomplete."""
        if self._spell is not None:
            return self._utf8.decode(self._spell(token))
        if self._splits_a_character:
            return self._push_bytes(token)
        known = self._tokenizer.decode(self._context)
        text = self._tokenizer.decode([*self._context, token])
        if text == known:
            if not self._is_silent(token):  # such as a space at the very beginning, which shows once a word follows
                self._context = [*self._context, token][-MOST_CONTEXT:]
            return ""
        if text.endswith(REPLACEMENT):
            return self._push_bytes(token)
        self._context = [token]
        return text[len(known) :]

    def flush(self) -> str:
        """What was held back; called once, at the end."""
        return self._utf8.decode(b"", final=True)

    @property
    def _splits_a_character(self) -> bool:
        return bool(self._utf8.getstate()[0])

    def _push_bytes(self, token: int) -> str:
        if self._is_silent(token):
            return ""
        self._context = [token]
        return self._utf8.decode(piece_of(token, self._tokenizer))

    def _read_beginning(self, before: Sequence[int]) -> None:
        """Take over the beginning of a character that the tokens before may end in."""
        if self._tokenizer.decode(self._context).endswith(REPLACEMENT):
            self._utf8.decode(b"".join(piece_of(token, self._tokenizer) for token in before[-MOST_BYTES:]))

    def _is_silent(self, token: int) -> bool:
        """Whether the token has no text: most special tokens, and what pads a vocabulary."""
        if self._tokenizer.decode([token]):
            return False
        return token in self._tokenizer.special_tokens or not piece_of(token, self._tokenizer)


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
        keep = max(overlap(self._held, string) for string in self._stop)
        cut = len(self._held) - keep
        released, self._held = self._held[:cut], self._held[cut:]
        return released

    def flush(self) -> str:
        """What was held back and turned out to be no stop string; called once, at the end."""
        held, self._held = self._held, ""
        return held


def overlap(text: str, string: str) -> int:
    """The length of the longest end of `text` that is a proper beginning of `string`."""
    for length in range(min(len(text), len(string) - 1), 0, -1):
        if text.endswith(string[:length]):
            return length
    return 0

"""A tokenizer that also encodes text from the middle of a text."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import takewhile

from outrider.runtimes.prefixes import common_length
from outrider.text import Tokenizer

PRIMERS = ("x", "\n", "a")
NAMES_OF_ENDS = (b"end", b"eos", b"eot", b"eom", b"turn", b"</s>")
LONGEST_TAIL = 8  # tokens of an unfinished word


class Encoder:
    """A tokenizer that encodes the beginning of a text, its middle, and what follows emitted tokens.

    At the beginning of a text many tokenizers put a special token, or a space that is not in the text. So text from the
    middle is encoded after a primer, whose tokens are removed. They must be the same as without the text: otherwise
    tokens merged over the boundary, and another primer is tried.

    Attributes:
        special: tokens that stand for no text. Added tokens that do, such as runs of spaces, are ordinary ones.
        opening: the special tokens that every text begins with.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.special = special = frozenset(token for token in tokenizer.special_tokens if not tokenizer.decode([token]))
        empty = tokenizer.encode("")  # as BERT has it: a token that begins a text, and one that ends it
        shared = empty[: common_length(empty, tokenizer.encode(PRIMERS[0]))]
        self.opening = list(takewhile(special.__contains__, shared))
        self._closing = len(list(takewhile(special.__contains__, reversed(empty[len(self.opening) :]))))
        known = [(primer, self.beginning(primer)) for primer in PRIMERS]
        # An unknown character may swallow its neighbours.
        self._primers = [(primer, tokens) for primer, tokens in known if not special.intersection(tokens)]

    def beginning(self, text: str) -> list[int]:
        """The tokens of a text, without the special ones that the tokenizer puts around it."""
        tokens = self._tokenizer.encode(text)
        return tokens[len(self.opening) : len(tokens) - self._closing]

    def middle(self, text: str) -> list[int]:
        """The tokens of text that follows other text."""
        for primer, alone in self._primers:
            tokens = self.beginning(primer + text)
            if tokens[: len(alone)] == alone:
                return tokens[len(alone) :]
        return self.beginning(text)

    def following(self, emitted: Sequence[int], text: str) -> list[int]:
        """The tokens of `text` after tokens that were emitted.

        Tokens may merge over the boundary ("un" + "do" is one token, "undo"). Emitted tokens cannot be changed, so the
        text is then encoded by itself. The result ends where it no longer spells the text: a tokenizer that normalises,
        or does not know a character, would propose what was not drafted.
        """
        if not text:
            return []
        tail, before = self._unfinished_word(emitted)
        tokens = self.middle(before + text)
        following = tokens[len(tail) :] if tokens[: len(tail)] == tail else self.middle(text)
        return self._spelling(following, text.encode())

    def said(self, tokens: Sequence[int]) -> bytes:
        """The bytes of tokens in the middle of a text; special ones have none."""
        return b"".join(self.piece(token) for token in tokens)

    def _unfinished_word(self, emitted: Sequence[int]) -> tuple[list[int], str]:
        """The last tokens, back to the one that begins with a space, and their text."""
        start = len(emitted)
        said = b""
        while start > max(len(emitted) - LONGEST_TAIL, 0) and not said.startswith(b" "):
            piece = self.piece(emitted[start - 1])
            if not piece:
                break
            start, said = start - 1, piece + said
        text = whole_characters(said)
        return (list(emitted[start:]), text) if text.encode() == said else ([], "")

    def _spelling(self, tokens: Sequence[int], text: bytes) -> list[int]:
        """The tokens as far as they spell the text."""
        spelled = 0  # bytes
        for count, token in enumerate(tokens):
            piece = self.piece(token)
            if not piece or not text.startswith(piece, spelled):
                return list(tokens[:count])
            spelled += len(piece)
        return list(tokens)

    def piece(self, token: int) -> bytes:
        """The bytes of a token; none for a special one, and for one that occurs in no text."""
        vocabulary = self._tokenizer.vocabulary
        if token in self.special or token >= len(vocabulary):
            return b""
        return vocabulary[token] or b""

    def tokens_by_bytes(self, below: int, special: bool) -> dict[bytes, int]:
        """Either the special tokens or the others, of ids below a limit, by their bytes or names.

        Of several tokens with the same bytes the last: byte-fallback tokens come before those of characters.
        """
        return {
            piece: token
            for token, piece in enumerate(self._tokenizer.vocabulary[:below])
            if piece and (token in self.special) == special
        }

    def usual_end(self, stops: Collection[int]) -> int:
        """The one of a model's stop tokens, of which there is one at least, with which most texts end.

        Some models also stop at tokens that occur only in code that they were trained on, such as the name of the next
        file; and chat models add the end of a turn after the end of a document.
        """
        vocabulary = self._tokenizer.vocabulary
        names = {stop: (vocabulary[stop] or b"").lower() for stop in stops if stop < len(vocabulary)}
        return max([stop for stop, name in names.items() if any(word in name for word in NAMES_OF_ENDS)] or stops)

    @property
    def drops_first_space(self) -> bool:
        """Whether the tokenizer puts a space at the beginning of a text that is not in the text."""
        for token in range(len(self._tokenizer.vocabulary)):
            piece = self.piece(token)
            if piece.startswith(b" ") and whole_characters(piece).strip():
                return not self._tokenizer.decode([token]).startswith(" ")
        return False


def whole_characters(said: bytes) -> str:
    """Bytes as text, up to the first that are no whole character."""
    try:
        return said.decode()
    except UnicodeDecodeError as error:
        return said[: error.start].decode()

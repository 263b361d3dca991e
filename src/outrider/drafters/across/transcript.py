"""A text of the target in the tokens of a draft model."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from outrider.drafters.across.translation import NONE, Translation

SEGMENT = 64  # characters, after which a text is cut before the next word
LONGEST_SEGMENT = 4 * SEGMENT  # characters, after which it is cut although no word begins


class Transcript:
    """One text that grows in the target's tokens, in those of the draft model.

    The tokens depend on the text alone, not on the calls in which it came. The text is cut into segments, and where it
    is cut depends on nothing that follows. A segment is encoded once; only the last, unfinished one is encoded again
    as it grows. So the draft model sees text as its tokenizer encodes it, and a new token costs the same however long
    the text is.
    """

    def __init__(self, translation: Translation) -> None:
        self._translation = translation
        self._tokens = list(translation.draft.opening)  # of the finished segments
        self._segment = ""
        self._bytes = codecs.getincrementaldecoder("utf-8")("replace")
        self._read = 0  # tokens of the target
        self._silent = True

    def follow(self, tokens: Sequence[int]) -> list[int]:
        """All of the text in the draft model's tokens.

        Args:
            tokens: of the target: those of the last call, and more.

        Returns:
            A new list; empty while the text ends in the middle of a character, which no tokenizer can encode.
        """
        for token in tokens[self._read :]:
            piece = self._translation.target.piece(token)
            if piece:
                self._write(piece)
            else:
                self._write_special(token)
        self._read = len(tokens)
        self._finish_segments()
        unfinished, _ = self._bytes.getstate()
        return [] if unfinished else [*self._tokens, *self._encode(self._segment)]

    def _write(self, piece: bytes) -> None:
        if self._silent and self._translation.drops_first_space:
            piece = piece.removeprefix(b" ")
        self._silent = False
        self._segment += self._bytes.decode(piece)

    def _write_special(self, token: int) -> None:
        """A special token of both is one token, and text does not merge across it. Others are left out."""
        translation = self._translation
        self._segment += self._bytes.decode(b"", final=True)
        self._finish_segments()
        self._finish(self._segment)
        own = int(translation.draft_tokens[token])
        opened_with_it = self._opening and own in translation.draft.opening
        if own != NONE and not opened_with_it:
            self._tokens.append(own)

    def _finish_segments(self) -> None:
        while (end := segment_end(self._segment)) is not None:
            rest = self._segment[end:]
            self._finish(self._segment[:end])
            self._segment = rest

    def _finish(self, segment: str) -> None:
        self._tokens += self._encode(segment)
        self._segment = ""

    def _encode(self, segment: str) -> list[int]:
        if not segment:
            return []
        encoder = self._translation.draft
        return encoder.beginning(segment) if self._opening else encoder.middle(segment)

    @property
    def _opening(self) -> bool:
        return len(self._tokens) == len(self._translation.draft.opening)


def segment_end(text: str) -> int | None:
    """Where the first segment of a text ends, in characters; None where that depends on text still to come.

    It ends before a single space between two words: hardly any tokenizer merges that space with the word before it.
    """
    for end in range(SEGMENT, min(len(text) - 1, LONGEST_SEGMENT)):
        if text[end] == " " and not text[end - 1].isspace() and not text[end + 1].isspace():
            return end
    return LONGEST_SEGMENT if len(text) > LONGEST_SEGMENT else None

"""Between two tokenizers: the tokens that they share, and one text in the tokens of both.

Whatever is done here, the output stays exact: q is the distribution that a draft token was drawn from, whatever the
draft model was shown. What a tokenizer loses (case, spaces, characters that it does not know) costs acceptance only.
"""

from __future__ import annotations

import codecs
from collections.abc import Collection, Sequence
from itertools import takewhile

import numpy as np

from outrider.drafters.cache import common_length
from outrider.errors import VocabularyError
from outrider.runtimes.base import Model
from outrider.text import Tokenizer

NONE = -1  # where a token has no counterpart
PRIMERS = ("x", "\n", "a")
NAMES_OF_ENDS = (b"end", b"eos", b"eot", b"eom", b"turn", b"</s>")
SEGMENT = 64  # characters, after which a text is cut before the next word
LONGEST_SEGMENT = 4 * SEGMENT  # and here, where no word begins
LONGEST_TAIL = 8  # tokens of an unfinished word


class Encoder:
    """A tokenizer, and the tokens that it gives to text in the middle of a text.

    At the beginning many tokenizers put a special token, or a space that is not in the text. Text from the middle is
    therefore encoded behind a primer, whose own tokens are taken away if they come out as they do alone: if nothing
    merged over the boundary.

    Attributes:
        special: the tokens that say nothing. Others that were added to a vocabulary, such as runs of spaces, are text.
        opening: the special tokens that a text begins with.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.special = special = frozenset(token for token in tokenizer.special_tokens if not tokenizer.decode([token]))
        empty = tokenizer.encode("")  # as BERT has it: a token that begins a text, and one that ends it
        shared = empty[: common_length(empty, tokenizer.encode(PRIMERS[0]))]
        self.opening = list(takewhile(special.__contains__, shared))
        self._closing = len(list(takewhile(special.__contains__, reversed(empty[len(self.opening) :]))))
        known = [(primer, self.beginning(primer)) for primer in PRIMERS]
        # An unknown character may take what stands beside it along.
        self._primers = [(primer, tokens) for primer, tokens in known if not special.intersection(tokens)]

    def beginning(self, text: str) -> list[int]:
        """The tokens of a text, without the special ones that a tokenizer puts around it."""
        tokens = self._tokenizer.encode(text)
        return tokens[len(self.opening) : len(tokens) - self._closing]

    def middle(self, text: str) -> list[int]:
        """The tokens of text that stands behind other text."""
        for primer, alone in self._primers:
            tokens = self.beginning(primer + text)
            if tokens[: len(alone)] == alone:
                return tokens[len(alone) :]
        return self.beginning(text)

    def following(self, emitted: Sequence[int], text: str) -> list[int]:
        """The tokens of `text` behind tokens that stand already.

        Tokens may merge over the boundary ("un" + "do" is one token, "undo"); as what stands cannot be changed, the
        text is then encoded by itself. They are cut where they no longer spell the text: a tokenizer that normalises,
        or does not know a character, would propose what nobody drafted.
        """
        if not text:
            return []
        tail, before = self._unfinished_word(emitted)
        tokens = self.middle(before + text)
        following = tokens[len(tail) :] if tokens[: len(tail)] == tail else self.middle(text)
        return self._spelling(following, text.encode())

    def said(self, tokens: Sequence[int]) -> bytes:
        """What ordinary tokens say in the middle of a text; special ones say nothing."""
        return b"".join(self.piece(token) for token in tokens)

    def _unfinished_word(self, emitted: Sequence[int]) -> tuple[list[int], str]:
        """The last tokens back to the one that begins with a space, and what they say."""
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
        place = 0
        for count, token in enumerate(tokens):
            piece = self.piece(token)
            if not piece or not text.startswith(piece, place):
                return list(tokens[:count])
            place += len(piece)
        return list(tokens)

    def piece(self, token: int) -> bytes:
        """What an ordinary token says; nothing for a special one, and for one that is in no text."""
        vocabulary = self._tokenizer.vocabulary
        if token in self.special or token >= len(vocabulary):
            return b""
        return vocabulary[token] or b""

    def tokens_by_bytes(self, below: int, special: bool) -> dict[bytes, int]:
        """Either the special tokens or the others, of ids below a limit, by their bytes or names.

        Of several tokens of the same bytes the last: a byte for want of a character stands before the character.
        """
        return {
            piece: token
            for token, piece in enumerate(self._tokenizer.vocabulary[:below])
            if piece and (token in self.special) == special
        }

    def usual_end(self, stops: Collection[int]) -> int:
        """The one of a model's stop tokens, at least one, with which most texts end.

        Some stop at tokens that only trained code has, such as the name of the next file; and chat models add the end
        of a turn behind the end of a document.
        """
        vocabulary = self._tokenizer.vocabulary
        names = {stop: (vocabulary[stop] or b"").lower() for stop in stops if stop < len(vocabulary)}
        return max([stop for stop, name in names.items() if any(word in name for word in NAMES_OF_ENDS)] or stops)

    @property
    def drops_first_space(self) -> bool:
        """Whether the tokenizer writes a space at the beginning of a text that is not in the text."""
        for token in range(len(self._tokenizer.vocabulary)):
            piece = self.piece(token)
            if piece.startswith(b" ") and whole_characters(piece).strip():
                return not self._tokenizer.decode([token]).startswith(" ")
        return False


class Translation:
    """What a draft model's tokens are to a target, and the other way round.

    Attributes:
        draft_tokens: for each token of the target what the draft model calls it, NONE where it has none, [vocab of the
            target]. Equal are tokens of the same bytes, special tokens of the same name, and the tokens that end a
            text. No two tokens of the target are the same to the draft model.
        shared: how many tokens both have.
        drops_first_space: whether the first token of the target's text says a space that is not in the text.

    Raises:
        VocabularyError: a model has no tokenizer.
    """

    def __init__(self, draft: Model, target: Model) -> None:
        self.draft = Encoder(_tokenizer_of(draft))
        self.target = Encoder(_tokenizer_of(target))
        self.draft_tokens = np.full(target.traits.vocab_size, NONE, dtype=np.int64)
        for special in (False, True):
            ours = self.draft.tokens_by_bytes(draft.traits.vocab_size, special)
            for piece, token in self.target.tokens_by_bytes(target.traits.vocab_size, special).items():
                self.draft_tokens[token] = ours.get(piece, NONE)
        self._pair_the_ends(draft, target)
        self.shared = int(np.count_nonzero(self.draft_tokens != NONE))
        self.drops_first_space = self.target.drops_first_space

    def target_token(self, token: int) -> int:
        """What the target calls a token of the draft model, or NONE."""
        found = np.flatnonzero(self.draft_tokens == token)
        return int(found[0]) if len(found) else NONE

    def _pair_the_ends(self, draft: Model, target: Model) -> None:
        """Let what usually ends a text be one token, whatever its names."""
        if draft.traits.stop_token_ids and target.traits.stop_token_ids:
            ours, theirs = (
                self.draft.usual_end(draft.traits.stop_token_ids),
                self.target.usual_end(target.traits.stop_token_ids),
            )
            if self.draft_tokens[theirs] == NONE and ours not in self.draft_tokens:
                self.draft_tokens[theirs] = ours


class Transcript:
    """One text, which grows in the target's tokens, in those of the draft model.

    The tokens depend on the text alone, not on the calls in which it came. It is cut into segments, at places that
    depend on nothing behind them; a segment is encoded once and stays as it is, and only the last, unfinished one is
    encoded anew as it grows. So the draft model reads text as its tokenizer writes it, and a new token costs the same
    however long the text is.
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
            tokens: of the target; the same as in the last call, and more.

        Returns:
            Nothing while the text ends in the middle of a character: there the draft model's tokenizer has no tokens
            for it.
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
        """A special token of both stands for itself; text on its two sides does not merge. Others say nothing."""
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

    Before a single space between two words, which hardly any tokenizer merges with what stands before it.
    """
    for place in range(SEGMENT, min(len(text) - 1, LONGEST_SEGMENT)):
        if text[place] == " " and not text[place - 1].isspace() and not text[place + 1].isspace():
            return place
    return LONGEST_SEGMENT if len(text) > LONGEST_SEGMENT else None


def whole_characters(said: bytes) -> str:
    """Bytes as text, up to the first that are no whole character."""
    try:
        return said.decode()
    except UnicodeDecodeError as error:
        return said[: error.start].decode()


def _tokenizer_of(model: Model) -> Tokenizer:
    if model.tokenizer is None:
        raise VocabularyError(
            f"model {model.name} has no tokenizer: drafting across tokenizers needs the tokenizers of both models"
        )
    return model.tokenizer

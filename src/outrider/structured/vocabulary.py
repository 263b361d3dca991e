"""A tokenizer as grammars see it: the exact bytes of every token."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock
from typing import Any

from outrider.errors import VocabularyError
from outrider.structured.grammars import Grammar
from outrider.structured.library import make_matcher, make_tokenizer
from outrider.text import Tokenizer

MARK = "\x02"  # put before a text, so that no tokenizer adds a space to the text itself
PROBES = 64  # pieces on which a tokenizer is tried
KEPT_GRAMMARS = 64  # compiled ones


class TokenBytes:
    """What grammars need to know of a tokenizer: the bytes of its tokens, and how it writes a text.

    Building it takes about 0.2 seconds for 50,000 tokens; `token_bytes` keeps it.

    Args:
        vocab_size: of the logits; ids that the tokenizer does not have are never allowed.
        stop_token_ids: tokens that end a text; they are allowed where the grammar may end.

    Attributes:
        vocab_size: as given.
        stops: whether there is a token that ends a text.

    Raises:
        VocabularyError: the bytes of the tokens are not those of the texts that they are read from.
    """

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, stop_token_ids: frozenset[int] = frozenset()) -> None:
        require_exact_bytes(tokenizer)
        self.vocab_size = vocab_size
        stop = sorted(token for token in stop_token_ids if 0 <= token < vocab_size)
        self.stops = bool(stop)
        known = list(tokenizer.vocabulary[:vocab_size])
        pieces = [piece or b"" for piece in known] + [b""] * (vocab_size - len(known))
        if not stop:  # llguidance wants one: an id beyond the logits
            stop = [vocab_size]
            pieces.append(b"")
        special = sorted({token for token in tokenizer.special_tokens if token < vocab_size} | set(stop))
        self._library = make_tokenizer(pieces, special, stop, Writer(tokenizer, pieces))
        self._compiled: OrderedDict[str, Any] = OrderedDict()
        self._lock = Lock()

    def matcher(self, grammar: Grammar) -> Any:
        """A matcher of llguidance at the beginning of the grammar; compiled grammars are kept.

        Raises:
            SettingError: the grammar is wrong, or too large.
        """
        with self._lock:
            matcher = self._compiled.get(grammar.text)
        if matcher is None:
            matcher = make_matcher(self._library, grammar.text, grammar.kind)
        with self._lock:
            self._compiled[grammar.text] = matcher
            self._compiled.move_to_end(grammar.text)
            while len(self._compiled) > KEPT_GRAMMARS:
                self._compiled.popitem(last=False)
        return matcher.deep_copy()


class Writer:
    """How a tokenizer writes bytes that are not at the beginning of a text. Holds the tokenizer weakly.

    llguidance calls it to find out which tokens a model would use for text that a grammar prescribes. What the
    tokenizer cannot write, as capitals where it folds them, is written with the longest pieces that fit.
    """

    def __init__(self, tokenizer: Tokenizer, pieces: Sequence[bytes]) -> None:
        self._tokenizer = weakref.ref(tokenizer)
        special = tokenizer.special_tokens
        self._token_of = {piece: token for token, piece in enumerate(pieces) if piece and token not in special}
        self._longest = max(map(len, self._token_of), default=1)

    def __call__(self, text: bytes) -> list[int]:
        tokenizer = self._tokenizer()
        written = None
        if tokenizer is not None and _is_text(text):
            written = write(tokenizer, text.decode())
        return self._longest_pieces(text) if written is None else written

    def _longest_pieces(self, text: bytes) -> list[int]:
        """Up to the first byte that no piece begins with."""
        tokens: list[int] = []
        while text:
            lengths = range(min(self._longest, len(text)), 0, -1)
            piece = next((text[:length] for length in lengths if text[:length] in self._token_of), None)
            if piece is None:
                break
            tokens.append(self._token_of[piece])
            text = text[len(piece) :]
        return tokens


def write(tokenizer: Tokenizer, text: str) -> list[int] | None:
    """Tokens whose bytes are exactly those of `text`, as the tokenizer chooses them; None where it has none.

    A tokenizer may put tokens or a space before a text: they are cut off together with a mark.
    """
    tokens = tokenizer.encode(text)
    if spelled(tokenizer, tokens) == text.encode():
        return tokens
    marked = tokenizer.encode(MARK + text)
    for start in range(1, len(marked)):
        if spelled(tokenizer, marked[start:]) == text.encode():
            return marked[start:]
    return None


def spelled(tokenizer: Tokenizer, tokens: Sequence[int]) -> bytes | None:
    """The bytes of these tokens; None where one is not a piece of text."""
    vocabulary, special = tokenizer.vocabulary, tokenizer.special_tokens
    if any(token in special or token >= len(vocabulary) for token in tokens):
        return None
    return b"".join(vocabulary[token] or b"" for token in tokens)


def require_exact_bytes(tokenizer: Tokenizer) -> None:
    """Refuse a tokenizer whose tokens do not spell the bytes of a text, such as WordPiece.

    Raises:
        VocabularyError: a text made of some of its own pieces is spelled otherwise.
    """
    special = tokenizer.special_tokens
    texts = [
        piece.decode().lstrip(" ")
        for token, piece in enumerate(tokenizer.vocabulary)
        if piece and piece.isascii() and piece.decode().isprintable() and token not in special
    ]
    pieces = [text for text in texts if text]
    for piece in pieces[:: max(len(pieces) // PROBES, 1)]:
        if write(tokenizer, piece) is None:
            raise VocabularyError(
                f"the tokenizer writes {piece!r} with tokens of other bytes: structured output needs one whose tokens "
                "are pieces of the text, such as byte-level BPE or SentencePiece"
            )


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


_kept: weakref.WeakKeyDictionary[Any, dict[tuple[int, frozenset[int]], TokenBytes]] = weakref.WeakKeyDictionary()


def token_bytes(tokenizer: Tokenizer, vocab_size: int, stop_token_ids: frozenset[int] = frozenset()) -> TokenBytes:
    """The TokenBytes of a tokenizer, made once and kept as long as the tokenizer lives.

    Raises:
        VocabularyError: as TokenBytes.
    """
    made = _kept.setdefault(tokenizer, {})
    key = vocab_size, stop_token_ids
    if key not in made:
        made[key] = TokenBytes(tokenizer, vocab_size, stop_token_ids)
    return made[key]

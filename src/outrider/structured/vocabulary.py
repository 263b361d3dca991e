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
# Texts on which a tokenizer is tried: JSON, indented lines, letters of several bytes, several spaces.
PROBES = ('{"name": "Ada", "tags": ["x1", -2.5e3, null]}', "a  b\n    c\td", "naïve 東京 🙂", "</tag>\\n'")
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
        self._library = make_tokenizer(pieces, special, stop, Writer(tokenizer))
        self._compiled: OrderedDict[str, Any] = OrderedDict()
        self._lock = Lock()

    def matcher(self, grammar: Grammar) -> Any:
        """A matcher of llguidance at the beginning of the grammar; compiled grammars are kept.

        Raises:
            SettingError: the grammar is wrong, or too large.
        """
        with self._lock:
            matcher = self._compiled.get(grammar.lark)
        if matcher is None:
            matcher = make_matcher(self._library, grammar.lark, grammar.kind)
        with self._lock:
            self._compiled[grammar.lark] = matcher
            self._compiled.move_to_end(grammar.lark)
            while len(self._compiled) > KEPT_GRAMMARS:
                self._compiled.popitem(last=False)
        return matcher.deep_copy()


class Writer:
    """How a tokenizer writes bytes that are not at the beginning of a text. Holds the tokenizer weakly.

    llguidance calls it to find out which tokens a model would use for text that a grammar prescribes.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = weakref.ref(tokenizer)

    def __call__(self, text: bytes) -> list[int]:
        tokenizer = self._tokenizer()
        written = None if tokenizer is None else write(tokenizer, text.decode(errors="replace"))
        if written is None:
            raise VocabularyError(f"the tokenizer cannot write {text!r}")
        return written


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
        VocabularyError: a probe is spelled otherwise.
    """
    for probe in PROBES:
        if write(tokenizer, probe) is None:
            raise VocabularyError(
                f"the tokenizer writes {probe!r} with tokens of other bytes: structured output needs one whose tokens "
                "are pieces of the text, such as byte-level BPE or SentencePiece"
            )


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

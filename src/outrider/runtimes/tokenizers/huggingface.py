"""A Hugging Face tokenizer behind the Tokenizer protocol."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from functools import cached_property
from typing import Any

from outrider.errors import ModelError
from outrider.runtimes.tokenizers.byte_level import bytes_of_names
from outrider.runtimes.tokenizers.control_names import ControlNames, encode_marked
from outrider.runtimes.tokenizers.fewest_tokens import LongestToken, longest_token
from outrider.text import REPLACEMENT, Speller, Vocabulary, fingerprint_of, piece_of

MOST_TOKENS = 2**24  # every id below the largest one has its place in the vocabulary
SPACE = "\N{LOWER ONE EIGHTH BLOCK}"  # how SentencePiece writes one
BYTE = re.compile("<0x([0-9A-F]{2})>")
CONTINUATION = "##"  # of WordPiece, before a piece that follows no space


class HuggingFaceTokenizer:
    """Wraps a tokenizer of transformers (PreTrainedTokenizerBase), or one that mlx-lm wrapped already."""

    def __init__(self, tokenizer: Any) -> None:
        self.wrapped = tokenizer
        self._room: int | None = None
        self._lengths = Lengths(tokenizer)
        self._control = ControlNames(lambda: _control_names(tokenizer))

    def within(self, room: int) -> HuggingFaceTokenizer:
        """The same tokenizer, which refuses texts that certainly have `room` tokens or more, before it encodes them."""
        limited = copy(self)
        limited._room = room
        return limited

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Raises ModelError where an id is absurd."""
        added = self.wrapped.added_tokens_decoder
        spelled = {token: name for name, token in self.wrapped.get_vocab().items()}
        largest = max(spelled, default=-1)
        if largest >= MOST_TOKENS:
            raise ModelError(
                f"the tokenizer has a token {spelled[largest]!r} with the id {largest}: ids are below {MOST_TOKENS}, "
                "download it again"
            )
        # Others a converter added, because the embedding has more rows than there are tokens.
        named = {token: name for token, name in spelled.items() if name[:4] != "[PAD" or name != f"[PAD{token}]"}
        usual = [token for token in named if token not in added]
        found: list[bytes | None] = [None] * (largest + 1)
        for token, piece in zip(usual, _spelled(self.wrapped, [named[token] for token in usual]), strict=True):
            found[token] = piece
        for token in added:
            if token in named:
                found[token] = named[token].encode()
        return found

    @cached_property
    def special_tokens(self) -> frozenset[int]:
        return frozenset(int(token) for token in (*self.wrapped.added_tokens_decoder, *self.wrapped.all_special_ids))

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint_of(self.vocabulary, self.special_tokens)

    def encode(self, text: str) -> list[int]:
        self._require_room(text)
        return [int(token) for token in self.wrapped.encode(text)]

    def decode(self, tokens: Sequence[int]) -> str:
        return str(self.wrapped.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def speller(self) -> Speller | None:
        return self._spelling

    @cached_property
    def _spelling(self) -> Speller | None:
        """For byte-level tokenizers alone. Each token is decoded once."""
        if list(_kinds(self.wrapped)) != ["ByteLevel"]:
            return None
        known: dict[int, bytes] = {}

        def spell(token: int) -> bytes:
            piece = known.get(token)
            if piece is None:
                text = self.decode([token])
                piece = known[token] = piece_of(token, self) if REPLACEMENT in text else text.encode()
            return piece

        return spell

    @property
    def chat_template(self) -> str | None:
        template = getattr(self.wrapped, "chat_template", None)
        if isinstance(template, dict):  # several, by name
            template = template.get("default")
        return template if isinstance(template, str) and template else None

    def encode_chat(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()
    ) -> list[int] | None:
        if not getattr(self.wrapped, "chat_template", None):
            return None
        text = self.wrapped.apply_chat_template(
            self._control.marked(messages), tools=list(tools) or None, add_generation_prompt=True, tokenize=False
        )
        self._require_room(text)
        return encode_marked(text, self._encode_rendered)

    def _encode_rendered(self, text: str) -> list[int]:
        return [int(token) for token in self.wrapped.encode(text, add_special_tokens=False)]

    def _require_room(self, text: str) -> None:
        # What has fewer characters is encoded soon, and needs no look at the vocabulary.
        if self._room is not None and len(text) >= self._room and self._lengths.longest is not None:
            self._lengths.longest.require_room(text, self._room)


class Lengths:
    """The longest token of a tokenizer, found when it is first asked for."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    @cached_property
    def longest(self) -> LongestToken | None:
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        return None if backend is None else longest_token(backend)


def _control_names(tokenizer: Any) -> Iterator[str]:
    special = set(tokenizer.all_special_ids)
    for token, added in tokenizer.added_tokens_decoder.items():
        if added.special or token in special:
            yield added.content


def _spelled(tokenizer: Any, names: Sequence[str]) -> list[bytes]:
    """The bytes of tokens in the tokenizer's notation; its decoder tells which that is."""
    kinds = set(_kinds(tokenizer))
    if "ByteLevel" in kinds:
        return bytes_of_names(names)
    return [*map(_spell_wordpiece if "WordPiece" in kinds else _spell_sentencepiece, names)]


def _spell_wordpiece(name: str) -> bytes:
    return (name.removeprefix(CONTINUATION) if name.startswith(CONTINUATION) else " " + name).encode()


def _spell_sentencepiece(name: str) -> bytes:
    byte = BYTE.fullmatch(name)
    return bytes.fromhex(byte[1]) if byte else name.replace(SPACE, " ").encode()


def _kinds(tokenizer: Any) -> Iterator[str]:
    """The types of the decoder's steps."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or backend.decoder is None:
        return
    decoder = json.loads(backend.decoder.__getstate__())
    for step in decoder.get("decoders", [decoder]):
        yield step["type"]

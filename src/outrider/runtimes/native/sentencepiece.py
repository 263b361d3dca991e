"""The tokenizer of GGUF files with SentencePiece: the same tokens as llama.cpp's, and the same texts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from outrider.errors import ModelError
from outrider.runtimes.llamacpp.chat_template import NAMED_TOKENS, ChatTemplate
from outrider.runtimes.llamacpp.checks import require_different_tokens
from outrider.runtimes.llamacpp.header import STRING, Entries, Header, numbers
from outrider.runtimes.native.description import Unknown
from outrider.runtimes.native.gguf_tokens import (
    BYTE,
    CONTROL,
    NORMAL,
    SILENT,
    SPECIAL,
    UNUSED,
    GgufTokens,
    read_tokens,
)
from outrider.runtimes.native.library import core
from outrider.runtimes.tokenizers.control_names import ControlNames, encode_marked
from outrider.runtimes.tokenizers.fewest_tokens import LongestToken
from outrider.text import Speller, Vocabulary, fingerprint_of

KIND = b"llama"  # as files call it
SPACE = "\N{LOWER ONE EIGHTH BLOCK}".encode()  # how names of tokens write one
BYTE_NAME = re.compile(b"<0x([0-9A-Fa-f]{2})>")
# After these llama.cpp drops white space, but in files of this name; and not after the second ones.
STRIPPING = re.compile(rb"phi-?3", re.IGNORECASE)
JINA, BERT = re.compile(rb"jina-v2-(de|es|code)"), re.compile(rb"modern-bert", re.IGNORECASE)
STRIPPED, NOT_STRIPPED = b"</s>", (b"<unk>", b"<s>", b"<|endoftext|>")


class SentencePieceTokenizer:
    """Joins characters into tokens by the scores of these, as llama.cpp does.

    Args:
        tokens: of the file.
        scores: of each.
        strips: tokens after which white space is dropped.
        prefix: whether a space goes before the first word.
        begin, end: tokens that go before and after a text; None for none.
        chat_template: in Jinja; None if the file has none.
        named: special tokens by the names that templates know, such as bos_token.
    """

    def __init__(
        self,
        tokens: GgufTokens,
        scores: Sequence[float],
        strips: Sequence[int],
        prefix: bool,
        begin: int | None,
        end: int | None,
        chat_template: str | None,
        named: Mapping[str, int],
    ) -> None:
        self._tokens = tokens
        self._prefix = prefix
        self._begin, self._end = begin, end
        self.chat_template = chat_template
        self._named = named
        self._room: int | None = None
        self._limited: dict[int, SentencePieceTokenizer] = {}
        names = tokens.names
        # A token stands for as many bytes as its name has, at most, unless white space goes with it.
        self._longest = None if strips else LongestToken(max(map(len, names)), in_bytes=True)
        ends = np.cumsum([len(name) for name in names], dtype=np.uint64)
        self._pieces = core().SentencePiece(
            b"".join(names), ends, np.array(scores, np.float32), tokens.special, list(strips), prefix
        )

    def within(self, room: int) -> SentencePieceTokenizer:
        """The same tokenizer, which refuses texts that certainly have `room` tokens or more, before it encodes them."""
        if room not in self._limited:
            self._limited[room] = copy(self)
            self._limited[room]._room = room
        return self._limited[room]

    @cached_property
    def vocabulary(self) -> Vocabulary:
        return [
            None if attributes & UNUSED else _piece(name, attributes)
            for name, attributes in zip(self._tokens.names, self._tokens.attributes, strict=True)
        ]

    @cached_property
    def special_tokens(self) -> frozenset[int]:
        return frozenset(self._tokens.special)

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint_of(self.vocabulary, self.special_tokens)

    def encode(self, text: str) -> list[int]:
        begin = [] if self._begin is None else [self._begin]
        end = [] if self._end is None else [self._end]
        return [*begin, *self._encode(text), *end]

    def decode(self, tokens: Sequence[int]) -> str:
        attributes = self._tokens.attributes
        said = [token for token in tokens if token >= len(attributes) or not attributes[token] & CONTROL]
        begins = bool(said) and said[0] == self._begin
        if begins:
            del said[0]
        if said and said[-1] == self._end:
            del said[-1]
        pieces = [self._spell(token) for token in said]
        if pieces and self._prefix and not begins:
            pieces[0] = pieces[0].removeprefix(b" ")
        return b"".join(pieces).decode(errors="replace")

    def speller(self) -> Speller | None:
        """None where the first word of a text loses its space, or one of its ends its text."""
        around = [token for token in (self._begin, self._end) if token is not None]
        if self._prefix or not all(self._tokens.attributes[token] & CONTROL for token in around):
            return None
        return self._spell

    def _spell(self, token: int) -> bytes:
        silent = token >= len(self.vocabulary) or self._tokens.attributes[token] & SILENT
        return b"" if silent else self.vocabulary[token] or b""

    def encode_chat(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()
    ) -> list[int] | None:
        if self._template is None:
            return None
        return encode_marked(self._template.render(self._control.marked(messages), tools), self._encode)

    @cached_property
    def _template(self) -> ChatTemplate | None:
        if self.chat_template is None:
            return None
        return ChatTemplate(self.chat_template, {use: self._name(token) for use, token in self._named.items()})

    @cached_property
    def _control(self) -> ControlNames:
        attributes = self._tokens.attributes
        return ControlNames(lambda: [self._name(token) for token, bits in enumerate(attributes) if bits & CONTROL])

    def _name(self, token: int) -> str:
        return _piece(self._tokens.names[token], self._tokens.attributes[token]).decode(errors="replace")

    def _encode(self, text: str) -> list[int]:
        if self._room is not None and len(text) >= self._room and self._longest is not None:
            self._longest.require_room(text, self._room)
        found: list[int] = self._pieces.encode(text.encode())
        return found


def _piece(name: bytes, attributes: int) -> bytes:
    """The bytes that a token stands for; of a special one its name."""
    if attributes & SPECIAL:
        return name
    if attributes & NORMAL:
        return name.replace(SPACE, b" ")
    if attributes & BYTE and (byte := BYTE_NAME.fullmatch(name)):
        return bytes.fromhex(byte[1].decode())
    return b""


def of_gguf(header: Header, file: Path) -> SentencePieceTokenizer:
    """The tokenizer of a file whose tokenizer is SentencePiece's.

    Raises:
        ModelError: two tokens have one name, or there are not as many as the model has.
        Unknown: what llama.cpp makes of the file is not known.
    """
    values = header.values
    tokens = read_tokens(header, file)
    if len(set(tokens.names)) != len(tokens.names):
        require_different_tokens(file, header)
    embedding = header.tensors.get("token_embd.weight")
    if embedding is not None and embedding.shape[-1] != len(tokens.names):
        raise ModelError(
            f"model file {file} cannot be opened: its tokenizer has {len(tokens.names)} tokens and its embedding "
            f"{embedding.shape[-1]}; download it again"
        )
    for name, attributes in zip(tokens.names, tokens.attributes, strict=True):
        if attributes & BYTE and not BYTE_NAME.fullmatch(name):
            raise Unknown(f"it has a byte {name!r}")
    template = values.get("tokenizer.chat_template")
    named = {use: values.get(f"tokenizer.ggml.{key}_token_id") for use, key in NAMED_TOKENS.items()}
    return SentencePieceTokenizer(
        tokens,
        _scores(header, file, len(tokens.names)),
        _stripping(header, tokens),
        prefix=bool(values.get("tokenizer.ggml.add_space_prefix", True)),
        begin=_added(header, tokens, "bos", True),
        end=_added(header, tokens, "eos", False),
        chat_template=template.decode(errors="replace") if isinstance(template, bytes) else None,
        named={
            use: token
            for use, token in named.items()
            if isinstance(token, int) and not isinstance(token, bool) and 0 <= token < len(tokens.names)
        },
    )


def _scores(header: Header, file: Path, count: int) -> Sequence[float]:
    entries = header.values.get("tokenizer.ggml.scores")
    if entries is None:
        return [0.0] * count
    if not isinstance(entries, Entries) or entries.kind == STRING or entries.count != count:
        raise Unknown("its scores are not one for each token")
    found: list[float] = numbers(file, entries)
    if any(score != score for score in found):
        raise Unknown("a score of its tokens is no number")
    return found


def _stripping(header: Header, tokens: GgufTokens) -> list[int]:
    """The tokens after which white space is dropped: in files of Phi-3, whose name alone tells it."""
    name, split = (header.values.get(key) for key in ("general.name", "tokenizer.ggml.pre"))
    if (isinstance(split, bytes) and JINA.search(split)) or (isinstance(name, bytes) and BERT.search(name)):
        raise Unknown("its name or its splitting is that of an encoder")  # space before a mask is dropped there
    if not isinstance(name, bytes) or not STRIPPING.search(name):
        return []
    by_name = {name: token for token, name in enumerate(tokens.names)}
    if not {STRIPPED, *NOT_STRIPPED} <= by_name.keys():
        raise Unknown("it is called Phi-3, and lacks a token that Phi-3 has")
    return sorted({*tokens.special, by_name[STRIPPED]} - {by_name[name] for name in NOT_STRIPPED})


def _added(header: Header, tokens: GgufTokens, use: str, default: bool) -> int | None:
    """The token that goes before or after a text; None where none does."""
    if not header.values.get(f"tokenizer.ggml.add_{use}_token", default):
        return None
    if use not in tokens.named:
        raise Unknown(f"it adds its {use} token, and has none")
    return tokens.named[use]

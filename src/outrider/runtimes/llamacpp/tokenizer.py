"""The tokenizer of a GGUF file, run by llama.cpp, and the file's chat template."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from copy import copy
from functools import cached_property
from typing import Any

import llama_cpp

from outrider.runtimes.llamacpp.chat_template import ChatTemplate
from outrider.runtimes.tokenizers.control_names import ControlNames, encode_marked
from outrider.runtimes.tokenizers.fewest_tokens import LongestToken
from outrider.text import Vocabulary, fingerprint_of

UNUSED = llama_cpp.LLAMA_TOKEN_ATTR_UNUSED
SPECIAL = (
    llama_cpp.LLAMA_TOKEN_ATTR_CONTROL | llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED | llama_cpp.LLAMA_TOKEN_ATTR_UNKNOWN
)
STRIPS = llama_cpp.LLAMA_TOKEN_ATTR_LSTRIP | llama_cpp.LLAMA_TOKEN_ATTR_RSTRIP
LONGEST_PIECE = 64  # bytes of a first buffer; longer pieces get a second try


class LlamaTokenizer:
    """llama.cpp's own tokenizer.

    Args:
        vocabulary: llama.cpp's pointer; valid while `owner` lives.
        owner: the holder of the model.
        chat_template: in Jinja; None if the file has none.
        named: special tokens by the names that templates know, such as bos_token.
    """

    def __init__(self, vocabulary: int, owner: object, chat_template: str | None, named: Mapping[str, int]) -> None:
        self._vocabulary = vocabulary
        self._named = named
        self._owner = owner
        self.chat_template = chat_template
        self._size = llama_cpp.llama_vocab_n_tokens(vocabulary)
        self._room: int | None = None
        self._limited: dict[int, LlamaTokenizer] = {}

    def within(self, room: int) -> LlamaTokenizer:
        """The same tokenizer, which refuses texts that certainly have `room` tokens or more, before it encodes them."""
        if room not in self._limited:
            self._limited[room] = copy(self)
            self._limited[room]._room = room
        return self._limited[room]

    @cached_property
    def vocabulary(self) -> Vocabulary:
        return [None if self._attributes(token) & UNUSED else self._piece(token) for token in range(self._size)]

    @cached_property
    def special_tokens(self) -> frozenset[int]:
        return frozenset(token for token in range(self._size) if self._attributes(token) & SPECIAL)

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint_of(self.vocabulary, self.special_tokens)

    def encode(self, text: str) -> list[int]:
        return self._encode(text, add_special=True)

    def decode(self, tokens: Sequence[int]) -> str:
        # After a control token llama.cpp would keep the space before the first word.
        said = [token for token in tokens if not llama_cpp.llama_vocab_is_control(self._vocabulary, token)]
        given = (llama_cpp.llama_token * len(said))(*said)
        room = LONGEST_PIECE + 8 * len(said)
        while True:
            text = ctypes.create_string_buffer(room)
            length = llama_cpp.llama_detokenize(self._vocabulary, given, len(said), text, room, True, False)
            if length >= 0:
                return text.raw[:length].decode(errors="replace")
            room = -length

    def encode_chat(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()
    ) -> list[int] | None:
        if self._template is None:
            return None
        text = self._template.render(self._control.marked(messages), tools)
        return encode_marked(text, lambda piece: self._encode(piece, add_special=False))

    @cached_property
    def _control(self) -> ControlNames:
        return ControlNames(lambda: [self._piece(token).decode(errors="replace") for token in self._control_tokens()])

    def _control_tokens(self) -> list[int]:
        return [token for token in range(self._size) if self._attributes(token) & llama_cpp.LLAMA_TOKEN_ATTR_CONTROL]

    @cached_property
    def _template(self) -> ChatTemplate | None:
        if self.chat_template is None:
            return None
        named = {name: self._piece(token).decode(errors="replace") for name, token in self._named.items()}
        return ChatTemplate(self.chat_template, named)

    @cached_property
    def _longest(self) -> LongestToken | None:
        """None where a token may stand for any length of text: an unknown word, or spaces beside its own name."""
        pieces = {piece for piece in self.vocabulary if piece}
        strips = any(self._attributes(token) & STRIPS for token in self.special_tokens)
        if llama_cpp.llama_vocab_type(self._vocabulary) != llama_cpp.LLAMA_VOCAB_TYPE_BPE or strips:
            return None
        dropped = bytes(byte for byte in range(256) if bytes([byte]) not in pieces)
        return LongestToken(max(map(len, pieces)), in_bytes=True, dropped=dropped)

    def _encode(self, text: str, add_special: bool) -> list[int]:
        # What has fewer characters is encoded soon, and needs no look at the vocabulary.
        if self._room is not None and len(text) >= self._room and self._longest is not None:
            self._longest.require_room(text, self._room)
        data = text.encode()
        room = len(data) + 8
        while True:
            tokens = (llama_cpp.llama_token * room)()
            # Names of special tokens in the text become special tokens, as in transformers.
            count = llama_cpp.llama_tokenize(self._vocabulary, data, len(data), tokens, room, add_special, True)
            if count >= 0:
                return list(tokens[:count])
            room = -count

    def _attributes(self, token: int) -> int:
        return int(llama_cpp.llama_vocab_get_attr(self._vocabulary, token))

    def _piece(self, token: int) -> bytes:
        room = LONGEST_PIECE
        while True:
            piece = ctypes.create_string_buffer(room)
            length = llama_cpp.llama_token_to_piece(self._vocabulary, token, piece, room, 0, True)
            if length >= 0:
                return piece.raw[:length]
            room = -length

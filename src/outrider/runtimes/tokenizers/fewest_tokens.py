"""How many tokens a text has at the least, found without encoding it: a text of 20 MB takes a minute to encode.

Only tokenizers that lose nothing have such a bound: each of their tokens stands for a stretch of the text, at most as
long as the longest token. Others may make one token of any length (an unknown word, spaces that are stripped).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from outrider.errors import TooLongError
from outrider.runtimes.tokenizers.byte_level import byte_alphabet

KEEP_ALL = {"ByteLevel", "Metaspace", "Digits", "Split", "Sequence"}  # pre-tokenizers, which only split
SPACES = {"Prepend", "Replace", "Sequence"}  # normalizers of SentencePiece, which write spaces as ▁
COMPOSES = "NFC"
SHRINKS = 9  # NFC: at most 3 times fewer bytes by composing characters, 3 times by shorter names for one character
SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
BYTE_PIECES = [f"<0x{byte:02X}>" for byte in range(256)]


@dataclass(frozen=True, slots=True)
class LongestToken:
    """What a single token may stand for at the most.

    Attributes:
        length: in bytes or characters.
        in_bytes: which of them.
        dropped: bytes that have no token, and are left out of a text.
        composes: text that is not ASCII may become shorter before it is cut into tokens.
    """

    length: int
    in_bytes: bool
    dropped: bytes = b""
    composes: bool = False

    def fewest(self, text: str) -> int:
        """A lower bound of the tokens of a text."""
        length = len(text.encode().translate(None, self.dropped)) if self.in_bytes else len(text)
        shrinks = SHRINKS if self.composes and not text.isascii() else 1
        return -(-length // (self.length * shrinks))

    def require_room(self, text: str, room: int) -> None:
        """Raises TooLongError where the text certainly has `room` tokens or more."""
        least = self.fewest(text)
        if least >= room:
            raise TooLongError(
                f"the prompt has at least {least} tokens and the model's context holds {room}: "
                f"shorten it to {room - 1} or less"
            )


def longest_token(backend: Any) -> LongestToken | None:
    """That of a tokenizer of the tokenizers library; None where a token may stand for any length of text.

    Args:
        backend: tokenizers.Tokenizer.
    """
    tokenizer = json.loads(backend.to_str())
    model, added = tokenizer["model"], tokenizer["added_tokens"]
    if model.get("type") != "BPE" or any(model.get(key) for key in ("continuing_subword_prefix", "end_of_word_suffix")):
        return None
    if tokenizer["truncation"] is not None or any(token["lstrip"] or token["rstrip"] for token in added):
        return None
    splits = list(_steps(tokenizer["pre_tokenizer"], "pretokenizers"))
    if any(step["type"] not in KEEP_ALL or step.get("behavior") == "Removed" for step in splits):
        return None
    normalizers = list(_steps(tokenizer["normalizer"], "normalizers"))
    names = [*model["vocab"], *(token["content"] for token in added)]
    if any(step["type"] == "ByteLevel" for step in splits):
        if any(step["type"] not in (COMPOSES, "Sequence") for step in normalizers):
            return None
        longest = max(len(name.encode()) for name in names)
        return LongestToken(longest, in_bytes=True, dropped=_dropped(names), composes=bool(normalizers))
    if not model.get("byte_fallback") or not set(BYTE_PIECES) <= set(model["vocab"]):
        return None
    if any(not _writes_spaces(step) for step in normalizers):
        return None
    return LongestToken(max(len(name) for name in names), in_bytes=False)


def _steps(step: Mapping[str, Any] | None, parts: str) -> Iterator[Mapping[str, Any]]:
    """A step and all within it."""
    if step is not None:
        yield step
        for part in step.get(parts, ()):
            yield from _steps(part, parts)


def _dropped(names: list[str]) -> bytes:
    """The bytes that have no token of their own: they are left out without a word."""
    known = set(names)
    return bytes(byte for name, (byte,) in byte_alphabet().items() if name not in known)


def _writes_spaces(step: Mapping[str, Any]) -> bool:
    if step["type"] == "Replace":
        return (step["pattern"], step["content"]) == ({"String": " "}, SPACE)
    return step["type"] in SPACES

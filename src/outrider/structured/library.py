"""The one door to the llguidance library: imported when a grammar is used, never before."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from outrider.errors import ModelError, SettingError, first_line

Encode = Callable[[bytes], list[int]]
INSTALL = "structured output needs llguidance: pip install 'outrider[structured]'"


def library() -> Any:
    """The module.

    Raises:
        ModelError: it is not installed.
    """
    try:
        import llguidance
    except ImportError as error:
        raise ModelError(INSTALL) from error
    return llguidance


def regex_in_lark(pattern: str) -> str:
    """A regular expression as it stands between slashes in Lark syntax."""
    return str(library().regex_to_lark(pattern, "dws"))


def gbnf_in_lark(text: str) -> str:
    """A grammar of llama.cpp in Lark syntax.

    Raises:
        SettingError: it cannot be read.
    """
    library()
    from llguidance.gbnf_to_lark import gbnf_to_lark

    try:
        return str(gbnf_to_lark(text))
    except Exception as error:  # its own errors, and those of Python on what it does not expect
        raise SettingError(f"the grammar cannot be read ({first_line(error)}): write it in GBNF or Lark") from error


@dataclass(frozen=True, slots=True)
class Source:
    """A tokenizer, by the names under which llguidance looks for it."""

    eos_token_id: int
    bos_token_id: None
    tokens: Sequence[bytes]
    special_token_ids: Sequence[int]
    encode: Encode

    def __call__(self, text: bytes) -> list[int]:
        return self.encode(text)


def make_tokenizer(pieces: Sequence[bytes], special: Sequence[int], stop: Sequence[int], encode: Encode) -> Any:
    """llguidance's own tokenizer.

    Args:
        pieces: the bytes of each token id; empty ones are never allowed.
        special: ids that no bytes of a text spell.
        stop: ids that end a text, at least one.
        encode: from bytes in UTF-8 to token ids.
    """

    llguidance = library()
    source = Source(stop[0], None, pieces, special, encode)
    return llguidance.LLTokenizer(
        llguidance.TokenizerWrapper(source), n_vocab=len(pieces), eos_token=list(stop), slices=None
    )


def make_matcher(tokenizer: Any, lark: str, kind: str) -> Any:
    """A matcher at the beginning of a grammar.

    Raises:
        SettingError: the grammar is wrong, or too large.
    """
    matcher = library().LLMatcher(tokenizer, lark, log_level=0)
    if matcher.is_error():
        raise SettingError(f"the {kind} cannot be followed: {_reason(matcher.get_error())}")
    for warning in matcher.get_grammar_warnings():
        warnings.warn(f"the {kind}: {first_line(ValueError(warning))}", RuntimeWarning, stacklevel=2)
    return matcher


def _reason(message: str) -> str:
    """The first line of what llguidance says, without the place, which is one in text that the user did not write."""
    line = first_line(ValueError(message))
    head, _, rest = line.partition("): ")
    return rest if head.startswith("at ") and rest else line

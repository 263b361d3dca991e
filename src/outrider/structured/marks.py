"""Tags that are tokens of their own in some vocabularies, and text in others."""

from __future__ import annotations

from collections.abc import Iterable

from outrider.structured.grammars import literal
from outrider.text import Tokenizer


def token_of(tag: str, tokenizer: Tokenizer) -> int | None:
    """The special token by this name; None where there is none, so that it is written as text."""
    name = tag.encode()
    vocabulary = tokenizer.vocabulary
    return next((token for token in sorted(tokenizer.special_tokens) if vocabulary[token] == name), None)


def mark(tag: str, tokenizer: Tokenizer) -> str:
    """The tag in Lark syntax."""
    token = token_of(tag, tokenizer)
    return literal(tag) if token is None else f"<[{token}]>"


def names_of(tags: Iterable[str], tokenizer: Tokenizer) -> dict[int, str]:
    """The tags that are tokens of their own, by these."""
    found = {token_of(tag, tokenizer): tag for tag in tags}
    return {token: tag for token, tag in found.items() if token is not None}

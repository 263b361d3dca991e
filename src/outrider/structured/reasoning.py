"""Reasoning apart from the answer: <think> ... </think>, by whoever it is opened."""

from __future__ import annotations

from collections.abc import Sequence

from outrider.structured.answers import Content, Piece, Reasoning, TagScanner, Trimmed
from outrider.structured.grammars import Grammar
from outrider.structured.marks import mark
from outrider.text import Tokenizer

PAIRS = {"<think>": "</think>", "[THINK]": "[/THINK]"}
LAST_TOKENS = 8  # of a prompt, which are looked at


def reasons(chat_template: str | None) -> bool:
    """Whether a model may think before it answers: its chat template knows the tags."""
    return any(tag in (chat_template or "") for tag in PAIRS)


def opened_tag(prompt: Sequence[int], tokenizer: Tokenizer) -> str | None:
    """The tag that a prompt ends with, so that the output begins with reasoning; None where it ends otherwise."""
    vocabulary = tokenizer.vocabulary
    pieces = [vocabulary[token] or b"" for token in prompt[-LAST_TOKENS:] if token < len(vocabulary)]
    end = b"".join(pieces).decode(errors="replace").rstrip()
    return next((tag for tag in PAIRS if end.endswith(tag)), None)


class ReasoningSplitter:
    """Takes reasoning apart from what follows. Only a tag at the very beginning of an answer opens it.

    Args:
        opened: the tag that the prompt ends with, if it ends with one.
    """

    def __init__(self, opened: str | None = None) -> None:
        self._may_open = () if opened else tuple(PAIRS)
        self._close = TagScanner([PAIRS[opened]]) if opened else None  # while the model thinks
        self._thought = Trimmed()
        self._beginning: str | None = ""  # of the answer, as long as it may be a tag or space to leave out

    @property
    def thinking(self) -> bool:
        """Whether a tag is open."""
        return self._close is not None

    def push(self, text: str) -> list[Piece]:
        if self._close is None:
            return self._answer(text)
        before, tag, behind = self._close.push(text)
        thought = Reasoning(self._thought.push(before))
        if tag is None:
            return [thought]
        self._close, self._may_open = None, ()
        return [thought, *self._answer(behind)]

    def flush(self) -> list[Piece]:
        """What was held back; at the end."""
        if self._close is not None:
            return [Reasoning(self._thought.push(self._close.flush()))]
        held, self._beginning = self._beginning, None
        return [Content(held or "")] if self._may_open else []

    def _answer(self, text: str) -> list[Piece]:
        if self._beginning is None:
            return [Content(text)]
        text = self._beginning + text
        bare = text.lstrip()
        tag = next((tag for tag in self._may_open if bare.startswith(tag)), None)
        if tag is not None:
            self._close, self._beginning = TagScanner([PAIRS[tag]]), ""
            return self.push(bare.removeprefix(tag))
        if not bare or any(tag.startswith(bare) for tag in self._may_open):
            self._beginning = text
            return []
        self._beginning = None
        return [Content(text if self._may_open else bare)]


def after_reasoning(grammar: Grammar, tokenizer: Tokenizer, opened: str | None) -> Grammar:
    """The grammar for an answer that may be thought over first.

    Args:
        tokenizer: of the model: its tags may be tokens of their own.
        opened: the tag that the prompt ends with; None lets the model open one, or answer at once.
    """
    close = mark(PAIRS[opened or "<think>"], tokenizer)
    thought = "thought: THOUGHT " + close if close.startswith("<[") else f"thought[lazy]: /(.|\\n)*/ {close}"
    first = "thought" if opened else f"({mark('<think>', tokenizer)} thought)?"
    lark = f"start: {first} SPACE @answer\n{thought}\nTHOUGHT: /(.|\\n)*/\nSPACE: /\\s*/\n"
    return grammar.beginning_with(lark)

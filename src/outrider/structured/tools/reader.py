"""An answer read as it comes: content, reasoning and tool calls apart from each other."""

from __future__ import annotations

from collections.abc import Collection

from outrider.structured.answers import Content, Piece, joined
from outrider.structured.marks import names_of
from outrider.structured.reasoning import PAIRS, ReasoningSplitter
from outrider.structured.tools.calls import CallReader
from outrider.structured.tools.formats import ToolFormat
from outrider.text import Tokenizer


class AnswerReader:
    """Reads an answer token by token. A tag that has not come whole is held back.

    Args:
        tokenizer: of the model: tags may be special tokens, whose text is not shown.
        format: how it writes tool calls; None looks for none.
        opened: the tag of reasoning that the prompt ends with (`opened_tag`).
        reasoning: False takes no reasoning apart.
        names: of the tools. Where a format has no tag before a call, JSON without such a name is content.

    Attributes:
        reasoning_tokens: of those that were pushed, how many the model spent on thinking, tags included. The others
            are the answer.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        format: ToolFormat | None = None,
        *,
        opened: str | None = None,
        reasoning: bool = True,
        names: Collection[str] = (),
    ) -> None:
        tags = [*(format.tags if format else ()), *((*PAIRS, *PAIRS.values()) if reasoning else ())]
        self._names = names_of(tags, tokenizer)
        self._splitter = ReasoningSplitter(opened) if reasoning else None
        self._calls = CallReader(format, names) if format else None
        self._pushed = 0
        self.reasoning_tokens = 0

    def push(self, token: int, text: str) -> list[Piece]:
        """The pieces that a token completes.

        Args:
            text: what the token adds to the answer's text; empty for most special tokens.
        """
        name = self._names.get(token)
        thought = self._thinking
        pieces = self.push_text(text if name is None or name in text else text + name)
        self._pushed += 1
        if thought or self._thinking:  # also the tokens of a tag that now is whole, and those before it
            self.reasoning_tokens = self._pushed
        return pieces

    def push_text(self, text: str) -> list[Piece]:
        """The same for text alone, of a model whose tags are text."""
        parts: list[Piece] = [Content(text)] if self._splitter is None else self._splitter.push(text)
        return joined(piece for part in parts for piece in self._read(part))

    def finish(self) -> list[Piece]:
        """What was held back; called once, at the end."""
        parts = [] if self._splitter is None else self._splitter.flush()
        pieces = [piece for part in parts for piece in self._read(part)]
        return joined([*pieces, *(() if self._calls is None else self._calls.finish())])

    @property
    def _thinking(self) -> bool:
        return self._splitter is not None and self._splitter.thinking

    def _read(self, part: Piece) -> list[Piece]:
        return list(self._calls.push(part.text)) if self._calls and isinstance(part, Content) else [part]

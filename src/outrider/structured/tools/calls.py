"""Tool calls found in text that comes in pieces."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator

from outrider.structured.answers import CallBegins, Content, Piece, TagScanner, Trimmed
from outrider.structured.tools.call import Call, JsonCall, MarkedCall
from outrider.structured.tools.formats import ToolFormat

BETWEEN = " \t\r\n,;[]"  # what may stand between calls


class CallReader:
    """Takes tool calls apart from content. What looks like a call and is none is content, as it was written.

    Args:
        format: how calls are written.
        names: of the tools; JSON that names no tool is content where a call needs no tag. Empty is any.
    """

    def __init__(self, format: ToolFormat, names: Collection[str] = ()) -> None:
        self._format = format
        self._tools = frozenset(names)
        self._tags = [] if format.opens is None else [format.opens]
        self._content = Trimmed()
        self._scanner = TagScanner(self._tags)
        self._may_begin = format.bare  # nothing has come yet, and a call needs no tag
        self._tagged = self._among_calls = False
        self._unread = ""  # among calls: what may be the beginning of a tag
        self._passed = ""  # read since the last call or the text before it: shown again where no call follows
        self._call: Call | None = None
        self._count = 0

    def push(self, text: str) -> Iterator[Piece]:
        while text:
            if self._call is not None:
                text = yield from self._read_call(self._call, text)
            elif self._among_calls:
                text = yield from self._read_between(self._unread + text)
            else:
                text = yield from self._read_content(text)

    def finish(self) -> Iterator[Piece]:
        """What was held back; at the end. A call that was cut off stays as far as it came."""
        if self._call is not None:
            if not self._call.begun:
                yield self._shown(self._passed + self._call.text)
        elif self._among_calls:
            rest = self._passed + self._unread
            yield self._shown(rest if rest.strip(BETWEEN) else "")
        else:
            yield self._shown(self._scanner.flush())

    def _read_content(self, text: str) -> Generator[Piece, None, str]:
        """Content up to the first call; returns what stands behind its tag."""
        if self._may_begin and text.strip():
            self._may_begin = False
            if text.lstrip().startswith("{"):
                self._among_calls = True
                return text.lstrip()
        before, tag, behind = self._scanner.push(text)
        yield self._shown(before)
        if tag is not None:
            self._among_calls = self._tagged = True
            self._may_begin = False
            self._passed = tag
        return behind

    def _read_between(self, text: str) -> Generator[Piece, None, str]:
        """Tags and what separates calls; returns what stands behind them."""
        self._unread = ""
        while text:
            tag = next((tag for tag in self._format.tags if text.startswith(tag)), None)
            if tag is None and any(tag.startswith(text) for tag in self._format.tags):
                self._unread = text
                return ""
            skipped = text[0] if tag is None else tag
            if tag is None and skipped not in BETWEEN:
                break
            self._passed += skipped
            text = text[len(skipped) :]
            if tag is not None and tag == self._format.closes:
                yield from self._leave("")
                return text
        if text and self._begins_a_call(text[0]):
            self._call = JsonCall(self._count) if text[0] == "{" else MarkedCall(self._count)
        elif text:
            yield from self._leave(text)
            return ""
        return text

    def _read_call(self, call: Call, text: str) -> Generator[Piece, None, str]:
        """A call up to its end; returns what stands behind it."""
        for place, character in enumerate(text, start=1):
            for piece in call.push(character):
                if isinstance(piece, CallBegins):
                    if self._is_no_tool(piece.name):
                        yield from self._give_up(call)
                        return text[place:]
                    self._count += 1
                    self._passed = ""
                yield piece
            if call.wrong and not self._tagged:
                yield from self._give_up(call)
                return text[place:]
            if call.done:
                self._call = None
                if not call.begun:
                    yield from self._give_up(call)
                return text[place:]
        return ""

    def _begins_a_call(self, character: str) -> bool:
        return character == "{" or (self._format.marked is not None and (character.isalnum() or character == "_"))

    def _is_no_tool(self, name: str) -> bool:
        """Where no tag says that it is a call, only the name of a tool does."""
        return not self._tagged and bool(self._tools) and name not in self._tools

    def _give_up(self, call: Call) -> Iterator[Piece]:
        """What was read is no call: it is content."""
        self._call = None
        yield from self._leave(call.text)

    def _leave(self, text: str) -> Iterator[Piece]:
        """No more calls here. `text`, and what stands before it since the last call, is content."""
        shown = self._passed + text
        self._passed, self._among_calls = "", False
        if shown.strip(BETWEEN) and not self._is_closing(shown):
            yield self._shown(shown)

    def _is_closing(self, text: str) -> bool:
        """Whether it is nothing but the tag behind a call."""
        return self._format.closes is not None and text.strip(BETWEEN) == self._format.closes

    def _shown(self, text: str) -> Content:
        return Content(self._content.push(text))

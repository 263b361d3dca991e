"""How emitted tokens and what came of a run are shown."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from rich.color import ColorSystem
from rich.console import Console
from rich.style import Style

from outrider.cli.options.output import Colour
from outrider.cli.wrapping import Span, lines_of_standard_output
from outrider.engine.events import Origin, TokenEvent
from outrider.engine.statistics import Statistics
from outrider.pictures import pictures

STYLES = {
    Origin.DRAFTED: "green",
    Origin.CORRECTION: "bold yellow",
    Origin.BONUS: "cyan",
    Origin.PLAIN: "default",
}
MEANINGS = {
    Origin.DRAFTED: "drafted and accepted",
    Origin.CORRECTION: "correction",
    Origin.BONUS: "bonus",
    Origin.PLAIN: "plain",
}

GAP = "   "  # between two entries of the legend

COLOUR_SYSTEMS = {
    "standard": ColorSystem.STANDARD,
    "256": ColorSystem.EIGHT_BIT,
    "truecolor": ColorSystem.TRUECOLOR,
    "windows": ColorSystem.STANDARD,
}


class PlainWriter:
    """The text alone, as it comes; on a terminal its control characters as pictures, and lines between words."""

    def __init__(self) -> None:
        self._shown = _shown_on_standard_output()
        self._lines = lines_of_standard_output()

    def write(self, event: TokenEvent) -> None:
        self._put(self._lines.push(self._shown(event.text), event.origin))

    def close(self) -> None:
        self._put([*self._lines.finish(), ("\n", Origin.PLAIN)])

    def _put(self, spans: Iterable[Span]) -> None:
        for text, _ in spans:
            sys.stdout.write(text)
        sys.stdout.flush()


class OriginWriter:
    """Text coloured by where each token came from; drafted runs in brackets where there are no colours."""

    def __init__(self, colour: Colour) -> None:
        forced = {"auto": None, "always": True, "never": False}[colour]
        console = Console(force_terminal=forced, no_color=colour == "never" or None)
        system = None if console.no_color else console.color_system
        # rich finds no colours under TERM=dumb, but always means always.
        self._system = "standard" if system is None and colour == "always" else system
        self._shown = _shown_on_standard_output()
        self._lines = lines_of_standard_output()
        self._in_draft = False
        self._counts: Counter[Origin] = Counter()

    def write(self, event: TokenEvent) -> None:
        self._counts[event.origin] += 1
        text = self._shown(event.text)
        if text and self._system is None:
            text = self._mark(event.origin is Origin.DRAFTED) + text
        self._put(self._lines.push(text, event.origin))
        sys.stdout.flush()

    def close(self) -> None:
        mark = self._mark(False) if self._system is None else ""
        self._put([*self._lines.push(mark, Origin.PLAIN), *self._lines.finish()])
        sys.stdout.write("\n")
        if self._counts:
            sys.stdout.write("\n")
            self._write_legend()
        sys.stdout.flush()

    def _write_legend(self) -> None:
        """How many tokens came from where. An entry that does not fit begins a line: no terminal breaks a word."""
        columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
        column = 0
        for origin, meaning in MEANINGS.items():
            if not (count := self._counts[origin]):
                continue
            entry = self._legend_entry(origin, f"{count} {meaning}")
            if column:
                fits = column + len(GAP) + len(entry) <= columns
                sys.stdout.write(GAP if fits else "\n")
                column = column + len(GAP) if fits else 0
            column += len(entry)
            self._put([(entry, origin)])
        sys.stdout.write("\n")

    def _legend_entry(self, origin: Origin, words: str) -> str:
        if self._system is not None:
            return f"■ {words}"
        return f"[{words}]" if origin is Origin.DRAFTED else words

    def _put(self, spans: Iterable[Span]) -> None:
        for text, origin in spans:
            sys.stdout.write(text if self._system is None else self._coloured(text, origin))

    def _coloured(self, text: str, origin: Origin) -> str:
        # Not Console.print, which would lay the text out: tabs and line ends are the model's.
        style, system = Style.parse(STYLES[origin]), COLOUR_SYSTEMS[self._system or "standard"]
        found = ""
        for line in text.splitlines(keepends=True):
            bare = line.rstrip("\r\n")
            found += style.render(bare, color_system=system) + line[len(bare) :]
        return found

    def _mark(self, drafted: bool) -> str:
        """The bracket that begins or ends a drafted run; empty where neither does."""
        if drafted == self._in_draft:
            return ""
        self._in_draft = drafted
        return "[" if drafted else "]"


def _shown_on_standard_output() -> Callable[[str], str]:
    """What becomes of a model's text: files and pipes get it as it is."""
    return pictures if sys.stdout.isatty() else str


def summary(stats: Statistics, seed: int | None) -> str:
    """One line about a run."""
    parts = [f"{stats.emitted} {'token' if stats.emitted == 1 else 'tokens'}, {stats.tokens_per_second:.1f}/s"]
    if stats.drafted:
        parts.append(
            f"{stats.rounds} rounds of {stats.mean_tokens_per_round:.2f} tokens, "
            f"{stats.acceptance_rate:.0%} of {stats.drafted} drafted accepted"
        )
    total = stats.seconds_decoding or 1.0
    shares = (
        ("drafting", stats.seconds_drafting),
        ("verification", stats.seconds_verification),
        ("elsewhere", stats.seconds_elsewhere),
    )
    parts.append("time: " + ", ".join(f"{name} {seconds / total:.0%}" for name, seconds in shares if seconds > 0))
    parts.append(f"prompt {stats.seconds_prefill:.1f} s")
    if seed is not None:
        parts.append(f"seed {seed}")
    return " · ".join(parts)


def print_json(value: dict[str, Any]) -> None:
    """One object on one line. JSON knows no infinity and no NaN: they become null."""
    print(json.dumps(_finite(value)))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

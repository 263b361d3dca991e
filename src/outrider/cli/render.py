"""How emitted tokens and what came of a run are shown."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.text import Text

from outrider.engine.request import Origin, TokenEvent
from outrider.engine.statistics import Statistics

STYLES = {
    Origin.DRAFTED: "green",
    Origin.CORRECTION: "bold yellow",
    Origin.BONUS: "cyan",
    Origin.PLAIN: "default",
}
MEANINGS = {
    Origin.DRAFTED: "drafted and accepted",
    Origin.CORRECTION: "correction after a rejection",
    Origin.BONUS: "bonus after full acceptance",
    Origin.PLAIN: "plain, nothing drafted",
}


class PlainWriter:
    """The text alone, as it comes."""

    def write(self, event: TokenEvent) -> None:
        sys.stdout.write(event.text)
        sys.stdout.flush()

    def close(self) -> None:
        sys.stdout.write("\n")
        sys.stdout.flush()


class OriginWriter:
    """Text coloured by where each token came from; drafted runs in brackets where there are no colours."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._coloured = self._console.color_system is not None
        self._in_draft = False
        self._counts: dict[Origin, int] = {}

    def write(self, event: TokenEvent) -> None:
        self._counts[event.origin] = self._counts.get(event.origin, 0) + 1
        if self._coloured:
            self._console.print(Text(event.text, style=STYLES[event.origin]), end="")
        else:
            self._mark(event.origin is Origin.DRAFTED)
            sys.stdout.write(event.text)
        sys.stdout.flush()

    def close(self) -> None:
        if not self._coloured:
            self._mark(False)
        legend = Text("\n\n")
        for origin, meaning in MEANINGS.items():
            if count := self._counts.get(origin):
                legend.append(f"■ {count} {meaning}   ", style=STYLES[origin])
        self._console.print(legend)

    def _mark(self, drafted: bool) -> None:
        if drafted != self._in_draft:
            sys.stdout.write("[" if drafted else "]")
            self._in_draft = drafted


def summary(stats: Statistics, seed: int | None) -> str:
    """One line about a run."""
    parts = [f"{stats.emitted} tokens, {stats.tokens_per_second:.1f}/s"]
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

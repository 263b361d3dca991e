"""What `outrider check` shows for people."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from outrider.check.against_plain import ENDED, Outcome
from outrider.cli.terminal import SafeConsole
from outrider.runtimes.base import Model

SNIPPET = 24  # characters of a prompt, in the table


def show(outcomes: Sequence[Outcome], target: Model, texts: Sequence[str], margin: float, dtype: str) -> None:
    """A table of the systems, one of the places where they differ, and the verdict."""
    console = SafeConsole(highlight=False)
    console.print(_systems(outcomes))
    console.print()
    if any(outcome.difference is not None for outcome in outcomes):
        console.print(_differences(outcomes, target, texts))
        console.print()
    verdict = _verdict(outcomes, len(texts), margin, dtype)
    SafeConsole(highlight=False, soft_wrap=not sys.stdout.isatty()).print(verdict)


def _systems(outcomes: Sequence[Outcome]) -> Table:
    table = _table(f"against {outcomes[0].reference}")
    for heading in ("prompts", "same", "rounding", "different", "tokens", "drafted", "accepted"):
        table.add_column(heading, justify="right")
    for name in dict.fromkeys(outcome.other for outcome in outcomes):
        mine = [outcome for outcome in outcomes if outcome.other == name]
        same = sum(outcome.difference is None for outcome in mine)
        failed = sum(not outcome.passed for outcome in mine)
        drafted = sum(outcome.drafted for outcome in mine)
        table.add_row(
            name,
            str(len(mine)),
            f"[green]{same}[/green]" if same == len(mine) else str(same),
            str(len(mine) - same - failed),
            f"[red]{failed}[/red]" if failed else "0",
            str(sum(outcome.tokens for outcome in mine)),
            str(drafted) if drafted else "",
            str(sum(outcome.accepted for outcome in mine)) if drafted else "",
        )
    return table


def _differences(outcomes: Sequence[Outcome], target: Model, texts: Sequence[str]) -> Table:
    table = _table("where they differ", "system", "token", outcomes[0].reference, "instead", "margin", "")
    for outcome in outcomes:
        if (difference := outcome.difference) is not None:
            table.add_row(
                f"{outcome.prompt + 1} {escape(_snippet(texts[outcome.prompt]))}",
                outcome.other,
                str(difference.place + 1),
                escape(_say(target, difference.reference_token)),
                escape(_say(target, difference.other_token)),
                f"{difference.margin:.1e}",
                "[green]rounding[/green]" if outcome.passed else "[red]different[/red]",
            )
    return table


def _table(*headings: str) -> Table:
    return Table(*headings, box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))


def _verdict(outcomes: Sequence[Outcome], prompts: int, margin: float, dtype: str) -> str:
    if not all(outcome.passed for outcome in outcomes):
        hint = "" if dtype == "float32" else f"; {dtype} rounds more than float32, --margin says how much is allowed"
        return f"[red]failed[/red]: tokens differ by {margin:g} or more in their logits{hint}"
    if not any(outcome.drafted for outcome in outcomes):
        return (
            f"[yellow]passed[/yellow], but nothing was drafted on these {prompts} prompts: give others, or more tokens"
        )
    return f"[green]passed[/green]: on {prompts} prompts every token is the same, or within {margin:g} in its logit"


def _snippet(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SNIPPET else line[: SNIPPET - 1] + "…"


def _say(target: Model, token: int) -> str:
    if token == ENDED:
        return "(end)"
    text = target.tokenizer.decode([token]) if target.tokenizer is not None else ""
    return repr(text) if text else f"token {token}"  # special tokens have no text

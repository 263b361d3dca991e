"""`python -m benchmarks simulate`: the regret of every policy in every scenario, as a table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.simulation.catalogue import scenarios
from benchmarks.simulation.picture import draw_regrets, title_of
from benchmarks.simulation.regret import Regret, measure_regret
from outrider.cli.options.output import TableOptions
from outrider.cli.terminal import counting_bar, messages
from outrider.trace import require_picture_format

NEAR = 0.05  # a regret up to this is shown in green
RUNS = 3  # their mean is shown, since single runs differ by one or two per cent


def command(
    table: TableOptions,
    seed: Annotated[int, typer.Option("--seed", help="Of the texts and of the noise in times.")] = 0,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw the table: picture.svg or picture.png.")
    ] = None,
) -> None:
    """Compare lookahead policies with the best possible one, in simulated rounds."""
    if plot is not None:
        require_picture_format(plot)
    with counting_bar("simulating") as progress:
        regrets = measure_regret(scenarios(), seed, progress, RUNS)
    if plot is not None:
        draw_regrets(regrets, plot)
        messages().print(f"drawn: {escape(str(plot))}", style="dim")
    if table.json:
        print(json.dumps([asdict(regret) for regret in regrets]))
    elif table.markdown:
        print(_markdown(regrets))
    else:
        _show(regrets)


def _cells(regret: Regret) -> list[str]:
    return [title_of(regret), f"{regret.oracle:.0f}", *(f"{value:.1%}" for value in regret.regrets.values())]


def _headings(regrets: Sequence[Regret]) -> list[str]:
    return ["scenario", "oracle, tokens/s", *regrets[0].regrets]


def _show(regrets: Sequence[Regret]) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    for number, heading in enumerate(_headings(regrets)):
        table.add_column(heading, justify="right" if number else "left", no_wrap=not number)
    for regret in regrets:
        cells = _cells(regret)
        for place, value in enumerate(regret.regrets.values(), start=2):
            cells[place] = f"[green]{cells[place]}[/green]" if value <= NEAR else cells[place]
        table.add_row(*cells)
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    console.print(
        f"[dim]regret: the share of the oracle's tokens per second that a policy misses, mean of {RUNS} runs[/dim]"
    )


def _markdown(regrets: Sequence[Regret]) -> str:
    headings = _headings(regrets)
    lines = ["| " + " | ".join(headings) + " |", "|---" + "|---:" * (len(headings) - 1) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(_cells(regret)) + " |" for regret in regrets)])

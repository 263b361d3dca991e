"""`outrider trace`: what happened in a run, as tables or as a picture."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from outrider.cli.options.group import option
from outrider.cli.options.output import OUTPUT, JsonOption
from outrider.cli.render import MEANINGS, STYLES, print_json
from outrider.cli.terminal import SafeConsole, messages
from outrider.engine.statistics import Statistics
from outrider.errors import InputError
from outrider.trace import Summary, Trace, draw, headlines, phases, read_trace, require_picture_format, summarise


def command(
    file: Annotated[Path, typer.Argument(help="The trace, of outrider generate --trace.", show_default=False)],
    output: Annotated[
        Path | None, option("--output -o", "FILE", "Draw it: picture.svg or picture.png. Needs matplotlib.", OUTPUT)
    ] = None,
    json: JsonOption = False,
) -> int:
    """Sum up what happened in a run, round by round, or draw it."""
    if output is not None:
        require_picture_format(output)
    trace = read_trace(file)
    if not len(trace):
        raise InputError(f"the trace {file} holds no rounds: let the run get further, and trace it again")
    if output is not None:
        draw(trace, output)
        messages().print(f"drawn: {output}", style="dim")
    summary = summarise(trace)
    if json:
        named = {"target": trace.target, "drafter": trace.drafter, "rule": trace.rule}
        print_json({**named, **summary.as_dict()})
    elif output is None:
        _show(trace, summary)
    return 0


def _show(trace: Trace, summary: Summary) -> None:
    console = SafeConsole(highlight=False, soft_wrap=not sys.stdout.isatty())
    for line in headlines(trace, summary):
        if line:
            console.print(escape(line), style="bold")
    statistics = summary.statistics
    for table in (_origins(statistics), _phases(statistics), _acceptance(statistics)):
        if table.row_count:
            console.print()
            console.print(table)


def _origins(statistics: Statistics) -> Table:
    table = _table("origin", "tokens", "share")
    for origin, meaning in MEANINGS.items():
        if count := statistics.origins[origin]:
            style = STYLES[origin]
            table.add_row(f"[{style}]{meaning}[/{style}]", str(count), f"{count / statistics.emitted:.1%}")
    return table


def _phases(statistics: Statistics) -> Table:
    table = _table("phase", "seconds", "share")
    seconds = phases(statistics)
    total = sum(seconds.values()) or 1.0
    for name, each in seconds.items():
        table.add_row(name, f"{each:.3f}", f"{each / total:.1%}")
    return table


def _acceptance(statistics: Statistics) -> Table:
    table = _table("position in the draft", "drafts that long", "accepted so far", "share")
    pairs = zip(statistics.drafted_at, statistics.accepted_at, strict=True)
    for position, (drafted, accepted) in enumerate(pairs, start=1):
        table.add_row(str(position), str(drafted), str(accepted), f"{accepted / drafted:.1%}")
    return table


def _table(first: str, *numbers: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(first)
    for name in numbers:
        table.add_column(name, justify="right")
    return table

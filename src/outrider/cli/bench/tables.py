"""Tables of measurements: for people, as Markdown, or as JSON."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.markup import escape
from rich.table import Table

from outrider.cli.options.output import TableOptions
from outrider.cli.terminal import SafeConsole
from outrider.pictures import pictures

WIDTH = 120  # columns, where nobody looks at a terminal
BREAKABLE = re.compile(r"[/-](?=\w\w)")  # places in a heading
GAP = "  "  # between columns


def show(
    records: Sequence[Any],
    headings: Sequence[str],
    cells: Sequence[Sequence[str]],
    remark: str,
    table: TableOptions,
    dim: Sequence[bool] = (),
) -> None:
    """Print measurements.

    Args:
        records: dataclasses, for JSON.
        cells: a line of texts for each record.
        remark: stands below the table.
        dim: which lines are of less interest; empty where none is.
    """
    if table.json:
        print(json.dumps([asdict(record) for record in records]))
    elif table.markdown:
        lines = [headings, ["---"] * len(headings), *cells]
        written = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        print(pictures(written) if sys.stdout.isatty() else written)
        print(f"\n{remark[0].upper()}{remark[1:]}.")
    else:
        _show(headings, cells, remark, dim or [False] * len(cells))


def _show(headings: Sequence[str], cells: Sequence[Sequence[str]], remark: str, dim: Sequence[bool]) -> None:
    console = SafeConsole(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    table = _laid_out(headings, cells, console.width)
    for line, is_dim in zip(cells, dim, strict=True):
        table.add_row(*map(escape, line), style="dim" if is_dim else None)
    console.print(table)
    console.print(f"[dim]{remark}[/dim]")


def _laid_out(headings: Sequence[str], cells: Sequence[Sequence[str]], width: int) -> Table:
    """An empty table whose columns fit: where it is narrow, headings are broken between words, and none is cut."""
    columns = [[heading, *column] for heading, *column in zip(headings, *cells, strict=True)]
    roomy = sum(max(map(len, column)) for column in columns) + len(GAP) * (len(columns) - 1) <= width
    table = Table(box=None, pad_edge=False, padding=(0, len(GAP) if roomy else 1, 0, 0))
    for heading, *column in columns:
        broken = heading if roomy else BREAKABLE.sub("\\g<0>\n", heading)
        table.add_column(broken, min_width=max(map(len, [*broken.split(), *column])))
    return table

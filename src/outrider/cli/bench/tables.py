"""Tables of measurements: for people, as Markdown, or as JSON."""

from __future__ import annotations

import json
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
    table = Table(*headings, box=None)
    for line, is_dim in zip(cells, dim, strict=True):
        table.add_row(*map(escape, line), style="dim" if is_dim else None)
    console.print(table)
    console.print(f"[dim]{remark}[/dim]")

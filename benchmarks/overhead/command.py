"""`python -m benchmarks overhead`: the time of a round without the passes of the models."""

from __future__ import annotations

from typing import Annotated

from benchmarks.overhead.measurement import LOOKAHEAD, VOCABULARY, Overhead, measure_overheads
from outrider.cli.bench import tables
from outrider.cli.options.group import option
from outrider.cli.options.output import TableOptions
from outrider.cli.terminal import counting_bar
from outrider.errors import SettingError

HEADINGS = ("arrays", "sampling", "rows", "ms per round", "of it code")


def command(
    table: TableOptions,
    weights: Annotated[
        int,
        option("--weights", "MB", "What each pass reads, as a real one does: then no cache holds the code of a round."),
    ] = 0,
) -> None:
    """Measure the time of a round without the passes of the models."""
    if weights < 0:
        raise SettingError(f"--weights is {weights}: give megabytes, or 0 for passes that read nothing")
    with counting_bar("measuring") as progress:
        overheads = measure_overheads(weights, progress)
    read = f"passes that read {weights} MB, " if weights else ""
    drafts = f"a vocabulary of {VOCABULARY}, drafts of {LOOKAHEAD}"
    remark = f"{read}{drafts}; the code without the arithmetic over the vocabulary"
    tables.show(overheads, HEADINGS, [_cells(each) for each in overheads], remark, table)


def _cells(each: Overhead) -> tuple[str, ...]:
    return (
        each.library,
        each.sampling,
        str(each.rows),
        f"{each.milliseconds:.2f}",
        f"{each.milliseconds_of_code:.2f}",
    )

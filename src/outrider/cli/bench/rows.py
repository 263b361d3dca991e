"""`outrider bench rows`: several prompts at once against the same prompts one after the other."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated

import typer

from outrider.bench.comparison import question_tokens
from outrider.bench.rows import RowsMeasurement, measure_rows
from outrider.cli.bench import tables
from outrider.cli.bench.questions import QuestionOptions, open_target
from outrider.cli.bench.systems import Named, SystemOptions
from outrider.cli.options.jobs import DEFAULT_ROWS
from outrider.cli.options.models import ModelOptions
from outrider.cli.options.output import TableOptions
from outrider.cli.terminal import counting_bar
from outrider.engine.engine import Engine
from outrider.engine.record import Observer
from outrider.runtimes.base import Model

RATES = ("alone", "together", "speed-up")
HEADINGS = ("system", "rows", "questions", *RATES, *(f"{rate}, with prompts" for rate in RATES))
REMARK = "tokens per second of decoding, and with the time of reading the prompts"


def command(
    asked: QuestionOptions,
    systems: SystemOptions,
    models: ModelOptions,
    table: TableOptions,
    max_rows: Annotated[
        int, typer.Option("--max-rows", metavar="N", help="How many questions to answer at once.", min=2)
    ] = DEFAULT_ROWS,
) -> None:
    """Answer several questions at once, and the same ones one after the other."""
    named = systems.named(models)
    sampling = systems.sampling()
    questions = asked.read()
    target = open_target(models)
    makers: dict[str, Callable[[int, int, Observer], Engine]] = {
        each.name: partial(_engine, each, systems, models, target) for each in named
    }
    prompts = [question_tokens(question, target, asked.max_tokens) for question in questions]
    with counting_bar("measuring") as progress:
        found = measure_rows(
            prompts, makers, max_rows, asked.max_tokens, target.traits.stop_token_ids, sampling, progress
        )
    tables.show(found, HEADINGS, [_cells(row) for row in found], REMARK, table)


def _engine(
    named: Named,
    systems: SystemOptions,
    models: ModelOptions,
    target: Model,
    rows: int,
    capacity: int,
    observer: Observer,
) -> Engine:
    drafter, lookahead = systems.open_drafter(named, models, target)
    return Engine(
        target, drafter, lookahead=lookahead, rule=systems.rule, max_rows=rows, capacity=capacity, observer=observer
    )


def _cells(row: RowsMeasurement) -> tuple[str, ...]:
    return (
        row.system,
        str(row.rows),
        str(row.prompts),
        f"{row.alone:.1f}",
        f"{row.together:.1f}",
        f"{row.speedup:.2f}",
        f"{row.alone_with_prompts:.1f}",
        f"{row.together_with_prompts:.1f}",
        f"{row.speedup_with_prompts:.2f}",
    )

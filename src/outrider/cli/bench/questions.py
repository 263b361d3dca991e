"""`outrider bench questions`: systems side by side on the same questions, interleaved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from outrider.bench.comparison import Row, run_comparison, summarise
from outrider.bench.questions import spread
from outrider.bench.systems import System
from outrider.cli.bench import tables
from outrider.cli.bench.systems import SystemOptions
from outrider.cli.options.models import ModelOptions
from outrider.cli.options.output import TableOptions
from outrider.cli.terminal import counting_bar
from outrider.errors import InputError
from outrider.prompts.files import FilePrompt, read_prompts
from outrider.runtimes.base import Model

HEADINGS = ("category", "system", "questions", "tokens/s", "speed-up", "median", "tokens/round", "overhead", "same")
WARM_UP = "Once upon a time"
WARM_UP_TOKENS = 4


@dataclass(frozen=True, slots=True)
class QuestionOptions:
    """The questions, and how long the answers may be.

    Attributes:
        max_tokens: of each answer.
    """

    file: Annotated[Path, typer.Argument(help="JSON lines with a prompt, or Spec-Bench questions.")]
    categories: Annotated[str | None, typer.Option("--categories", help="Only these, separated by commas.")] = None
    per_category: Annotated[
        int | None, typer.Option("--per-category", help="The most questions of each category.", min=1)
    ] = None
    max_tokens: Annotated[int, typer.Option("--max-tokens", "-n", help="Tokens per answer.", min=1)] = 128

    def read(self) -> list[FilePrompt]:
        """The questions, all categories in turn.

        Raises:
            InputError: the file cannot be used, or there is no question of these categories.
        """
        questions = read_prompts(self.file)
        if self.categories is None:
            return spread(questions, self.per_category)
        wanted = {name.strip() for name in self.categories.split(",")}
        chosen = [question for question in questions if question.category in wanted]
        if not chosen:
            known = ", ".join(dict.fromkeys(question.category for question in questions))
            raise InputError(f"--categories is {self.categories!r} and {self.file} has {known}: choose of these")
        return spread(chosen, self.per_category)


def command(asked: QuestionOptions, systems: SystemOptions, models: ModelOptions, table: TableOptions) -> None:
    """Compare systems, interleaved question by question."""
    named = systems.named(models)
    systems.sampling()
    questions = asked.read()
    target = open_target(models)
    built = {each.name: systems.open(each, models, target) for each in named}
    show(measure(questions, built, target, asked.max_tokens), table)


def open_target(models: ModelOptions) -> Model:
    """The target.

    Raises:
        InputError: it has no tokenizer.
    """
    target = models.open_target()
    if target.tokenizer is None:
        raise InputError(f"model {target.name} has no tokenizer beside it: give a model folder with tokenizer files")
    return target


def measure(questions: list[FilePrompt], systems: Mapping[str, System], target: Model, max_tokens: int) -> list[Row]:
    """Every system on every question; the first system is the baseline."""
    assert target.tokenizer is not None
    for system in systems.values():
        system(target.tokenizer.encode(WARM_UP), WARM_UP_TOKENS)  # the first pass allocates; it is not counted
    with counting_bar("measuring") as progress:
        answers = run_comparison(questions, systems, target, max_tokens, progress)
    return summarise(answers, next(iter(systems)))


def show(rows: list[Row], table: TableOptions) -> None:
    """Print what `measure` found."""
    baseline = rows[0].system
    remark = f"decoding alone, without the prompt; speed-up over {baseline}"
    dim = [row.system == baseline for row in rows]
    tables.show(rows, HEADINGS, [_cells(row) for row in rows], remark, table, dim)


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.category,
        row.system,
        str(row.questions),
        f"{row.tokens_per_second:.1f}",
        f"{row.speedup:.2f}",
        f"{row.median_speedup:.2f}",
        "" if row.mean_tokens_per_round is None else f"{row.mean_tokens_per_round:.2f}",
        "" if row.overhead is None else f"{row.overhead:.1%}",
        f"{row.same_tokens:.0%}",
    )

"""The commands of `outrider bench` together."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from outrider.cli.bench import questions, rows
from outrider.cli.command import as_command
from outrider.errors import SettingError


def _refuse(given: object) -> None:
    if given:
        raise SettingError(
            "bench has commands of its own: outrider bench questions FILE compares systems, outrider bench rows FILE "
            "several prompts at once with one after the other; python -m benchmarks simulates, in the repository"
        )


def _moved(flag: str) -> Any:
    """A flag of version 0.1, refused with the names of what replaces it."""
    return typer.Option(flag, hidden=True, is_eager=True, callback=_refuse)


def bench(
    questions: Annotated[str | None, _moved("--questions")] = None,
    simulate: Annotated[bool, _moved("--simulate")] = False,
    overhead: Annotated[bool, _moved("--overhead")] = False,
) -> None:
    """Measure systems of Outrider on prompts of your own, interleaved in one run."""


def bench_app() -> typer.Typer:
    """The command with its own commands."""
    app = typer.Typer(callback=bench, context_settings={"ignore_unknown_options": True})
    app.command("questions")(as_command(questions.command))
    app.command("rows")(as_command(rows.command))
    return app

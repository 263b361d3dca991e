"""The commands of `outrider` put together."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from outrider import __version__
from outrider.cli import check, doctor, generate, serve, trace, train, warm
from outrider.cli.bench import app as bench_app
from outrider.cli.bench import questions, rows
from outrider.cli.chat import command as chat
from outrider.cli.command import VerboseOption, as_command, run_app

app = typer.Typer(
    name="outrider",
    help="Exact speculative decoding: the same text, sooner.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
bench = typer.Typer(callback=bench_app.bench, context_settings={"ignore_unknown_options": True})
app.command("generate", no_args_is_help=False)(as_command(generate.command))
app.command("chat")(as_command(chat.command))
app.command("serve")(as_command(serve.command))
app.command("check")(as_command(check.command))
app.add_typer(bench, name="bench")
bench.command("questions")(as_command(questions.command))
bench.command("rows")(as_command(rows.command))
app.command("warm")(as_command(warm.command))
app.command("train")(as_command(train.command))
app.command("trace")(as_command(trace.command))
app.command("doctor")(as_command(doctor.command))


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"outrider {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Say the version."),
    verbose: VerboseOption = False,
) -> None:
    context.obj = verbose


def run(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit status."""
    return run_app(app, "outrider", arguments)

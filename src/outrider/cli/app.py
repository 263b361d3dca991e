"""The commands of `outrider` put together."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

import typer

from outrider import __version__
from outrider.cli.command import VerboseOption, as_command, run_app
from outrider_command import INTERRUPTED

# What --help says of each command; a command is imported where it is asked for.
SUMMARIES = {
    "generate": "Continue a prompt, or many from a file, decoded speculatively.",
    "chat": "Talk with a model in the terminal, decoded speculatively; /help lists what else a line may say.",
    "serve": "Serve a model over HTTP, decoded speculatively: OpenAI's and other APIs, and a page at /.",
    "check": "Compare greedy output, token for token, with plain decoding; or check a FILE.py of your own.",
    "bench": "Measure systems of Outrider on prompts of your own, interleaved in one run.",
    "warm": "Learn what a model tends to say, so that drafts are good from the first token on. Nothing is trained.",
    "train": "Train a drafter, a draft head or a small model, on what the model writes itself.",
    "trace": "Sum up what happened in a run, round by round, or draw it.",
    "doctor": "Say what is installed, which models are found, and the measured cost curve of one.",
}
FOLDERS = {"chat": "chat.command"}  # commands that are more than a file


def run(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit status."""
    asked = next((each for each in arguments if not each.startswith("-")), None)
    try:
        app = _app(asked)
    except KeyboardInterrupt:
        return INTERRUPTED
    return run_app(app, "outrider", arguments)


def _app(asked: str | None) -> typer.Typer:
    """All commands, of which only the one that is asked for does something."""
    app = typer.Typer(
        name="outrider",
        help="Exact speculative decoding: the same text, sooner.",
        callback=_root,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for name, summary in SUMMARIES.items():
        if name != asked:
            app.command(name, help=summary)(_not_asked_for)
        elif name == "bench":
            app.add_typer(importlib.import_module("outrider.cli.bench.app").bench_app(), name=name)
        else:
            module = importlib.import_module(f"outrider.cli.{FOLDERS.get(name, name)}")
            app.command(name, no_args_is_help=False)(as_command(module.command))
    return app


def _not_asked_for() -> None:
    """Stands in --help for a command."""


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"outrider {__version__}")
        raise typer.Exit


def _root(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Say the version."),
    verbose: VerboseOption = False,
) -> None:
    context.obj = verbose

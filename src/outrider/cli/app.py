"""The commands put together, and what a user sees when something goes wrong: one line."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import TextIO

import typer
import typer.main

from outrider import __version__
from outrider.cli import bench, check, doctor, generate, trace
from outrider.errors import OutriderError

BAD_INPUT = 2
UNFORESEEN = 1
INTERRUPTED = 130
VERBOSE_FLAGS = {"--verbose", "-v"}

app = typer.Typer(
    name="outrider",
    help="Exact speculative decoding: the same text, sooner.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("generate", no_args_is_help=False)(generate.command)
app.command("check")(check.command)
app.command("bench")(bench.command)
app.command("trace")(trace.command)
app.command("doctor")(doctor.command)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"outrider {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Say the version."),
) -> None:
    pass


def run(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit status."""
    verbose = bool(VERBOSE_FLAGS & set(arguments))
    warnings.showwarning = _show_warning
    if not verbose:
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # its advice is for programmers
    arguments = list(arguments) or ["--help"]
    try:
        result = typer.main.get_command(app)(args=arguments, prog_name="outrider", standalone_mode=False)
    except OutriderError as error:
        if verbose:
            traceback.print_exc()
        return _report(str(error), BAD_INPUT)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; Python would complain once more while it closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if hasattr(error, "format_message"):  # of click, which typer brings under a name of its own
            return _report(_usage(error.format_message()), BAD_INPUT)
        if verbose:
            traceback.print_exc()
        return _report(f"{type(error).__name__}: {error} (this was not foreseen: --verbose shows where)", UNFORESEEN)
    return result if isinstance(result, int) else 0


def main() -> None:
    """The entry point of the `outrider` command."""
    sys.exit(run(sys.argv[1:]))


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """One line for what concerns the user; libraries' remarks to programmers are not shown."""
    if issubclass(category, RuntimeWarning):
        print("warning: " + " ".join(str(message).split()), file=sys.stderr)


def _usage(message: str) -> str:
    return message.replace("Value error, ", "").rstrip(".") + "; outrider --help, or outrider COMMAND --help, says more"


def _report(message: str, status: int) -> int:
    print("error: " + " ".join(message.split()), file=sys.stderr)
    return status

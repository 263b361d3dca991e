"""What every command has in common: option groups, --verbose, and errors of one line."""

from __future__ import annotations

import errno
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from inspect import Parameter, signature
from typing import Annotated, Any, TextIO

import typer
import typer.main

from outrider.cli.ending import ending
from outrider.cli.options.group import Command, flattened, option, with_parameters
from outrider.cli.options.output import OUTPUT, VALUES_LEFT_OUT
from outrider.errors import OutriderError
from outrider.pictures import pictures
from outrider_command import INTERRUPTED

BAD_INPUT = 2
UNFORESEEN = 1
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

VerboseOption = Annotated[bool, option("--verbose -v", None, "Show where an error comes from.", OUTPUT)]
INVOCATION = Parameter("invocation", Parameter.KEYWORD_ONLY, annotation=typer.Context)
VERBOSE = Parameter("verbose", Parameter.KEYWORD_ONLY, default=False, annotation=VerboseOption)


def as_command(function: Command) -> Command:
    """The function as typer needs it: its option groups flattened, with --verbose, its errors reported.

    --verbose may also stand before the command: the root callback leaves it in the context.
    """
    inner = flattened(function)

    def call(invocation: typer.Context, verbose: bool, **values: Any) -> int | None:
        return _guarded(inner, values, verbose or bool(invocation.obj))

    return with_parameters(call, [INVOCATION, *signature(inner).parameters.values(), VERBOSE], function)


def _guarded(command: Command, values: dict[str, Any], verbose: bool) -> int | None:
    if not verbose:
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # its advice is for programmers
    try:
        return command(**values)
    except typer.Exit:
        raise
    except BrokenPipeError:
        # Whoever read our output has gone. Python would complain once more when it closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if verbose:
            print(pictures(traceback.format_exc()), end="", file=sys.stderr)
        return _report(error)


def run_app(app: typer.Typer, name: str, arguments: Sequence[str]) -> int:
    """Run one command of an app; returns the exit status."""
    with ending() as ended:
        return ended.status(_run(app, name, arguments))


def _run(app: typer.Typer, name: str, arguments: Sequence[str]) -> int:
    warnings.showwarning = _show_warning
    command = typer.main.get_command(app)
    try:
        result = command(args=with_values(arguments) or ["--help"], prog_name=name, standalone_mode=False)
    except OutriderError as error:  # of flags that are refused before a command runs
        return _report(error)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except Exception as error:
        if not hasattr(error, "format_message"):  # of click, which typer brings under a name of its own
            raise
        message = error.format_message().replace("Value error, ", "").rstrip(".")
        return _say(f"{message}; {name} --help, or {name} COMMAND --help, says more", BAD_INPUT)
    return result if isinstance(result, int) else 0


def with_values(arguments: Sequence[str]) -> list[str]:
    """The arguments with a value for each flag whose value may be left out: a number is one, and a prompt is none."""
    given: list[str] = []
    for place, argument in enumerate(arguments):
        if argument == "--":
            return [*given, *arguments[place:]]
        following = arguments[place + 1] if place + 1 < len(arguments) else ""
        value = VALUES_LEFT_OUT.get(argument)
        given.append(argument if value is None or following.isdecimal() else f"{argument}={value}")
    return given


def _report(error: Exception) -> int:
    if isinstance(error, OutriderError):
        return _say(str(error), BAD_INPUT)
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return _say(f"{error.filename or 'the output'} cannot be written: {error.strerror}", BAD_INPUT)
    return _say(f"{type(error).__name__}: {error} (an error inside Outrider: --verbose shows where)", UNFORESEEN)


def _say(message: str, status: int) -> int:
    _tell(f"error: {message}")
    return status


def _tell(message: str) -> None:
    """One line; on a terminal it is wrapped between words."""
    from outrider.cli.terminal import messages  # here, since most commands have nothing to tell

    messages().print(" ".join(message.split()))


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
        _tell(f"warning: {message}")

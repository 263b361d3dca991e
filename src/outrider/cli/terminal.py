"""What is shown besides the text itself: progress and tables, on standard error."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from outrider.pictures import pictures


class SafeConsole(Console):
    """A console whose texts may hold names and words of others: their control characters are shown as pictures."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(emoji=False, **settings)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(pictures(text), **options)


class SafeFormatter(logging.Formatter):
    """The same for what is logged, on which requests and models have an influence."""

    def format(self, record: logging.LogRecord) -> str:
        return pictures(super().format(record))


def messages() -> Console:
    """For everything that is not the result. Words are wrapped for people; for programs a line stays a line.

    Brackets and colons are text, since names of files stand in most messages.
    """
    return SafeConsole(stderr=True, highlight=False, markup=False, soft_wrap=not sys.stderr.isatty())


@contextmanager
def working(first: str) -> Iterator[Callable[[str], None]]:
    """A spinner, where somebody is looking. Yields a function that changes what it says."""
    console = messages()
    if not sys.stderr.isatty():
        yield lambda message: None
        return
    with console.status(_harmless(first)) as status:
        yield lambda message: status.update(_harmless(message))


@contextmanager
def counting_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar that shows "3/8", where somebody is looking. Yields a function that takes (done, all)."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    name = TextColumn("{task.description}", markup=False)
    columns = (name, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=messages(), transient=True) as progress:
        task = progress.add_task(pictures(what), total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def reporting_bar(what: str, total: float, console: Console | None = None) -> Iterator[Callable[[float, str], None]]:
    """A progress bar with a text beside it, where somebody is looking. Yields a function that takes (step, text).

    Args:
        console: on which lines may be printed above the bar; another one would print into it.
    """
    if not sys.stderr.isatty():
        yield lambda step, text: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), TextColumn("{task.fields[text]}"))
    with Progress(*columns, console=console or messages(), transient=True) as progress:
        task = progress.add_task(what, total=total, text="")

        def advance(step: float, text: str) -> None:
            progress.update(task, text=text)
            progress.advance(task, step)

        yield advance


def _harmless(text: str) -> Text:
    """A name of others as it is: no markup, and nothing that steers the terminal."""
    return Text(pictures(text))

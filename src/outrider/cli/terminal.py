"""What is shown besides the text itself: progress and tables, on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from outrider.cli.pictures import pictures


class SafeConsole(Console):
    """A console whose texts may hold names and words of others: their control characters are shown as pictures."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(pictures(text), **options)


def messages() -> Console:
    """For everything that is not the result. Words are wrapped for people; for programs a line stays a line."""
    return SafeConsole(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())


@contextmanager
def working(first: str) -> Iterator[Callable[[str], None]]:
    """A spinner, where somebody is looking. Yields a function that changes what it says."""
    console = messages()
    if not sys.stderr.isatty():
        yield lambda message: None
        return
    with console.status(first) as status:
        yield lambda message: status.update(message)


@contextmanager
def bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar, where somebody is looking. Yields a function that takes (done, all)."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=messages(), transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)

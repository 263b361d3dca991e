"""What goes wrong with one text ends that text alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from outrider.engine.feeds import Feed
from outrider.errors import InputError, ModelError, first_line
from outrider.runtimes.base import Model, Session

T = TypeVar("T")


def isolated(run: Callable[[list[Feed]], T], feeds: list[Feed], session: Session, model: Model) -> Iterator[T]:
    """One pass over all these rows. Where it fails, out of memory perhaps, each row runs alone, so that only those fail
    that must.

    Args:
        run: the pass, from launch to the end.
    """
    try:
        result = run(feeds)
    except Exception as error:
        forget_tentative(feeds, session)
        if len(feeds) == 1:
            feeds[0].sequence.fail(as_text_error(model, error))
            return
        for feed in feeds:
            yield from isolated(run, [feed], session, model)
    else:
        yield result


def forget_tentative(feeds: list[Feed], session: Session) -> None:
    """Take back what a pass fed before it failed."""
    for feed in feeds:
        session.truncate(feed.sequence.row, session.length(feed.sequence.row))


def as_text_error(model: Model, error: Exception) -> Exception:
    """The error that a text ends with."""
    if isinstance(error, ModelError | InputError):
        return error
    wrapped = ModelError(f"model {model.name} failed on this text alone: {first_line(error)}")
    wrapped.__cause__ = error
    return wrapped

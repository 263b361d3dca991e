"""Failure isolation: what goes wrong with one text ends that text alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from outrider.engine.feeds import Feed
from outrider.errors import InputError, ModelError, first_line
from outrider.runtimes.base import Model, Session

T = TypeVar("T")


def isolated(run: Callable[[list[Feed]], T], feeds: list[Feed], session: Session, model: Model) -> Iterator[T]:
    """One pass over all these rows. If it fails (out of memory, for example), each row runs alone, and only the rows
    that fail again end with an error.

    Args:
        run: runs a pass over some rows, from launch to collect.
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
    """Roll back the tokens that a failed pass has fed."""
    for feed in feeds:
        session.truncate(feed.sequence.row, session.length(feed.sequence.row))


def as_text_error(model: Model, error: Exception) -> Exception:
    """The error with which a text ends."""
    if isinstance(error, ModelError | InputError):
        return error
    wrapped = ModelError(f"model {model.name} failed on this text alone: {first_line(error)}")
    wrapped.__cause__ = error
    return wrapped

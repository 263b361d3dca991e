"""Why a library cannot open the files of a model, in one line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from outrider.errors import ModelError, OutriderError, first_line

ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


def reason(error: BaseException) -> str:
    """The reason in a library's error, with the remedy where we know one."""
    if "trust_remote_code" in str(error):
        return "it brings Python code of its own, which runs only with --trust-remote-code (trust_remote_code=True)"
    if type(error).__name__ == "UnpicklingError":
        return "its pickled weights hold more than tensors: convert them to safetensors"
    said = ESCAPES.sub("", first_line(error))
    # Of these the words alone say little.
    return said if isinstance(error, OSError | ValueError | RuntimeError) else f"{said} ({type(error).__name__})"


@contextmanager
def opening(name: str) -> Iterator[None]:
    """Whatever a library stumbles over while it opens files of others, the files are what is wrong.

    Raises:
        ModelError: in place of any error that is not ours.
    """
    try:
        yield
    except OutriderError:
        raise
    except Exception as error:
        raise ModelError(f"model {name} cannot be opened: {reason(error)}") from error


def unreadable_tokenizer(folder: object, error: BaseException) -> str:
    """The message for a tokenizer that exists and cannot be read."""
    return f"the tokenizer of {folder} cannot be read: {reason(error)}"

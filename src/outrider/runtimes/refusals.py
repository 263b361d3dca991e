"""Why files of others cannot be opened, in one line."""

from __future__ import annotations

import re

from outrider.errors import first_line

ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


def reason(error: BaseException) -> str:
    """What a library says of files that it does not take."""
    if "trust_remote_code" in str(error):
        return "it brings Python code of its own, which runs only with --trust-remote-code (trust_remote_code=True)"
    if type(error).__name__ == "UnpicklingError":
        return "its pickled weights hold more than tensors: convert them to safetensors"
    return ESCAPES.sub("", first_line(error))


def unreadable_tokenizer(folder: object, error: BaseException) -> str:
    """For a tokenizer whose files are there."""
    return f"the tokenizer of {folder} cannot be read: {reason(error)}"

"""Files that are whole or not there, whatever interrupts the writing."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_IMODE
from typing import IO


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """As `replaced_file`, and on the disk before it takes the place of the old file: for what cannot be made again."""
    with replaced_file(path) as stream:
        yield stream
        stream.flush()
        os.fsync(stream.fileno())


@contextmanager
def replaced_file(path: Path) -> Iterator[IO[bytes]]:
    """A stream whose bytes take the place of a file once all of them are written.

    A process that is killed meanwhile leaves the old file as it was. Of several that write at once, the last one to
    end wins. The file keeps its permissions; a new one gets those of the user's umask. A link stays a link.

    Raises:
        OSError: the file cannot be written.
    """
    path = path.resolve()
    half = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with half.open("xb") as stream:
            with suppress(FileNotFoundError):
                os.chmod(half, S_IMODE(path.stat().st_mode))
            yield stream
        os.replace(half, path)
    except BaseException:
        with suppress(OSError):
            half.unlink()
        raise

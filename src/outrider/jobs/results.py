"""Where results go: a JSON line each, written as soon as it is known.

A file survives a killed run. A line that is not whole ends the file, since lines are only ever appended; it is cut off
when the run goes on. Each line carries a fingerprint, so that results of other prompts or settings are never mixed in.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TextIO

from filelock import FileLock, Timeout

from outrider.errors import InputError
from outrider.jobs.fingerprint import differing
from outrider.prompts.files import Id, key_of

LOCK_SUFFIX = ".lock"
NULS = b"\0"  # what a power cut leaves at the end of a file on some file systems
REMEDY = "--overwrite starts again, another --output keeps it"
DAMAGED = "take that line out to have its prompt decoded again;"


class Results(Protocol):
    """Where results go."""

    def recover(self, expected: Mapping[str, str]) -> dict[str, bool]:
        """Find out what is there already.

        Args:
            expected: the fingerprint of each prompt, by the key of its id.

        Returns:
            By key, whether the result is a text, and not an error.
        """

    def start(self) -> None:
        """Nothing is refused from here on: drop what `recover` did not find to be whole."""

    def write(self, id: Id, fingerprint: str, result: Mapping[str, Any]) -> None:
        """Add a result; it is there to stay when this returns."""


class ResultStream:
    """Results on standard output, say: nothing is kept, nothing can go on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def recover(self, expected: Mapping[str, str]) -> dict[str, bool]:
        return {}

    def start(self) -> None:
        pass

    def write(self, id: Id, fingerprint: str, result: Mapping[str, Any]) -> None:
        self._stream.write(_line(id, fingerprint, result))
        self._stream.flush()


class ResultFile:
    """Results in a file of which this object is the only writer.

    Opening it changes nothing, except that a missing file is made, and a lock file beside it; `start` cuts it to the
    results that `recover` found.

    Args:
        overwrite: forget what is there.

    Raises:
        InputError: it cannot be opened, is no plain file, or another run writes to it.
    """

    def __init__(self, path: str | Path, *, overwrite: bool = False) -> None:
        self.path = Path(path)
        self._overwrite = overwrite
        self._end = 0  # of the results that are kept, in bytes
        try:
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
            self._descriptor = os.open(path, flags, 0o666)
        except OSError as error:
            raise InputError(f"results cannot be written to {path}: {error.strerror}") from error
        try:
            if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
                raise InputError(f"{path} is no plain file: give another, or - for standard output")
            self._lock = _locked(self.path)
        except BaseException:
            os.close(self._descriptor)
            raise

    def __enter__(self) -> ResultFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the file up, for another run."""
        os.close(self._descriptor)
        self._lock.release()

    def recover(self, expected: Mapping[str, str]) -> dict[str, bool]:
        """Raises InputError where the file holds anything but results of this run."""
        done: dict[str, bool] = {}
        if self._overwrite:
            return done
        read = 0  # bytes; empty lines behind the last result are cut off
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                place = f"line {number} of {self.path}"
                if not line.endswith(b"\n"):
                    _require_beginning(line.rstrip(NULS), expected, place)
                    break
                read += len(line)
                if not line.strip():
                    continue
                key, fine = _read(line, expected, place)
                if key in done:
                    raise InputError(f"{place} repeats the result of prompt {key}: take one of them out, or {REMEDY}")
                done[key] = fine
                self._end = read
        return done

    def start(self) -> None:
        with _explained(self.path):
            os.ftruncate(self._descriptor, self._end)
            os.lseek(self._descriptor, self._end, os.SEEK_SET)

    def write(self, id: Id, fingerprint: str, result: Mapping[str, Any]) -> None:
        """Raises InputError where the disk is full, for example."""
        line = _line(id, fingerprint, result).encode("ascii")
        with _explained(self.path):
            written = 0
            while written < len(line):
                written += os.write(self._descriptor, line[written:])
            os.fsync(self._descriptor)


def _locked(path: Path) -> FileLock:
    """A lock that the system takes away from a process that is killed.

    Its file stays when the lock is given up: another run may be about to take the lock on it.
    """
    lock = FileLock(f"{path}{LOCK_SUFFIX}", thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError(f"another run writes to {path}: wait for it, or give another --output") from error
    except (OSError, NotImplementedError):
        pass  # some network file systems know no locks
    return lock


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"results cannot be written to {path} ({error.strerror}): "
            "mend this and give the same command again, without --overwrite; it goes on from there"
        ) from error


def _line(id: Id, fingerprint: str, result: Mapping[str, Any]) -> str:
    # ASCII, so that no reader takes a character of a text for the end of a line.
    return json.dumps({"id": id, "fingerprint": fingerprint, **result}) + "\n"


def _read(line: bytes, expected: Mapping[str, str], place: str) -> tuple[str, bool]:
    """(key, whether it is a text) of a whole line."""
    try:
        entry = json.loads(line)
        key, found, fine = key_of(entry["id"]), str(entry["fingerprint"]), "error" not in entry
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{place} is no result of a run like this: {DAMAGED} {REMEDY}") from error
    if key not in expected:
        raise InputError(f"{place} is of a prompt that is not among those given, {key}: {REMEDY}")
    if found != expected[key]:
        other = " and ".join(differing(found, expected[key]))
        raise InputError(f"{place}, of prompt {key}, does not have the {other} of this run: {REMEDY}")
    return key, fine


def _require_beginning(line: bytes, expected: Mapping[str, str], place: str) -> None:
    """Of a half-written line, before it is cut off: a file that was named by mistake must lose nothing."""
    for key, fingerprint in expected.items():
        head = f'{{"id": {key}, "fingerprint": "{fingerprint}"'.encode("ascii")
        if line.startswith(head) or head.startswith(line):
            return
    raise InputError(f"{place} is neither whole nor the beginning of a result of this run: {REMEDY}")

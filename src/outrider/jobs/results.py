"""Where results go: a JSON line each, written as soon as it is known.

A file survives a killed run. A line that is not whole ends the file, since lines are only ever appended; it is cut off
when the run goes on. Each line carries a fingerprint, so that results of other prompts or settings are never mixed in.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TextIO

from filelock import FileLock, Timeout

from outrider.errors import InputError
from outrider.jobs.fingerprint import differing
from outrider.jobs.jobs import Job
from outrider.prompts.files import Id, key_of

LOCK_SUFFIX = ".lock"
NULS = b"\0"  # what a power cut leaves at the end of a file on some file systems
REMEDY = "--overwrite starts again, another --output keeps it"
DAMAGED = "take that line out to have its prompt decoded again;"


class Results(Protocol):
    """Where results go."""

    def recover(self, jobs: Iterable[Job]) -> dict[str, bool]:
        """Find out what is there already.

        Args:
            jobs: all of the run; they are read only where something is there to be compared with them.

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

    def recover(self, jobs: Iterable[Job]) -> dict[str, bool]:
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

    def recover(self, jobs: Iterable[Job]) -> dict[str, bool]:
        """Raises InputError where the file holds anything but results of this run."""
        if self._overwrite:
            return {}
        found, torn = self._read()
        if found or torn.line:
            _require_results_of(jobs, found, torn, self.path)
        return {key: entry.fine for key, entry in found.items()}

    def _read(self) -> tuple[dict[str, _Entry], _Torn]:
        """The results by key, and the line at the end that is not whole; the end of the last result is noted."""
        found: dict[str, _Entry] = {}
        read = number = 0  # bytes; empty lines behind the last result are cut off
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    return found, _Torn(line.rstrip(NULS), number)
                read += len(line)
                if not line.strip():
                    continue
                key, entry = _entry(line, number, self.path)
                if key in found:
                    raise InputError(
                        f"line {number} of {self.path} repeats the result of prompt {key}: "
                        f"take one of them out, or {REMEDY}"
                    )
                found[key] = entry
                self._end = read
        return found, _Torn(b"", number)

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


@dataclass(frozen=True, slots=True)
class _Entry:
    """What is asked of a result: whose it is, whether it is a text and not an error, and its line."""

    fingerprint: str
    fine: bool
    number: int


@dataclass(frozen=True, slots=True)
class _Torn:
    """A line without its end; empty where the file ends with a whole one."""

    line: bytes
    number: int

    def begins(self, job: Job) -> bool:
        """Whether it is the beginning of this job's result."""
        head = f'{{"id": {job.key}, "fingerprint": "{job.fingerprint}"'.encode("ascii")
        return self.line.startswith(head) or head.startswith(self.line)


def _entry(line: bytes, number: int, path: Path) -> tuple[str, _Entry]:
    """(key, what it says) of a whole line."""
    try:
        entry = json.loads(line)
        return key_of(entry["id"]), _Entry(str(entry["fingerprint"]), "error" not in entry, number)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"line {number} of {path} is no result of a run like this: {DAMAGED} {REMEDY}") from error


def _require_results_of(jobs: Iterable[Job], found: Mapping[str, _Entry], torn: _Torn, path: Path) -> None:
    """Refuse a file that holds something else: one that was named by mistake must lose nothing."""
    strangers = dict(found)
    begun = not torn.line
    for job in jobs:
        entry = strangers.pop(job.key, None)
        if entry is not None and entry.fingerprint != job.fingerprint:
            other = " and ".join(differing(entry.fingerprint, job.fingerprint))
            place = f"line {entry.number} of {path}"
            raise InputError(f"{place}, of prompt {job.key}, does not have the {other} of this run: {REMEDY}")
        begun = begun or torn.begins(job)
    for key, entry in strangers.items():
        place = f"line {entry.number} of {path}"
        raise InputError(f"{place} is of a prompt that is not among those given, {key}: {REMEDY}")
    if not begun:
        place = f"line {torn.number} of {path}"
        raise InputError(f"{place} is neither whole nor the beginning of a result of this run: {REMEDY}")

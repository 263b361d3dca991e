"""Traces as files: a line about the run, then a line per round."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from outrider.engine.record import RoundRecord
from outrider.errors import InputError
from outrider.trace.lines import FORMAT, VERSION, header_as_dict, header_of, record_as_dict, record_of

LONGEST_HEADER = 65536  # bytes: more is not read of a file that may be anything


@dataclass(frozen=True, slots=True)
class Trace:
    """What a file of a trace holds; iterating gives the records.

    Attributes:
        target, drafter, rule: what the writer was told; empty where it was told nothing.
        records: the rounds, in the order in which they happened.
    """

    target: str
    drafter: str
    rule: str
    records: tuple[RoundRecord, ...]

    def __iter__(self) -> Iterator[RoundRecord]:
        return iter(self.records)

    def __len__(self) -> int:
        return len(self.records)


class TraceWriter:
    """An observer for an Engine or a SpeculativeDecoder that writes every round to a file.

    Each round is handed to the system at once, so that the file of a run that was killed can be read. A file that
    cannot be written any more, on a full disk perhaps, is given up with a warning; decoding goes on.

    Args:
        path: an existing trace is replaced, any other file is refused.
        target, drafter, rule: for the first line.

    Raises:
        InputError: the file cannot be written, or holds something else than a trace.
    """

    def __init__(self, path: str | Path, *, target: str = "", drafter: str = "", rule: str = "") -> None:
        self.path = Path(path)
        self._file: TextIO | None = None
        try:
            _refuse_to_replace(self.path)
            self._file = self.path.open("w", encoding="ascii", newline="\n")
            self._write(header_as_dict(target, drafter, rule))
        except OSError as error:
            self.close()
            reason = error.strerror or error
            raise InputError(f"a trace cannot be written to {path} ({reason}): give another file") from error

    def __repr__(self) -> str:
        return f"TraceWriter({str(self.path)!r})"

    def __call__(self, record: RoundRecord) -> None:
        """Write a round; after `close` nothing."""
        if self._file is None:
            return
        try:
            self._write(record_as_dict(record))
        except OSError as error:
            self.close()
            warnings.warn(
                f"the trace {self.path} ends here, it cannot be written any more ({error.strerror or error}); "
                "decoding goes on",
                RuntimeWarning,
                stacklevel=2,
            )

    def __enter__(self) -> TraceWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the file. Rounds that come later are not written."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):  # what could not be written has been reported
                file.close()

    def _write(self, line: dict[str, Any]) -> None:
        assert self._file is not None
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()


def read_trace(path: str | Path) -> Trace:
    """The trace in a file. A last line that is cut off, by a run that was killed, is left out.

    Raises:
        InputError: the file cannot be read, is no trace, was written by a newer version, or is damaged elsewhere.
    """
    try:
        lines = Path(path).read_bytes().split(b"\n")
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"the trace {path} cannot be read ({reason}): check the path") from error
    header = _header(lines[0], path)
    if lines[-1] == b"":
        lines.pop()
    records = []
    for number, line in enumerate(lines[1:], start=2):
        place = f"line {number} of {path}"
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            if number == len(lines):
                break
            raise InputError(f"{place} is no JSON: take the line out, or make the trace again") from error
        try:
            records.append(record_of(entry))
        except ValueError as error:
            raise InputError(f"{place} is no round, {error}: take the line out, or make the trace again") from error
    return Trace(**header, records=tuple(records))


def _header(line: bytes, path: str | Path) -> dict[str, str]:
    remedy = "outrider generate --trace FILE writes one"
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no trace, line 1 does not say so: {remedy}") from error
    if not isinstance(entry, dict) or entry.get("format") != FORMAT:
        raise InputError(f"{path} is no trace, line 1 does not say so: {remedy}")
    version = entry.get("version")
    if version != VERSION:
        raise InputError(
            f"line 1 of {path} says version {version!r} and this outrider reads {VERSION}: use the outrider that "
            "wrote it, or make the trace again"
        )
    try:
        return header_of(entry)
    except ValueError as error:
        raise InputError(f"line 1 of {path} is damaged, {error}: make the trace again") from error


def _refuse_to_replace(path: Path) -> None:
    """A file that was named by mistake shall lose nothing."""
    if not path.is_file() or path.stat().st_size == 0:
        return
    with path.open("rb") as file:
        first = file.readline(LONGEST_HEADER)
    try:
        entry = json.loads(first)
    except (ValueError, RecursionError):
        entry = None
    if not isinstance(entry, dict) or entry.get("format") != FORMAT:
        raise InputError(f"{path} exists and is no trace, so it is not replaced: give another file")

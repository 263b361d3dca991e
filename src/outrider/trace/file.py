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
from outrider.errors import InputError, first_line, shown
from outrider.trace.lines import FORMAT, VERSION, header_as_dict, header_of, record_as_dict, record_of

LONGEST_HEADER = 65536  # bytes; no more is read of a file that may be something else


@dataclass(frozen=True, slots=True)
class Trace:
    """The content of a trace file; iterating gives the records.

    Attributes:
        target, drafter, rule: as given to the writer; empty by default.
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

    Each round is flushed to the file at once, so that the trace of a killed run can be read. If the file cannot be
    written any more (a full disk, for example), the writer stops with a warning and decoding goes on.

    Args:
        path: an existing trace is replaced; any other file is refused.
        target, drafter, rule: for the first line.

    Raises:
        InputError: the file cannot be written, or is not a trace.
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
        """Write a round; do nothing after `close`."""
        if self._file is None:
            return
        try:
            self._write(record_as_dict(record))
        except OSError as error:
            self.close()
            warnings.warn(
                f"the trace {self.path} ends here: it cannot be written any more ({error.strerror or error}); "
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
            with suppress(OSError):  # a failed write was reported already
                file.close()

    def _write(self, line: dict[str, Any]) -> None:
        assert self._file is not None
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()


def read_trace(path: str | Path) -> Trace:
    """The trace in a file. A last line that is incomplete, since the run was killed, is left out.

    Raises:
        InputError: the file cannot be read, is not a trace, was written by a newer version, or another line is damaged.
    """
    try:
        lines = Path(path).read_bytes().split(b"\n")
    except (OSError, TypeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else first_line(error)
        named = path if isinstance(path, Path) else shown(path)
        raise InputError(f"the trace {named} cannot be read ({reason}): check the path") from error
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
            raise InputError(f"{place} is not JSON: remove the line, or make the trace again") from error
        try:
            records.append(record_of(entry))
        except ValueError as error:
            raise InputError(f"{place} is not a round, {error}: remove the line, or make the trace again") from error
    return Trace(**header, records=tuple(records))


def _header(line: bytes, path: str | Path) -> dict[str, str]:
    remedy = "outrider generate --trace FILE writes one"
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not a trace, its line 1 does not say so: {remedy}") from error
    if not isinstance(entry, dict) or entry.get("format") != FORMAT:
        raise InputError(f"{path} is not a trace, its line 1 does not say so: {remedy}")
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
    """Raises InputError for a file that holds something else: it may be named by mistake."""
    if not path.is_file() or path.stat().st_size == 0:
        return
    with path.open("rb") as file:
        first = file.readline(LONGEST_HEADER)
    try:
        entry = json.loads(first)
    except (ValueError, RecursionError):
        entry = None
    if not isinstance(entry, dict) or entry.get("format") != FORMAT:
        raise InputError(f"{path} exists and is not a trace, so it is not replaced: give another file")

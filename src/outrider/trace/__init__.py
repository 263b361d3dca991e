"""What happened, round by round: write it to a file, read it back, sum it up, draw it."""

from outrider.trace.file import Trace, TraceWriter, read_trace
from outrider.trace.picture import draw, headlines, phases, require_picture_format
from outrider.trace.summary import Summary, summarise

__all__ = [
    "Summary",
    "Trace",
    "TraceWriter",
    "draw",
    "headlines",
    "phases",
    "read_trace",
    "require_picture_format",
    "summarise",
]

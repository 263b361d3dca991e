"""Passes: what it takes to score some tokens."""

from __future__ import annotations

import statistics
from typing import Any

import torch

from benchmarks.gpu.models import SHAPES, extend, feed, make, opened, some_text
from benchmarks.gpu.run import Run

COUNTS = (1, 2, 4, 8, 16, 32, 64)
DEPTHS = (128, 1024)
ROWS = (1, 8)


def time_passes(run: Run) -> None:
    """Milliseconds to score n tokens of each row, the device idle before and after."""
    for name in run.shapes:
        shape = SHAPES[name]
        model = opened(run, make(shape, run.device, torch.bfloat16))
        run.record(shape=name, parameters=shape.parameters, gigabytes_read=2 * shape.parameters / 1e9)
        for rows in ROWS:
            session = model.open(rows, DEPTHS[-1] + COUNTS[-1])
            held = 0
            for depth in DEPTHS:
                for row in range(rows):
                    feed(session, row, some_text(shape.vocabulary, depth - held, depth))
                held = depth
                found = {}
                for count in COUNTS:
                    if run.over:
                        break
                    new = [some_text(shape.vocabulary, count, row) for row in range(rows)]

                    def one_pass(session: Any = session, new: Any = new, rows: int = rows, depth: int = depth) -> None:
                        extend(session, range(rows), new)
                        for row in range(rows):
                            session.truncate(row, depth)

                    found[count] = 1000 * statistics.median(run.seconds_of(one_pass, 0.2))
                run.record(shape=name, rows=rows, depth=depth, milliseconds=found)
            del session
        del model
        run.free()

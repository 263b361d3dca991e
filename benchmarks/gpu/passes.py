"""Passes: what attention, a pass, and a pass replayed as a CUDA graph take."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from benchmarks.gpu.models import SHAPES, extend, feed, make, some_text
from benchmarks.gpu.run import Run, last_lines
from outrider.runtimes.base import Session
from outrider.runtimes.torch.attention import without_cudnn
from outrider.runtimes.torch.model import TransformersModel

CALLS = 100
NEW_LENGTHS = 6
KNOWN_LENGTH = 1999
ATTENTION_SHAPES = {"8b": (8, 4, 128), "135m": (3, 3, 64)}  # key heads, query heads of each, size
QUERIES = ((1, False), (1, True), (5, True), (17, True))  # tokens, and whether there is a mask
_KERNELS = torch.nn.attention.SDPBackend
KERNELS = {
    "chosen": None,
    "cudnn": _KERNELS.CUDNN_ATTENTION,
    "flash": _KERNELS.FLASH_ATTENTION,
    "efficient": _KERNELS.EFFICIENT_ATTENTION,
    "math": _KERNELS.MATH,
}


class Attention:
    """Calls of attention over the beginning of a cache, as a ragged cache makes them."""

    def __init__(self, run: Run, shape: str, tokens: int, masked: bool) -> None:
        heads, groups, size = ATTENTION_SHAPES[shape]
        place: dict[str, Any] = {"device": run.device, "dtype": torch.bfloat16}
        self._run = run
        self._keys = torch.randn(1, heads, 2048, size, **place)
        self._queries = torch.randn(1, heads, groups * tokens, size, **place)
        self._mask = torch.zeros(1, 1, groups * tokens, 2048, **place) if masked else None

    def call(self, length: int) -> None:
        held = self._keys[:, :, :length]
        mask = None if self._mask is None else self._mask[..., :length].contiguous()
        torch.nn.functional.scaled_dot_product_attention(self._queries, held, held, attn_mask=mask)

    def seconds_of_new_lengths(self, first: int) -> list[float]:
        self.call(KNOWN_LENGTH)
        found = []
        for length in range(first, first + NEW_LENGTHS):
            self._run.synchronize()
            started = time.perf_counter()
            self.call(length)
            self._run.synchronize()
            found.append(time.perf_counter() - started)
        return found

    def call_often(self) -> None:
        for _ in range(CALLS):
            self.call(KNOWN_LENGTH)


def time_attention(run: Run) -> None:
    """Microseconds of one call of attention, at lengths of text that were not met before and at one that was."""
    first = 200
    for shape in ATTENTION_SHAPES:
        for tokens, masked in QUERIES:
            attention = Attention(run, shape, tokens, masked)
            for name, kernel in KERNELS.items():
                if run.over:
                    return
                first += NEW_LENGTHS  # none is met by two kernels
                finding: dict[str, Any] = {"shape": shape, "tokens": tokens, "masked": masked, "kernel": name}
                try:
                    with contextlib.nullcontext() if kernel is None else torch.nn.attention.sdpa_kernel(kernel):
                        finding["new_length_us"] = 1e6 * statistics.median(attention.seconds_of_new_lengths(first))
                        finding["known_length_us"] = 1e6 * min(run.seconds_of(attention.call_often, 0.05)) / CALLS
                except RuntimeError as error:
                    finding["refused"] = str(error).splitlines()[0][:80]
                run.record(**finding)


COUNTS = (1, 2, 4, 8, 16, 32, 64)
DEPTHS = (128, 1024)
ROWS = (1, 8)


def time_passes(run: Run) -> None:
    """Milliseconds to score n tokens of each row, the device idle before and after."""
    for name in run.shapes:
        shape = SHAPES[name]
        model = TransformersModel(make(shape, run.device, torch.bfloat16))
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


HELD = 1024  # tokens cached before
WORK = ((1, 1), (1, 8), (1, 64), (8, 1), (8, 8))  # rows, and tokens of each


def time_graphs(run: Run) -> None:
    """The module's own pass alone, run from Python and replayed as a CUDA graph, its inputs and mask ready: a bound."""
    for name in run.shapes:
        model = TransformersModel(make(SHAPES[name], run.device, torch.bfloat16))
        for rows, count in WORK:
            if run.over:
                return
            run.record(shape=name, rows=rows, count=count, **graph_times(run, model, rows, count))
        del model
        run.free()


@torch.inference_mode()
def graph_times(run: Run, model: TransformersModel, rows: int, count: int) -> dict[str, Any]:
    session: Any = model.open(rows, HELD + max(count for _, count in WORK))
    for row in range(rows):
        feed(session, row, some_text(512, HELD, row))
    new = [some_text(512, count, row) for row in range(rows)]
    whole = run.seconds_of(partial(score_and_drop, session, new))
    extend(session, range(rows), new)
    cache = session._cache  # with the plan of the last pass, whose mask is made
    ids = torch.tensor(new, device=run.device)
    positions = torch.from_numpy(cache.plan.positions).to(run.device)

    def alone() -> None:
        with without_cudnn():
            session._model.module(
                input_ids=ids,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                outrider_plan=cache.plan,
            )

    found: dict[str, Any] = {"pass_ms": 1000 * statistics.median(whole)}
    found["module_ms"] = 1000 * statistics.median(run.seconds_of(alone))
    if run.device.type == "cuda":
        try:
            found["replay_ms"] = 1000 * statistics.median(run.seconds_of(captured(alone)))
        except Exception as error:
            found["replay_error"] = last_lines(error)
    return found


def score_and_drop(session: Session, new: Sequence[Sequence[int]]) -> None:
    rows = range(len(new))
    for row in rows:
        session.truncate(row, HELD)
    extend(session, rows, new)
    for row in rows:
        session.truncate(row, HELD)


def captured(work: Callable[[], Any]) -> Callable[[], None]:
    """The work as a CUDA graph."""
    aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(2):
            work()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    replay: Callable[[], None] = graph.replay
    return replay

"""Rounds: where their time goes, on the host and on the device."""

from __future__ import annotations

import cProfile
import pstats
import statistics
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.models import GREEDY, SHAPES, Language, make, opened, small_draft
from benchmarks.gpu.run import Run, last_lines
from outrider import (
    Drafter,
    Engine,
    Fixed,
    LookaheadPolicy,
    Model,
    ModelDrafter,
    ModelTreeDrafter,
    Request,
    RoundRecord,
    SamplingParams,
    StaticTree,
    SuffixDrafter,
)
from outrider.maths.rules import RuleName


@dataclass
class Situation:
    """An engine in the midst of long texts."""

    engine: Engine
    records: list[RoundRecord] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        target: Model,
        drafter: Drafter | None,
        prompts: Sequence[Sequence[int]],
        lookahead: LookaheadPolicy,
        sampling: SamplingParams = GREEDY,
        rule: RuleName = "token",
        capacity: int = 3000,
    ) -> Situation:
        records: list[RoundRecord] = []
        rows, observer = len(prompts), records.append
        engine = Engine(
            target, drafter, lookahead=lookahead, rule=rule, max_rows=rows, capacity=capacity, observer=observer
        )
        for number, prompt in enumerate(prompts):
            engine.submit(Request(tuple(prompt), capacity - len(prompt), replace(sampling, seed=number)))
        while not records or any(part.read for part in records[-1].sequences):
            engine.step()
        return cls(engine, records)


BRIEF_CASES = ("plain, greedy", "suffix 8, greedy", "model 4, token", "plain, sampled, 16 rows")  # of other shapes


def time_rounds(run: Run) -> None:
    """Of some rounds: wall time, its phases, and the host's functions."""
    for name in run.shapes:
        in_situations(run, name, report_times)
        run.free()


def profile_rounds(run: Run) -> None:
    """Of the same rounds: the device's own time, launches and waits. Slows down all that the process does later."""
    for name in run.shapes:
        in_situations(run, name, report_profile)
        run.free()


def in_situations(run: Run, name: str, report: Callable[[Run, str, str, Situation], None]) -> None:
    shape = SHAPES[name]
    language = Language(shape.vocabulary)
    target = opened(run, language.teach(make(shape, run.device, torch.bfloat16)))
    draft = small_draft(run, language, 0.8)
    one, many = [language.prompt(200)], [language.prompt(200, start=300 * row) for row in range(16)]
    sampled = SamplingParams()
    tree = StaticTree((4, 2, 1, 1))
    cases: dict[str, Callable[[], Situation]] = {
        "plain, greedy": lambda: Situation.of(target, None, one, Fixed(0)),
        "plain, sampled": lambda: Situation.of(target, None, one, Fixed(0), sampled),
        "suffix 8, greedy": lambda: Situation.of(target, SuffixDrafter(), one, Fixed(8)),
        "model 4, greedy": lambda: Situation.of(target, ModelDrafter(draft), one, Fixed(4)),
        "model 4, token": lambda: Situation.of(target, ModelDrafter(draft), one, Fixed(4), sampled),
        "model 4, block": lambda: Situation.of(target, ModelDrafter(draft), one, Fixed(4), sampled, "block"),
        "model tree 16, token": lambda: Situation.of(target, ModelTreeDrafter(draft, tree), one, Fixed(16), sampled),
        "plain, greedy, 16 rows": lambda: Situation.of(target, None, many, Fixed(0)),
        "plain, sampled, 16 rows": lambda: Situation.of(target, None, many, Fixed(0), sampled),
        "model 4, token, 16 rows": lambda: Situation.of(target, ModelDrafter(draft), many, Fixed(4), sampled),
    }
    for case, make_situation in cases.items():
        if run.over:
            return
        if name not in ("1b", "tiny") and case not in BRIEF_CASES:
            continue
        try:
            report(run, name, case, make_situation())
        except Exception as error:
            run.record(shape=name, case=case, right=False, error=last_lines(error))


def report_times(run: Run, shape: str, case: str, situation: Situation) -> None:
    engine, records = situation.engine, situation.records
    run.seconds_of(engine.step, 0.1)
    records.clear()
    seconds = run.seconds_of(engine.step, 0.4, most=60)
    parts = {
        part: 1000 * statistics.median(getattr(record, f"seconds_{part}") for record in records)
        for part in ("drafting", "verification", "elsewhere")
    }
    emitted = statistics.mean(sum(len(s.tokens) for s in record.sequences) for record in records)
    run.record(
        shape=shape,
        case=case,
        round_ms=1000 * statistics.median(seconds),
        fastest_ms=1000 * min(seconds),
        parts_ms=parts,
        tokens_per_round=emitted,
        functions=functions_by_time(engine.step, 0.7, 100),
    )


def report_profile(run: Run, shape: str, case: str, situation: Situation) -> None:
    step = situation.engine.step
    run.record(shape=shape, case=case, **device_work(run, step, 4), lines=waits_by_line(run, step, 3))


def device_work(run: Run, work: Callable[[], Any], times: int) -> dict[str, Any]:
    """What one run of `work` does on the device, by PyTorch's profiler: kernels, copies, waits."""
    on_gpu = run.device.type == "cuda"
    activity = torch.profiler.ProfilerActivity.CUDA if on_gpu else torch.profiler.ProfilerActivity.CPU
    run.synchronize()
    with torch.profiler.profile(activities=[activity]) as profile:
        for _ in range(times):
            work()
        run.synchronize()
    kernels = copies = waits = launches = 0
    kernel_microseconds = copy_microseconds = 0.0
    names: Counter[str] = Counter()
    to_host = 0
    for event in profile.events():
        on_device = event.device_type.name != "CPU"
        took = event.time_range.elapsed_us()
        if on_device and event.name.startswith(("Memcpy", "Memset")):
            copies += 1
            to_host += "DtoH" in event.name
            copy_microseconds += took
        elif on_device or not on_gpu:
            kernels += 1
            kernel_microseconds += took
            names[event.name[:80]] += took
        elif "Synchronize" in event.name:
            waits += 1
        elif "Launch" in event.name:
            launches += 1
    return {
        "kernels": [(name, round(took / 1000 / times, 4)) for name, took in names.most_common(12)],
        "kernel_ms": kernel_microseconds / 1000 / times,
        "copy_ms": copy_microseconds / 1000 / times,
        "kernel_count": kernels / times,
        "launches": launches / times,
        "copies": copies / times,
        "reads_by_host": to_host / times,
        "waits": waits / times,
    }


def waits_by_line(run: Run, work: Callable[[], Any], times: int) -> list[tuple[str, float]]:
    """The lines of Python that wait for the device, and how often in one run of `work`."""
    if run.device.type != "cuda":
        return []
    found: Counter[str] = Counter()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(times):
                work()
        for warning in caught:
            if "synchroniz" in str(warning.message):
                found["/".join(Path(warning.filename).parts[-3:]) + f":{warning.lineno}"] += 1
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return [(line, count / times) for line, count in found.most_common(20)]


def functions_by_time(work: Callable[[], Any], seconds: float, most: int) -> list[tuple[str, float, float, float]]:
    """(function, calls, own ms, ms with what it calls) in one run of `work`: by own time, then ours by all of it."""
    profile = cProfile.Profile()
    times, started = 0, time.perf_counter()
    profile.enable()
    while times < most and time.perf_counter() - started < seconds:
        work()
        times += 1
    profile.disable()
    stats: dict[Any, Any] = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    ranked = sorted(stats.items(), key=lambda item: -item[1][2])[:30]
    ranked += sorted(((k, v) for k, v in stats.items() if "outrider" in k[0]), key=lambda item: -item[1][3])[:30]
    return [
        (
            "/".join(Path(file).parts[-2:]) + f":{line} {name}",
            calls / times,
            round(1000 * own / times, 4),
            round(1000 * whole / times, 4),
        )
        for (file, line, name), (_, calls, own, whole, _) in ranked
    ]

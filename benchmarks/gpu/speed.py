"""Speed: tokens per second of one text and of several, transformers beside it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from benchmarks.gpu.models import GREEDY, SHAPES, Language, generate, make, small_draft
from benchmarks.gpu.run import Run, attention_of_cudnn, last_lines
from outrider import (
    Drafter,
    Engine,
    Fixed,
    Goodput,
    LookaheadPolicy,
    ModelDrafter,
    Request,
    RoundRecord,
    SamplingParams,
    SuffixDrafter,
)
from outrider.runtimes.torch.model import TransformersModel

SYSTEMS = {
    "1b": ("plain", "suffix, 8", "suffix, chosen", "model 0.8, 4", "one layer 0.8, 4"),
    "135m": ("plain", "suffix, 8", "suffix, chosen"),
}
SAMPLED_SYSTEMS = ("plain", "model 0.8, 4", "suffix, 8")


def time_speed(run: Run) -> None:
    """Tokens per second of decoding, prompts left out: transformers, plain, and several ways to draft."""
    for name in run.shapes:
        time_speed_of(run, name)
        run.free()


def time_speed_of(run: Run, name: str) -> None:
    length = 32 if run.tiny else 64
    shape = SHAPES[name]
    language = Language(shape.vocabulary)
    module = language.teach(make(shape, run.device, torch.bfloat16))
    target = TransformersModel(module)
    prompt = language.prompt(256)
    expected = [int(language.cycle[place]) for place in range(1, length + 1)]
    report_generate(run, name, module, prompt, length, expected)
    good, fair = small_draft(run, language, 0.8), small_draft(run, language, 0.6)
    head = TransformersModel(language.teach(make(replace(shape, layers=1), run.device, torch.bfloat16), 0.8))
    systems: dict[str, tuple[Callable[[], Drafter | None], LookaheadPolicy]] = {
        "plain": (lambda: None, Fixed(0)),
        "suffix, chosen": (SuffixDrafter, Goodput()),
        "suffix, 8": (SuffixDrafter, Fixed(8)),
        "suffix, 16": (SuffixDrafter, Fixed(16)),
        "one layer 0.8, 4": (lambda: ModelDrafter(head), Fixed(4)),
        "one layer 0.8, chosen": (lambda: ModelDrafter(head), Goodput()),
        "model 0.8, 4": (lambda: ModelDrafter(good), Fixed(4)),
        "model 0.8, chosen": (lambda: ModelDrafter(good), Goodput()),
        "model 0.6, chosen": (lambda: ModelDrafter(fair), Goodput()),
    }
    for system, (make_drafter, lookahead) in systems.items():
        if system not in SYSTEMS.get(name, systems):
            continue
        for sampling in (GREEDY, SamplingParams(seed=0)):
            if run.over:
                return
            if not sampling.greedy and system not in SAMPLED_SYSTEMS:
                continue
            try:
                report_speed(run, name, system, target, make_drafter(), lookahead, prompt, expected, sampling)
            except Exception as error:
                run.record(shape=name, system=system, right=False, error=last_lines(error))


def report_generate(run: Run, shape: str, module: Any, prompt: Sequence[int], length: int, expected: list[int]) -> None:
    static: dict[str, Any] = {"cache_implementation": "static", "disable_compile": True}
    plain: dict[str, Any] = {}
    for system, settings, cudnn in (
        ("transformers", plain, True),
        ("transformers, no cuDNN", plain, False),
        ("transformers, static cache, no cuDNN", static, False),
    ):
        if run.over or (settings and shape not in ("8b", "tiny")):
            return
        try:
            with attention_of_cudnn(cudnn):
                short = min(run.seconds_of(partial(generate, module, [prompt], 2, **settings), 0.2))
                started = time.perf_counter()
                text = generate(module, [prompt], length, **settings)[0]
                whole = time.perf_counter() - started
            rate = (length - 2) / max(whole - short, 1e-9)
            run.record(shape=shape, system=system, tokens_per_second=rate, right=text == expected)
        except Exception as error:
            run.record(shape=shape, system=system, right=False, error=last_lines(error))


def report_speed(
    run: Run,
    shape: str,
    system: str,
    target: TransformersModel,
    drafter: Drafter | None,
    lookahead: LookaheadPolicy,
    prompt: Sequence[int],
    expected: list[int],
    sampling: SamplingParams,
) -> None:
    length = len(expected)
    engine = Engine(target, drafter, lookahead=lookahead, max_rows=1, capacity=len(prompt) + length)
    best, statistics_of_best, texts = 0.0, None, []
    for _ in range(3 if isinstance(lookahead, Goodput) else 2):  # the first also warms up, and lets a policy learn
        sequence = engine.submit(Request(tuple(prompt), length, sampling))
        while sequence.finish_reason is None:
            engine.step()
        if sequence.error is not None:
            raise sequence.error
        texts.append(sequence.tokens)
        if sequence.stats.tokens_per_second > best:
            best, statistics_of_best = sequence.stats.tokens_per_second, sequence.stats
    assert statistics_of_best is not None
    run.record(
        shape=shape,
        system=system,
        sampled=not sampling.greedy,
        tokens_per_second=best,
        tokens_per_round=statistics_of_best.mean_tokens_per_round,
        drafted_per_round=statistics_of_best.drafted / statistics_of_best.rounds,
        acceptance=statistics_of_best.acceptance_rate,
        right=all(text == expected for text in texts),
    )


def time_batches(run: Run) -> None:
    """Tokens per second of 1, 4 and 16 texts, prompts left out: Outrider and transformers' batched generate."""
    for name in run.shapes:
        time_batches_of(run, name)
        run.free()


def time_batches_of(run: Run, name: str) -> None:
    length = 16 if run.tiny else 32
    language = Language(SHAPES[name].vocabulary)
    module = language.teach(make(SHAPES[name], run.device, torch.bfloat16))
    target = TransformersModel(module)
    for rows in (1, 4, 16):
        if run.over:
            return
        prompts = [language.prompt(200, start=300 * row) for row in range(rows)]
        ragged = [language.prompt(200 - 9 * row, start=300 * row) for row in range(rows)]

        def seconds(tokens: int, prompts: Sequence[Sequence[int]] = prompts) -> float:
            with attention_of_cudnn(False):
                return min(run.seconds_of(lambda: generate(module, prompts, tokens), 0.1, fewest=1))

        run.record(
            shape=name,
            rows=rows,
            tokens_per_second={
                "transformers, no cuDNN": rows * (length - 2) / max(seconds(length) - seconds(2), 1e-9),
                "plain": batch_rate(target, None, prompts, Fixed(0), length),
                "plain, ragged": batch_rate(target, None, ragged, Fixed(0), length),
                "suffix 8": batch_rate(target, SuffixDrafter(), prompts, Fixed(8), length),
                "suffix, chosen": batch_rate(target, SuffixDrafter(), prompts, Goodput(), length),
            },
        )


def batch_rate(
    target: TransformersModel,
    drafter: Drafter | None,
    prompts: Sequence[Sequence[int]],
    lookahead: LookaheadPolicy,
    length: int,
) -> float:
    """Tokens per second of rounds in which nobody reads a prompt, the best of two runs."""
    records: list[RoundRecord] = []
    capacity = max(map(len, prompts)) + length
    engine = Engine(
        target, drafter, lookahead=lookahead, max_rows=len(prompts), capacity=capacity, observer=records.append
    )
    best = 0.0
    for _ in range(2):
        records.clear()
        for number, prompt in enumerate(prompts):
            engine.submit(Request(tuple(prompt), length, replace(GREEDY, seed=number)))
        while not engine.idle:
            engine.step()
        steady = [record for record in records if not any(part.read for part in record.sequences)]
        seconds = sum(r.seconds_drafting + r.seconds_verification + r.seconds_elsewhere for r in steady)
        best = max(best, sum(len(part.tokens) for record in steady for part in record.sequences) / seconds)
    return best

"""Speed: tokens per second of one text, transformers beside it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from benchmarks.gpu.models import GREEDY, SHAPES, TRANSFORMERS, Language, generate, make, opened, small_draft
from benchmarks.gpu.run import Run, attention_of_cudnn, last_lines
from outrider import (
    Drafter,
    Engine,
    Fixed,
    Goodput,
    LookaheadPolicy,
    Model,
    ModelDrafter,
    Request,
    SamplingParams,
    SuffixDrafter,
)

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
    prompt = language.prompt(256)
    expected = [int(language.cycle[place]) for place in range(1, length + 1)]
    report_generate(run, name, module, prompt, length, expected)
    target = opened(run, module)
    good, fair = small_draft(run, language, 0.8), small_draft(run, language, 0.6)
    head = opened(run, language.teach(make(replace(shape, layers=1), run.device, torch.bfloat16), 0.8))
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
    if not TRANSFORMERS:
        return
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
    target: Model,
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

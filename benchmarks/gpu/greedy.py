"""Greedy text: the same however it is decoded, but for rounding."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from benchmarks.gpu.models import CHECKED, GREEDY, SHAPES, TRANSFORMERS, Truth, generate, make, opened, some_text
from benchmarks.gpu.run import Run
from outrider import (
    Drafter,
    Engine,
    Fixed,
    LookaheadPolicy,
    Model,
    ModelDrafter,
    ModelTreeDrafter,
    Request,
    StaticTree,
    SuffixDrafter,
    SuffixTreeDrafter,
    load,
)

ROUNDING = {torch.bfloat16: 0.02, torch.float32: 1e-4}  # a smaller gap between the best two logits decides nothing


def check_greedy(run: Run) -> None:
    """Greedy text with and without speculation, and of transformers' generate; where they part, by how much."""
    if TRANSFORMERS:
        check_load(run)
    shape = SHAPES["tiny"] if run.tiny else replace(SHAPES["135m"], layers=12)
    for dtype in (torch.bfloat16, torch.float32):
        module = make(shape, run.device, dtype, seed=3, spread=0.06)
        near = copy.deepcopy(module)
        with torch.no_grad():
            near.lm_head.weight += 0.3 * near.lm_head.weight.std() * torch.randn_like(near.lm_head.weight)
        target, draft = opened(run, module, apart=True), opened(run, near)
        systems: dict[str, Callable[[], Drafter]] = {
            "suffix": SuffixDrafter,
            "suffix tree": SuffixTreeDrafter,
            "model": partial(ModelDrafter, draft),
            "model tree": partial(ModelTreeDrafter, draft, StaticTree((3, 2, 1, 1))),
        }
        length = 16 if run.tiny else 64
        for seed in range(4):
            if run.over:
                return
            prompt = tuple(some_text(shape.vocabulary, 40, seed) * 2)
            plain = decode(target, None, prompt, length)[0]
            reference = generate(module, [prompt], length)[0]
            report_texts(run, "transformers", dtype, seed, module, prompt, plain, reference)
            for name, make_drafter in systems.items():
                drafted, tau = decode(target, make_drafter(), prompt, length, Fixed(6))
                report_texts(run, name, dtype, seed, module, prompt, plain, drafted, tau)
            rows = decode_rows(target, [prompt] * 3, length)
            report_texts(run, "3 rows", dtype, seed, module, prompt, plain, rows[2])


def check_load(run: Run) -> None:
    """A folder opened as users open it, on the device that is found."""
    module = make(replace(CHECKED, vocabulary=512), torch.device("cpu"), torch.float32, seed=5, spread=0.06)
    prompt = tuple(some_text(512, 30, 1))
    with tempfile.TemporaryDirectory() as folder:
        module.save_pretrained(folder)
        model = load(folder, dtype="float32", device=run.device.type)
    found = decode(model, SuffixDrafter(), prompt, 32, Fixed(4))[0]
    expected = generate(module, [prompt], 32)[0]
    run.record(greedy="a loaded folder", model=type(model).__name__, right=found == expected)


def decode(
    target: Model,
    drafter: Drafter | None,
    prompt: Sequence[int],
    length: int,
    lookahead: LookaheadPolicy | None = None,
) -> tuple[list[int], float]:
    """The greedy text and its tokens per round."""
    engine = Engine(target, drafter, lookahead=lookahead, max_rows=1, capacity=len(prompt) + length)
    sequence = engine.submit(Request(tuple(prompt), length, GREEDY))
    while sequence.finish_reason is None:
        engine.step()
    if sequence.error is not None:
        raise sequence.error
    return sequence.tokens, sequence.stats.mean_tokens_per_round


def decode_rows(target: Model, prompts: Sequence[Sequence[int]], length: int) -> list[list[int]]:
    engine = Engine(target, None, max_rows=len(prompts), capacity=max(map(len, prompts)) + length)
    sequences = [engine.submit(Request(tuple(prompt), length, GREEDY)) for prompt in prompts]
    while not engine.idle:
        engine.step()
    return [sequence.tokens for sequence in sequences]


def report_texts(
    run: Run,
    system: str,
    dtype: torch.dtype,
    seed: int,
    module: Any,
    prompt: Sequence[int],
    plain: list[int],
    other: list[int],
    tau: float = 1.0,
) -> None:
    parted = next((place for place, pair in enumerate(zip(plain, other, strict=True)) if pair[0] != pair[1]), None)
    gap = None
    if parted is not None:
        best = Truth(module)([*prompt, *plain[:parted]])[0].topk(2).values
        gap = float((best[0] - best[1]) / best[0].abs())
    run.record(
        greedy=system,
        dtype=str(dtype),
        prompt=seed,
        right=parted is None or (gap is not None and gap <= ROUNDING[dtype]),
        parted_at=parted,
        gap_of_best_two=gap,  # as a share of the best logit; half of bfloat16's last digit is 0.002 to 0.004
        tokens_per_round=tau,
        different_tokens=len(set(plain)),
    )

"""Rules: chi-square of whole outputs through the whole engine, draft and target on the device."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.models import Shape, Truth, make, opened
from benchmarks.gpu.run import Run, last_lines
from outrider import (
    Drafter,
    Engine,
    Model,
    ModelDrafter,
    ModelTreeDrafter,
    Request,
    SamplingParams,
    StaticTree,
    SuffixDrafter,
)
from outrider.maths.rules import RuleName


def tiny_module(run: Run, vocabulary: int, seed: int) -> Any:
    return make(Shape(vocabulary, 16, 1, 2, 1, 16), run.device, torch.float32, seed, spread=0.4)


def draw_outputs(
    target: Model,
    drafter: Drafter,
    rule: RuleName,
    sampling: SamplingParams,
    prompt: tuple[int, ...],
    length: int,
    draws: int,
    over: Callable[[], bool],
) -> tuple[Counter[tuple[int, ...]], float]:
    """The first tokens of many texts, 16 rows at a time, and the share of draft tokens that was accepted."""
    engine = Engine(target, drafter, lookahead=4, rule=rule, max_rows=16, capacity=32, max_waiting=draws)
    sequences = [engine.submit(Request(prompt, length + 2, replace(sampling, seed=seed))) for seed in range(draws)]
    while not engine.idle and not over():
        engine.step()
    ended = [sequence for sequence in sequences if sequence.finish_reason]
    for sequence in ended:
        if sequence.error is not None:
            raise sequence.error
    drafted = sum(sequence.stats.drafted for sequence in ended)
    accepted = sum(sequence.stats.accepted for sequence in ended)
    return Counter(tuple(sequence.tokens[:length]) for sequence in ended), accepted / max(drafted, 1)


class LogitsOf:
    """A model as joint_distribution of the tests asks for it."""

    def __init__(self, module: Any) -> None:
        self._truth = Truth(module)
        self._known: dict[tuple[int, ...], np.ndarray[Any, Any]] = {}

    def logits_after(self, text: Sequence[int]) -> np.ndarray[Any, Any]:
        key = tuple(text)
        if key not in self._known:
            self._known[key] = self._truth(key)[0].cpu().numpy()
        return self._known[key]


def check_rules(run: Run) -> None:
    """Draft and target on the device: outputs have the distribution that the target's own logits say."""
    if importlib.util.find_spec("scipy") is None:
        run.record(rules="left out: scipy is not installed")
        return
    sys.path.insert(0, str(run.tests))
    exactness = importlib.import_module("exactness.statistics")
    prompt, length, draws = (0, 1, 3, 2, 0, 1, 3), 2, 60 if run.tiny else 1000
    drafters: dict[str, Callable[[Model], Drafter]] = {
        "model": ModelDrafter,
        "model tree": lambda model: ModelTreeDrafter(model, StaticTree((2, 2))),
        "suffix": lambda model: SuffixDrafter(greedy=False),
    }
    plain, all_settings = SamplingParams(), SamplingParams(temperature=0.9, top_k=4, top_p=0.95, repetition_penalty=1.2)
    rules: tuple[RuleName, ...] = ("token", "block", "coupled")
    cases = [(rule, drafter, plain) for rule in rules for drafter in drafters]
    cases += [("block", "model", all_settings), ("token", "model tree", all_settings)]
    for number, (rule, drafter, sampling) in enumerate(cases):
        if rule == "block" and "tree" in drafter:
            continue
        if run.over:
            return
        module = tiny_module(run, 5, 2 * number)
        target, draft = opened(run, module, apart=True), opened(run, tiny_module(run, 5, 2 * number + 1))
        started = time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", RuntimeWarning)  # a drafter that was dropped
                counts, accepted = draw_outputs(
                    target, drafters[drafter](draft), rule, sampling, prompt, length, draws, lambda: run.over
                )
        except Exception as error:
            run.record(rule=rule, drafter=drafter, right=False, error=last_lines(error))
            continue
        if counts.total() < draws:
            return  # those that ended first are no fair sample
        p = exactness.p_value(counts, exactness.joint_distribution(LogitsOf(module), prompt, length, sampling))
        run.record(
            rule=rule,
            drafter=drafter,
            settings="all" if sampling is all_settings else "none",
            right=p > exactness.THRESHOLD and 0 < accepted < 1,
            p=p,
            draws=counts.total(),
            accepted=accepted,
            seconds=time.perf_counter() - started,
        )

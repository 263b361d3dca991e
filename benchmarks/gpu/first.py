"""First: the parts of a replayed pass one by one, in a few seconds, so that what fails is known at once."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from benchmarks.gpu.greedy import decode
from benchmarks.gpu.models import CHECKED, extend, feed, generate, make, some_text
from benchmarks.gpu.run import Run, last_lines
from benchmarks.gpu.sampled import (
    drafts_of_a_head_agree,
    drawn_drafts_agree,
    rounds_launch_and_read_little,
    several_rules_agree,
    trees_agree,
    verdicts_agree,
)
from outrider import Fixed, SuffixDrafter
from outrider.runtimes.ledger import LedgerSession
from outrider.runtimes.torch.cuda.attention import attention_for, reference_attention
from outrider.runtimes.torch.cuda.device import Device, Host, device_at
from outrider.runtimes.torch.cuda.model import GraphedLlama
from outrider.runtimes.torch.cuda.places import RowPlaces
from outrider.runtimes.torch.cuda.prompts import attend_to_text
from outrider.runtimes.torch.cuda.sight import Sight
from outrider.runtimes.torch.linears import DenseLinear
from outrider.runtimes.torch.quantised import build_of

# Heads, key heads, size of a head; of Llama-3.1-8B, SmolLM2-135M and something odd.
HEADS = ((32, 8, 128), (9, 3, 64), (4, 4, 80))
WIDTHS = (1, 5, 17, 65)
LENGTHS = (0, 100, 1000)
WINDOW = 40
ERRORS = {torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 5e-3}


def check_first(run: Run) -> None:
    """Each step says whether it works."""
    run.record(triton=importlib.util.find_spec("triton") is not None, kernel=attention_for(run.device).__module__)
    for name, step in STEPS.items():
        if run.step not in ("", name):
            continue
        if run.over and not run.step:
            return
        try:
            run.record(step=name, right=step(run))
        except Exception as error:
            run.record(step=name, right=False, error=last_lines(error))


def kernel_agrees(run: Run, dtype: torch.dtype) -> bool:
    """The kernel against PyTorch's attention behind a mask: chains and trees, padding, with and without a window."""
    kernel, worst = attention_for(run.device), 0.0
    for heads, key_heads, size in HEADS[1:] if run.tiny else HEADS:
        for width in WIDTHS:
            for length in LENGTHS[:2] if run.tiny else LENGTHS:
                place: dict[str, Any] = {"device": run.device, "dtype": dtype}
                keys, values = (torch.randn(4, length + 160, key_heads, size, **place) for _ in range(2))
                queries = torch.randn(3, width, heads, size, **place)
                words = -(-width // 64)
                chain = RowPlaces(0, length, width, length, None).ancestors(words)
                star = RowPlaces(0, length, width, length, tuple([-1] * width)).ancestors(words)
                ancestors = torch.stack([torch.from_numpy(bits.copy()) for bits in (chain, star, chain)])
                ancestors[2, width // 2 :] = 0
                slots, bases = (
                    torch.tensor(numbers, device=run.device) for numbers in ([2, 0, 1], [length, length, length // 2])
                )
                whole = Sight(slots, bases, ancestors.to(run.device))
                for sight in (whole, whole.within(WINDOW)):
                    found, expected = (
                        attend(
                            queries, keys, values, sight.slots, sight.bases, sight.ancestors, oldest=sight.oldest
                        ).float()
                        for attend in (kernel, reference_attention)
                    )
                    worst = max(worst, float((found - expected).abs().max()))
    run.record(kernel=kernel.__module__, dtype=str(dtype), largest_error=worst)
    return worst < ERRORS[dtype]


def prompts_agree(run: Run) -> bool:
    """PyTorch's attention over a prompt against the one over trees."""
    worst = 0.0
    for held, count in ((300, 300), (300, 100)):
        queries = torch.randn(count, 32, 128, device=run.device, dtype=torch.bfloat16)
        keys, values = (torch.randn(1, held, 8, 128, device=run.device, dtype=torch.bfloat16) for _ in range(2))
        words = -(-count // 64)
        ancestors = torch.from_numpy(RowPlaces(0, held - count, count, held - count, None).ancestors(words).copy())
        slots, bases = (torch.tensor([number], device=run.device) for number in (0, held - count))
        expected = reference_attention(queries[None], keys, values, slots, bases, ancestors[None].to(run.device))[0]
        found = attend_to_text(queries, keys[0], values[0])
        worst = max(worst, float((found.float() - expected.float()).abs().max()))
    run.record(prompts="flash attention against a mask", largest_error=worst)
    return worst < ERRORS[torch.bfloat16]


def two_ways(run: Run) -> tuple[GraphedLlama, GraphedLlama]:
    """A model whose passes are captured, and one on the same device whose passes are not."""
    module = make(CHECKED, run.device, torch.float32, spread=0.06)
    ways: list[Device] = [device_at(run.device), Host(run.device)]
    captured, launched = (GraphedLlama.of(copy.deepcopy(module), device=device) for device in ways)
    return captured, launched


def replays_agree(run: Run) -> bool:
    sessions = [model.open(3, 256) for model in two_ways(run)]
    worst = 0.0
    for session in sessions:
        for row in (0, 2):
            feed(session, row, some_text(1000, 30 + row, row))
    for number in range(6):
        new = [some_text(1000, 5, number), some_text(1000, 4, 50 + number)]
        found = [extend(session, [0, 2], new, [[-1, 0, 0, 1, 3], None]).clone() for session in sessions]
        worst = max(worst, float((found[0] - found[1]).abs().max() / found[1].abs().max()))
        for session in sessions:
            session.keep(0, [0, 2])
            session.keep(2, range(number % 4))
    run.record(replayed="6 passes", largest_error=worst)
    return worst < ERRORS[torch.float32]


def rollouts_agree(run: Run) -> bool:
    """Drafts rolled out on the device against tokens chosen one by one."""
    session, other = (model.open(2, 256) for model in two_ways(run))
    for each in (session, other):
        feed(each, 0, some_text(1000, 30, 0))
        feed(each, 1, some_text(1000, 12, 1))

    def one_by_one(feeds: Sequence[Sequence[int]]) -> list[list[int]]:
        return LedgerSession.rollout(other, [0, 1], feeds, 6, 1000)

    right = True
    for number in range(6):
        feeds = [[number + 1], [number + 2, 3]]
        right = session.rollout([0, 1], feeds, 6, 1000) == one_by_one(feeds) and right
        for each in (session, other):
            each.keep(0, range(3))
            each.keep(1, range(2))
    return right


def text_is_that_of_transformers(run: Run) -> bool:
    module = make(CHECKED, run.device, torch.float32, seed=5, spread=0.06)
    prompt = some_text(1000, 30, 1) * 2
    expected = generate(module, [prompt], 32)[0]
    model = GraphedLlama.of(module, device=run.device)
    texts = [decode(model, drafter, prompt, 32, Fixed(4))[0] for drafter in (None, SuffixDrafter())]
    return all(text == expected for text in texts)


def few_bits_agree(run: Run) -> bool:
    """A text of a model whose weights are in int8 or int4: the most probable token is mostly that of whole weights."""
    if importlib.util.find_spec("torchao") is None:
        run.record(few_bits="left out: torchao is not installed")
        return True
    right = True
    for kind in ("int8",) if run.device.type == "cpu" else ("int8", "int4"):
        module = make(replace(CHECKED, hidden=1024, intermediate=1024), run.device, torch.bfloat16, spread=0.06)
        models = [
            GraphedLlama.of(copy.deepcopy(module), device=run.device, build=build)
            for build in (build_of(kind), DenseLinear)
        ]
        sessions = [model.open(1, 256) for model in models]
        text = some_text(CHECKED.vocabulary, 100, 3)
        narrow, whole = (extend(session, [0], [text]).float() for session in sessions)
        alike = float((narrow.argmax(-1) == whole.argmax(-1)).float().mean())
        for _ in range(4):  # the last of these is replayed
            found = [extend(session, [0], [[7]]) for session in sessions]
        run.record(few_bits=kind, same_choice=alike, finite=bool(found[0].isfinite().all()))
        right = right and alike > 0.5
    return right


STEPS: dict[str, Callable[[Run], bool]] = {
    **{f"attention over trees, {dtype}": partial(kernel_agrees, dtype=dtype) for dtype in ERRORS},
    "prompts": prompts_agree,
    "capture": replays_agree,
    "rollout": rollouts_agree,
    "a greedy text": text_is_that_of_transformers,
    "verdicts": verdicts_agree,
    "verdicts of several rules": several_rules_agree,
    "drawn drafts": drawn_drafts_agree,
    "trees of a model": trees_agree,
    "chains of a head": partial(drafts_of_a_head_agree, trees=False),
    "trees of a head": partial(drafts_of_a_head_agree, trees=True),
    "weights in few bits": few_bits_agree,
    "launches and reads": rounds_launch_and_read_little,
}

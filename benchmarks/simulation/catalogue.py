"""The scenarios of the simulation: cost curves, drafters and texts, and where their numbers come from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from benchmarks.simulation.scenario import Chances, Drafting, Scenario, Seconds
from outrider.maths.arrays import HostFloats

# Cost curves


def h100(rows: int, tokens: int) -> float:
    """A model of 8 billion bfloat16 weights on an H100, by its data sheet.

    Reading the weights, 16 GB at 80 % of 3.35 TB/s, takes 6 ms for any number of tokens. Multiplying takes 2 operations
    per weight and token: 65 us per token at a quarter of 989 TFLOP/s (small products do not fill a GPU). The two
    overlap but for a tenth of the shorter one.
    """
    reading, multiplying = 6.0e-3, 65e-6 * tokens
    return max(reading, multiplying) + 0.1 * min(reading, multiplying)


# Measured: milliseconds of SmolLM2-135M on two cores of an AMD Zen 4, after 128 cached tokens.
TORCH_BFLOAT16 = {1: 33.0, 2: 33.0, 4: 33.0, 8: 34.0, 16: 40.0}
LLAMA_CPP_Q4_0 = {1: 9.5, 2: 15.5, 3: 18.5, 4: 19.5, 8: 27.5, 16: 39.5}
MLX_CPU = {1: 134.0, 2: 250.0, 4: 490.0, 8: 1000.0, 16: 1950.0}


def measured(milliseconds: Mapping[int, float], step: int = 1) -> Seconds:
    """A curve through measured points; beyond the last one it keeps its slope.

    Args:
        step: kernels compute blocks of so many tokens: above it, counts are rounded up to a multiple of it.
    """
    counts = sorted(milliseconds)
    values = [milliseconds[count] for count in counts]
    slope = (values[-1] - values[-2]) / (counts[-1] - counts[-2])

    def seconds(rows: int, tokens: int) -> float:
        if tokens > step:
            tokens = math.ceil(tokens / step) * step
        beyond = max(tokens - counts[-1], 0)
        return (float(np.interp(tokens, counts, values)) + slope * beyond) / 1000

    return seconds


torch_cpu = measured(TORCH_BFLOAT16)
llama_cpp = measured(LLAMA_CPP_Q4_0, step=4)
mlx_cpu = measured(MLX_CPU)

# Drafters

LOOKUP = Drafting(call=0.1e-3, token=0.01e-3)
SUFFIX = Drafting(call=0.1e-3, token=0.01e-3, silence=0.4, stop=0.15)
# These estimate their own tokens: high where they copy. The second one is wrong in four of ten drafts.
COPIER = Drafting(call=0.1e-3, token=0.01e-3, estimates=True)
BOASTER = replace(COPIER, sound=0.6)

# Texts


def steady(chance: float) -> Chances:
    """The same chance everywhere."""
    return lambda generator, places: np.full(places, chance)


def mixed(low: float, high: float) -> Chances:
    """Every text has its own chance."""
    return lambda generator, places: np.full(places, generator.uniform(low, high))


def changing(*chances: float) -> Chances:
    """One chance after the other, each for an equal part of the text."""

    def by_place(generator: np.random.Generator, places: int) -> HostFloats:
        return np.asarray(chances)[np.arange(places) * len(chances) // places]

    return by_place


def drifting(low: float, high: float, period: int) -> Chances:
    """Up and down in waves of `period` tokens, with a random phase."""

    def by_place(generator: np.random.Generator, places: int) -> HostFloats:
        turns = np.arange(places) / period + generator.random()
        return np.asarray(low + (high - low) * (0.5 + 0.5 * np.sin(2 * np.pi * turns)))

    return by_place


def bursts(low: float, high: float, length: float) -> Chances:
    """Low and high in turn, each for a random number of tokens with mean `length`, like copied passages."""

    def by_place(generator: np.random.Generator, places: int) -> HostFloats:
        turns = np.cumsum(generator.random(places) < 1 / length) + generator.integers(2)
        return np.where(turns % 2, high, low)

    return by_place


def copied(low: float, high: float, length: float, gap: float) -> Chances:
    """High in copied passages (mean `length` tokens) and low in the gaps between them (mean `gap` tokens)."""

    def by_place(generator: np.random.Generator, places: int) -> HostFloats:
        lengths = generator.geometric((1 / gap, 1 / length), (places // 2 + 1, 2))
        return np.asarray(np.repeat(np.tile((low, high), len(lengths)), lengths.ravel())[:places])

    return by_place


def scenarios() -> list[Scenario]:
    """What `python -m benchmarks simulate` measures."""
    small_model = Drafting(position=1.0e-3, token=0.01e-3)  # an eighth of the weights
    cpu_model = Drafting(position=7.0e-3, token=0.1e-3)  # a fifth
    return [
        Scenario("H100, lookup, good", h100, steady(0.9), LOOKUP),
        Scenario("H100, lookup, poor", h100, steady(0.3), LOOKUP),
        Scenario("H100, draft model", h100, mixed(0.6, 0.9), small_model),
        Scenario("H100, draft model", h100, mixed(0.6, 0.9), small_model, rows=16, texts=128, tokens=256),
        Scenario("H100, lookup", h100, mixed(0.2, 0.9), LOOKUP, rows=16, texts=128, tokens=256),
        Scenario("PyTorch, suffix", torch_cpu, steady(0.7), SUFFIX),
        Scenario("PyTorch, bursts", torch_cpu, bursts(0.3, 0.95, 300), LOOKUP, texts=4, tokens=4096),
        Scenario("PyTorch, draft model", torch_cpu, mixed(0.5, 0.8), cpu_model),
        Scenario("PyTorch, draft model", torch_cpu, mixed(0.5, 0.8), cpu_model, rows=8, texts=64, tokens=256),
        Scenario("PyTorch, lookup", torch_cpu, mixed(0.1, 0.9), LOOKUP, rows=16, texts=128, tokens=256),
        Scenario("llama.cpp, lookup, good", llama_cpp, steady(0.9), LOOKUP),
        Scenario("llama.cpp, lookup, middling", llama_cpp, steady(0.6), LOOKUP),
        Scenario("llama.cpp, lookup, poor", llama_cpp, steady(0.2), LOOKUP),
        Scenario("llama.cpp, draft model", llama_cpp, mixed(0.5, 0.8), Drafting(position=4e-3)),
        Scenario("llama.cpp, lookup", llama_cpp, mixed(0.2, 0.9), LOOKUP, rows=8, texts=64, tokens=256),
        Scenario("MLX on a CPU", mlx_cpu, steady(0.8), LOOKUP),
        Scenario("llama.cpp, recovers", llama_cpp, changing(0.1, 0.9), LOOKUP, texts=2, tokens=3000),
        Scenario("llama.cpp, collapses", llama_cpp, changing(0.9, 0.1), LOOKUP, texts=2, tokens=3000),
        Scenario("PyTorch, drifts", torch_cpu, drifting(0.2, 0.95, 600), cpu_model, texts=4, tokens=2048),
        *(
            Scenario(f"{machine}, {name}", seconds, copied(0.2, 0.95, 30, 90), drafting, rows=rows, texts=8 * rows)
            for machine, seconds in (("PyTorch", torch_cpu), ("llama.cpp", llama_cpp))
            for name, drafting in (("copies", COPIER), ("copies, boasts", BOASTER))
            for rows in (1, 8)
        ),
    ]

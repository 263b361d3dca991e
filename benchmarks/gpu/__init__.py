"""Outrider on a GPU: whether it is right there, what a pass costs, and where the time of a round goes.

    python -m benchmarks.gpu --out gpu.jsonl                         every section, in some five minutes
    python -m benchmarks.gpu passes speed --shapes 1b,8b             some of them
    python -m benchmarks.gpu --tiny --device cpu                     the script itself, in two minutes, without a GPU

from the repository's root (PYTHONPATH=src where Outrider is not installed). It needs PyTorch, transformers, pytest,
hypothesis and scipy. Nothing is downloaded: models are made from configurations with random weights, which take the
time of trained ones. Each finding is one line of JSON, written at once, so that an interrupted run loses nothing. A
section that fails says so and the next one begins.

Sessions, rules, greedy and tests ask whether results are right; attention, passes, rounds, speed, batches, graphs and
profile take times. Run one process at a time: several that share a card wait for one another at each copy. The profile
comes last, because what follows a profiler in a process is not measured as it is.

docs/gpu.md has what was found.
"""

"""Outrider on a GPU: whether it is right there, what a round costs, and where its time goes.

    python -m benchmarks.gpu --out gpu.jsonl                         every section, in five minutes
    python -m benchmarks.gpu first table --shapes 8b                 some of them
    python -m benchmarks.gpu --dry                                   the script itself, in a minute, without a GPU

from the repository's root (PYTHONPATH=src where Outrider is not installed). It needs PyTorch, transformers, pytest,
hypothesis and scipy. Nothing is downloaded: models are made from configurations with random weights, which take the
time of trained ones. Each finding is one line of JSON, written at once, so that an interrupted run loses nothing. A
section that fails says so and the next one begins.

`first` tries the parts of a replayed pass one by one, so that what fails is known after some seconds. Sessions, rules,
greedy and tests ask whether results are right; table, speed, rounds and passes take times; counts and profile count
launches and reads. Run one process at a time: several that share a card wait for one another at each copy. What follows
a profiler in a process is not measured as it is, so that counts and profile come last.

docs/gpu.md has what was found.
"""

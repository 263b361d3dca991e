"""Outrider on a GPU: whether it is right there, what a round costs, and where its time goes.

    python -m benchmarks.gpu --out gpu.jsonl                         every section, in less than five minutes
    python -m benchmarks.gpu --section first                        one of them: what works, in a minute
    python -m benchmarks.gpu first table --shapes 8b                 some of them
    python -m benchmarks.gpu --dry                                   the script itself, in a minute, without a GPU

from the repository's root (PYTHONPATH=src where Outrider is not installed). Nothing but the repository has to be copied
to the machine. It needs PyTorch alone, and downloads nothing: models are made from configurations with random weights,
which take the time of trained ones. What needs transformers, safetensors, scipy or pytest is left out where they are
missing. Each finding is one line of JSON, written
at once, so that an interrupted run loses nothing. A section that fails says so and the next one begins. The last lines
say what was wrong and where the findings go.

`first` tries the parts of a replayed round one by one: attention, prompts, capture, rollouts, a greedy text, verdicts
against those of the host, drafts that are drawn on the device, launches and reads of a round. Sessions, rules, greedy
and tests ask whether results are right; table, speed, rounds and passes take times; counts and profile use a profiler.
Run one process at a time: several that share a card wait for one another at each copy. What follows a profiler in a
process is not measured as it is, so that counts and profile come last.

docs/gpu.md has what was found.
"""

"""Benchmarks of Outrider itself, not in the wheel: `python -m benchmarks --help`, from the repository's root.

`outrider bench` measures on your own prompts.
"""

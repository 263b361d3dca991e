"""Benchmarks of Outrider itself, out of the wheel: `python -m benchmarks --help`, from the repository's root.

What a person measures on prompts of their own is `outrider bench`.
"""

"""Benchmarks on your own prompts: systems side by side, interleaved in one run."""

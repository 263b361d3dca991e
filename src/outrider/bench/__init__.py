"""Benchmarks: systems side by side, interleaved in one run, on questions that people ask."""

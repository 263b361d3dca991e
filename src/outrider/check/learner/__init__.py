"""A checker for those who write speculative decoding themselves, as a course chapter asks for it.

A learner's file runs in a process of its own (`process`, `child/`), on models small enough to be enumerated
(`tables`). What it does is counted there, and judged here (`judges/`): each step of the algorithm is held against the
law that it should have, by a test with a stated rate of false alarms (`evidence`). Where a count is too far off, the
laws of known mistakes are tried (`kernels`, `decoding_laws`), and the one that fits is named (`mistakes`).

The process of its own imports this room first: nothing is imported here, so that it starts in two thirds of the time.
"""

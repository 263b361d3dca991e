"""The compiled part of Outrider's native CPU runtime: packed weights, and one call per forward pass."""

from outrider_native._core import (
    Head,
    HeadParts,
    HeadSession,
    Layer,
    Linear,
    Matrix,
    Model,
    Session,
    Shape,
    instruction_sets,
    multiply,
    pack,
)

# What Python calls; a change of it is a new number, here and in outrider/runtimes/native/library.py.
INTERFACE = 4

__all__ = [
    "INTERFACE",
    "Head",
    "HeadParts",
    "HeadSession",
    "Layer",
    "Linear",
    "Matrix",
    "Model",
    "Session",
    "Shape",
    "instruction_sets",
    "multiply",
    "pack",
]

"""The compiled part of Outrider: packed weights, one call per forward pass, and one per draft that is looked up."""

from outrider_native._core import (
    Activation,
    Blend,
    Calibration,
    Cursor,
    Experts,
    Frozen,
    Head,
    HeadParts,
    HeadSession,
    JointTree,
    Layer,
    Linear,
    Lookups,
    Matrix,
    Model,
    Rotation,
    Session,
    Shape,
    Successors,
    SuffixAutomaton,
    Tree,
    instruction_sets,
    multiply,
    note,
    pack,
)

# What Python calls, to run models and to draft; a change is a new number, here and in
# outrider/runtimes/native/library.py.
INTERFACE = 10
DRAFTING = 3

__all__ = [
    "DRAFTING",
    "INTERFACE",
    "Activation",
    "Blend",
    "Calibration",
    "Cursor",
    "Experts",
    "Frozen",
    "Head",
    "HeadParts",
    "HeadSession",
    "JointTree",
    "Layer",
    "Linear",
    "Lookups",
    "Matrix",
    "Model",
    "Rotation",
    "Session",
    "Shape",
    "Successors",
    "SuffixAutomaton",
    "Tree",
    "instruction_sets",
    "multiply",
    "note",
    "pack",
]

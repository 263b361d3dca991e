"""The compiled part of Outrider's native CPU runtime: packed weights, and one call per forward pass."""

from outrider_native._core import Layer, Linear, Matrix, Model, Session, Shape, instruction_sets, multiply, pack

__all__ = ["Layer", "Linear", "Matrix", "Model", "Session", "Shape", "instruction_sets", "multiply", "pack"]

"""What the course chapter asks its readers to write: four names, one a task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Framework = Literal["numpy", "torch", "mlx"]
FRAMEWORKS: tuple[Framework, ...] = ("numpy", "torch", "mlx")
TITLES = {"numpy": "NumPy", "torch": "PyTorch", "mlx": "MLX"}


@dataclass(frozen=True, slots=True)
class Task:
    """One task of the chapter.

    Attributes:
        name: what the file must define.
        kind: of what kind it must be.
    """

    number: int
    name: str
    kind: Literal["class", "function"]


TASKS = (
    Task(1, "SpeculativeDecoder", "class"),
    Task(2, "verify_speculation", "function"),
    Task(3, "AdaptiveSpeculator", "class"),
    Task(4, "batched_speculative_decode", "function"),
)
THE_FILE = Task(0, "the file", "function")  # where it cannot even be loaded
NUMBERS = tuple(task.number for task in TASKS)


def task_of(number: int) -> Task:
    """The task of this number, from 1."""
    return TASKS[number - 1]

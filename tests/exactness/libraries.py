"""NumPy, PyTorch and MLX by name; those that are not installed are skipped."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

LIBRARIES = ("numpy", "torch", "mlx")


def array_maker(library: str) -> Callable[[Any], Any]:
    """What makes an array of that library."""
    if library == "numpy":
        return np.array
    if library == "torch":
        return pytest.importorskip("torch").tensor
    return pytest.importorskip("mlx.core").array

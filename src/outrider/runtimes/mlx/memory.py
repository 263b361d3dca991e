"""How much memory is left for MLX."""

from __future__ import annotations

import mlx.core as mx

from outrider.runtimes.host_memory import free_host_bytes


def free_device_bytes() -> int | None:
    """Free memory of MLX's device in bytes; None if unknown."""
    if mx.default_device() == mx.cpu:
        return free_host_bytes()
    information = mx.device_info()
    limit = information.get("max_recommended_working_set_size", information.get("total_memory"))
    return None if limit is None else int(limit) - mx.get_active_memory()

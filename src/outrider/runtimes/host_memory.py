"""How much memory is left for this process."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def free_host_bytes() -> int | None:
    """Free memory in bytes, within the limit of a container; None if unknown."""
    if importlib.util.find_spec("psutil") is None:
        return None
    import psutil

    free = int(psutil.virtual_memory().available)
    return min([free, *_left_in_container()])


def _left_in_container() -> list[int]:
    """What a Linux control group leaves, in bytes; empty where it sets no limit."""
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        kinds = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return []
    return [limit - used + int(kinds.get("file", 0))]  # the page cache is freed when memory is needed

"""What the process of a learner's file may use."""

from __future__ import annotations

import resource

GIB = 1 << 30
MEMORY = 4 * GIB
FILE = 64 << 20
PROCESSES = 4096  # of the user, threads included: a file that forks without end comes to this end


def limit(cpu_seconds: int) -> None:
    """Bound memory, written files and CPU time. Where a system has no such limit, the parent's time limit remains."""
    bounds = (
        (resource.RLIMIT_DATA, MEMORY),
        (resource.RLIMIT_FSIZE, FILE),
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, PROCESSES),
    )
    for which, most in bounds:
        try:
            _, hard = resource.getrlimit(which)
            resource.setrlimit(which, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
        except (OSError, ValueError):
            continue

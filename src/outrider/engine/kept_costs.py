"""The cost curve of a model on this machine, kept in the cache folder from one run to the next.

An engine that finds one measures nothing when it opens. The passes that it runs refine the curve, and when it becomes
idle the refined curve is kept. A curve that no longer fits is deleted, so that the next engine measures.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from outrider.errors import SettingError
from outrider.lookahead import CostCurve
from outrider.runtimes.base import Features, Model
from outrider.runtimes.files.smollm2 import cache_folder
from outrider.runtimes.files.whole_file import replaced_file

FORMAT = 1
PASSES = 1  # raised where a new Outrider runs passes faster or slower: older curves are measured again
FOLDER = "costs"
LIBRARIES = ("outrider", "outrider-native", "torch", "transformers", "mlx", "llama-cpp-python")
SWITCH = "OUTRIDER_COSTS"  # "off" keeps nothing and reads nothing
BETWEEN = 100  # passes observed before a curve is kept again
MOST_POINTS = 256
DRIFT = math.log(1.5)  # of the level: the load of the machine changes passes by less
LARGEST_FILE = 100_000  # bytes


class KeptCosts:
    """One model's curve in the cache folder. Errors of the file system are ignored: they must not end a run.

    Args:
        path: of its file; None keeps nothing.
        key: what the costs depend on; it is written into the file, and a file with another key is not read.
    """

    def __init__(self, path: Path | None, key: dict[str, Any]) -> None:
        self._path = path
        self._key = key
        self._observed = 0  # passes that the curve had observed when it was kept

    def read(self) -> CostCurve | None:
        """The curve that was kept; None where there is none that can be used."""
        if self._path is None:
            return None
        try:
            with self._path.open(encoding="utf-8") as file:
                found = json.loads(file.read(LARGEST_FILE))
            if found["format"] != FORMAT or found["key"] != self._key:
                return None
            points = {(int(rows), int(tokens)): float(seconds) for rows, tokens, seconds in found["points"]}
            depth = float(found["depth"])
            return CostCurve(points, depth) if 0 <= depth < math.inf else None
        except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError, SettingError):
            return None

    def keep(self, costs: CostCurve) -> None:
        """Write the curve, or delete the file where passes take much longer or shorter than it says."""
        if self._path is None:
            return
        self._observed = costs.observations
        with suppress(OSError):
            if abs(costs.level) > DRIFT:
                self._path.unlink(missing_ok=True)
            else:
                self._write(self._path, costs)

    def keep_if_learned(self, costs: CostCurve) -> None:
        """The same, if the curve has observed enough passes since."""
        if costs.observations - self._observed >= BETWEEN:
            self.keep(costs)

    def _write(self, path: Path, costs: CostCurve) -> None:
        points = [[rows, tokens, seconds] for (rows, tokens), seconds in costs.refined_points(MOST_POINTS).items()]
        content = {"format": FORMAT, "key": self._key, "depth": costs.measured_depth, "points": points}
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced_file(path) as file:
            file.write(json.dumps(content).encode())


def kept_costs(target: Model, rows: int, longest: int, wants: Features) -> KeptCosts:
    """Where the curve of this model, on this machine, with so many rows, is kept.

    Args:
        longest: tokens that the measurement may use in each row.
        wants: what each pass returns besides logits.
    """
    from importlib.metadata import version  # imports `email`, which takes time at `import outrider`

    identity = target.traits.identity
    if identity is None or os.environ.get(SWITCH) == "off":
        return KeptCosts(None, {})
    key = {
        "model": identity,
        "passes": PASSES,
        "versions": _versions(version),
        "machine": _machine(),
        "rows": rows,
        "longest": longest,
        "features": [list(wants.hidden), wants.top],
    }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:24]
    return KeptCosts(cache_folder() / FOLDER / f"{digest}.json", key)


@lru_cache(maxsize=1)
def _versions(version_of: Callable[[str], str]) -> dict[str, str]:
    """Of the libraries that run passes, as far as they are installed."""
    found = {}
    for name in LIBRARIES:
        with suppress(ImportError):  # the library is not installed
            found[name] = version_of(name)
    return found


@lru_cache(maxsize=1)
def _machine() -> list[Any]:
    """The processor, how many of its cores may be used, and the threads that the user asked for."""
    name = platform.processor() or platform.machine()
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return [name, os.cpu_count(), os.environ.get("OMP_NUM_THREADS")]

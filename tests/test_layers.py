"""Each floor of the house imports only from floors below it, and no name of `outrider` brings in a runtime."""

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

# From the ground up. Names that share a line are rooms of one floor and may not import each other.
FLOORS = (
    ("pictures",),
    ("errors",),
    ("values",),
    ("text",),
    ("maths.arrays.base",),
    ("maths.arrays.selection",),
    ("maths.arrays.numpy",),
    ("maths.arrays.torch", "maths.arrays.mlx"),
    ("maths.arrays",),
    ("maths.processors", "maths.buckets"),
    ("maths.noise", "maths.sampling", "maths.budget", "maths.draft"),
    ("maths.draws", "maths.lessons"),
    ("maths.distributions",),
    ("maths.rules",),
    ("lookahead", "runtimes", "structured"),
    ("drafters",),
    ("prompts",),
    ("engine",),
    ("api",),
    ("trace",),
    ("jobs", "bench", "check", "training", "server", "hosts"),
    ("fleet",),
    ("cli",),
    ("__main__",),
)
# Arrays in, arrays out: no clocks, no files, and randomness only as an argument.
MATHEMATICS = ("maths", "lookahead")
FOREIGN = ("time", "datetime", "os", "pathlib", "random", "secrets", "numpy.random", "outrider.runtimes")
LAZY = (
    "torch",
    "mlx",
    "llama_cpp",
    "transformers",
    "typer",
    "rich",
    "matplotlib",
    "pydantic",
    "filelock",
    "llguidance",
    "platformdirs",
)

HEIGHT = {name: height for height, names in enumerate(FLOORS) for name in names}
TOP_OF_LIBRARY = HEIGHT["trace"]
PACKAGE = Path(__file__).resolve().parents[1] / "src" / "outrider"


class Import(NamedTuple):
    name: str  # dotted, with what is taken from it: "outrider.runtimes.base.Model", "time.perf_counter"
    line: int


def imports(parts: tuple[str, ...], source: str) -> Iterator[Import]:
    """Every import of the module at `parts`, wherever it stands: in functions and under TYPE_CHECKING too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = list(parts[: -node.level]) if node.level else []
            base += [node.module] if node.module else []
            yield from (Import(".".join([*base, alias.name]), node.lineno) for alias in node.names)


def room_of(parts: Sequence[str]) -> str | None:
    """The room that a module, or a name in it, belongs to: the longest beginning that has a floor."""
    inside = parts[1:]
    names = (".".join(inside[:length]) for length in range(len(inside), 0, -1))
    return next((name for name in names if name in HEIGHT), None)


def violations(parts: tuple[str, ...], source: str) -> list[str]:
    """What breaks the layering in the module at `parts`: ("outrider", "runtimes", "base"), for example."""
    own = room_of(parts)
    if own is None:  # the __init__ of a folder with floors of its own
        own = next(name for name in HEIGHT if name.startswith(f"{parts[1]}."))
    found = []
    for name, line in imports(parts, source):
        where = f"{'/'.join(parts)}.py:{line}: {own} imports {name}"
        if parts[1] in MATHEMATICS and any(f"{name}.".startswith(f"{foreign}.") for foreign in FOREIGN):
            found.append(f"{where}, and mathematics knows no models, clocks, files or hidden randomness")
        elif name == "outrider" or name.startswith("outrider."):
            other = room_of(name.split("."))
            if other is None:  # a name that the package itself exports, and so all that lies behind it
                if HEIGHT[own] <= TOP_OF_LIBRARY:
                    found.append(f"{where}: below the rooms, import it from the module that defines it")
            elif other != own and HEIGHT[other] >= HEIGHT[own]:
                found.append(f"{where}, which is not on a floor below it")
    return found


def unplaced(modules: Iterable[tuple[str, ...]]) -> list[str]:
    homeless = sorted({".".join(parts[1:]) for parts in modules if room_of(parts) is None and parts[-1] != "__init__"})
    return [f"{name}: place it on a floor, in FLOORS of tests/test_layers.py" for name in homeless]


def modules() -> Iterator[Path]:
    """The modules of the package but its own __init__, which exports from every floor."""
    return (path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py")


def parts_of(path: Path) -> tuple[str, ...]:
    return path.relative_to(PACKAGE.parent).with_suffix("").parts


def test_every_module_stands_on_a_floor() -> None:
    assert unplaced(parts_of(path) for path in modules()) == []


def test_each_floor_imports_only_from_floors_below_it() -> None:
    placed = list(modules())
    assert len(placed) > 100
    assert [wrong for path in placed for wrong in violations(parts_of(path), path.read_text("utf-8"))] == []


@pytest.mark.parametrize(
    "module, source",
    [
        ("errors", "import outrider.maths.arrays"),
        ("maths.noise", "from outrider.maths.sampling import SamplingParams"),
        ("maths.arrays.__init__", "from outrider.maths import noise"),
        ("maths.arrays.base", "from outrider.maths.arrays import numpy"),
        ("maths.arrays.numpy", "from outrider.maths.arrays import operations"),
        ("maths.arrays.torch", "from outrider.maths.arrays.mlx import top"),
        ("maths.sampling", "from outrider.maths.noise import uniform"),
        ("maths.draft", "from outrider.maths.budget import Budget"),
        ("maths.draws", "from outrider.maths.distributions import OnDemand"),
        ("maths.distributions", "from outrider.maths.rules import follow"),
        ("maths.__init__", "from outrider.maths.rules import token"),
        ("runtimes.base", "from outrider.engine.engine import Engine"),
        ("runtimes.base", "from ..engine import engine"),
        ("runtimes.__init__", "from .. import engine"),
        ("runtimes.torch.session", "from ..mlx import cache\nfrom ...engine import engine"),
        ("runtimes.base", "from outrider import api"),
        ("runtimes.base", "from outrider import SamplingParams"),
        ("runtimes.base", "import outrider.lookahead"),
        ("api.decoder", "import outrider"),
        ("drafters.model", "def late():\n    from outrider.engine.events import Request"),
        ("text", "if typing.TYPE_CHECKING:\n    from outrider.runtimes.base import Model"),
        ("server.app", "from outrider.bench.report import table"),
        ("bench.report", "import numpy, outrider.cli.main"),
        ("maths.noise", "import time"),
        ("lookahead.costs.passes", "from time import perf_counter"),
        ("maths.sampling", "import os.path"),
        ("maths.draft", "from pathlib import Path"),
        ("maths.rules", "from numpy import random"),
        ("maths.rules", "def late():\n    import random"),
        ("maths.rules", "from outrider.runtimes.base import Model"),
    ],
)
def test_a_planted_violation_is_caught(module: str, source: str) -> None:
    assert len(violations(("outrider", *module.split(".")), source)) == 1


@pytest.mark.parametrize(
    "module, source",
    [
        ("maths.rules", "import numpy as np\nfrom outrider.maths.noise import Key\nfrom outrider import errors"),
        ("maths.rules", "from outrider.maths.arrays.base import Array"),
        ("maths.arrays.torch", "import torch\nfrom outrider.maths.arrays import numpy as in_numpy"),
        ("lookahead", "import timeit_of_mine, randomness"),
        ("lookahead.goodput.chains", "from outrider.lookahead.costs.passes import CostCurve"),
        ("runtimes.table", "from outrider.runtimes.base import Model\nfrom .base import Session"),
        ("runtimes.__init__", "from .base import Model"),
        ("engine.engine", "import time, outrider.drafters.base"),
        ("server.app", "from outrider import Engine, __version__"),
        ("cli.main", "import os, outrider, outrider.server.app, outriders"),
    ],
)
def test_an_allowed_import_is_not(module: str, source: str) -> None:
    assert violations(("outrider", *module.split(".")), source) == []


def test_a_module_without_a_floor_is_caught() -> None:
    (message,) = unplaced([("outrider", "engine", "engine"), ("outrider", "attic"), ("outrider", "maths", "__init__")])
    assert message.startswith("attic: place it on a floor")


def test_importing_all_names_imports_no_runtime() -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1])\nfrom outrider import *\nprint(*sys.modules)"
    command = [sys.executable, "-c", code, str(PACKAGE.parent)]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert "outrider.api.decoder" in loaded
    assert [name for name in LAZY if name in loaded] == []

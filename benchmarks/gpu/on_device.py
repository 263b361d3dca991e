"""The tests of the repository, with PyTorch's models and arrays on the device."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.gpu.run import Run

if TYPE_CHECKING:
    from outrider.runtimes.torch.model import TransformersModel


class OnDevice:
    """A plugin of pytest that moves what the tests make to the device, and leaves out what does not run there."""

    LEFT_OUT = ("numpy", "mlx", "llamacpp", "fused-", "int8", "course", "table", "function")

    def __init__(self, run: Run) -> None:
        self._run = run
        self.counts: Counter[str] = Counter()

    def pytest_configure(self) -> None:
        libraries: Any = importlib.import_module("exactness.libraries")
        maker, device = libraries.array_maker, self._run.device

        def array_maker(library: str) -> Callable[[Any], Any]:
            return (lambda values: torch.tensor(values, device=device)) if library == "torch" else maker(library)

        libraries.array_maker = array_maker
        self._move_models(importlib.import_module("tiny.runtimes"))

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        for module in {item.module for item in items}:
            if module.__name__.endswith("test_runtimes"):
                make = module.torch
                module.torch = lambda kind, seed, make=make: self._moved_model(make(kind, seed))
        items[:] = [item for item in items if self._runs_here(item)]

    def _runs_here(self, item: Any) -> bool:
        where = item.nodeid.rpartition("[")[2] if "[" in item.nodeid else item.name
        return not any(word in where for word in self.LEFT_OUT)

    def _move_models(self, module: Any) -> None:
        tiny = module.tiny

        def moved(kind: str, **settings: Any) -> Any:
            made = tiny(kind, **settings).to(self._run.device)
            made.register_forward_pre_hook(self._move_inputs, with_kwargs=True)
            return made

        def plain(kind: str, dtype: str = "float32", **settings: Any) -> Callable[[], TransformersModel]:
            """The lean pass is for CPUs: here these tests are of transformers' pass."""
            from outrider.runtimes.torch.model import TransformersModel

            return lambda: TransformersModel(moved(kind, **settings).to(getattr(torch, dtype)))

        module.tiny, module.GRAPHED_ON = moved, self._run.device
        module.fused = lambda *kind, **settings: module.Subject(plain(*kind, **settings))

    def _move_inputs(self, module: Any, args: Any, kwargs: Any) -> Any:
        def move(value: Any) -> Any:
            return value.to(self._run.device) if isinstance(value, torch.Tensor) else value

        return tuple(map(move, args)), {name: move(value) for name, value in kwargs.items()}

    def _moved_model(self, model: TransformersModel) -> TransformersModel:
        model.module.to(self._run.device)
        return model

    def pytest_runtest_setup(self, item: Any) -> None:
        if self._run.over:
            import pytest

            pytest.skip("the time of the section is over")

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call" or report.outcome != "passed":
            self.counts[report.outcome] += 1
        if report.failed:
            self._run.record(test=report.nodeid, right=False, error=str(report.longrepr)[-700:])


TEST_FILES = (
    "runtimes/test_sessions.py",
    "maths/test_arrays.py",
    "maths/test_verification.py",
    "maths/test_sampling.py",
    "runtimes/test_torch_sessions.py",
    "exactness/test_runtimes.py",
    "exactness/test_verify_speculation.py",
    "exactness/test_array_libraries.py",
)


def check_tests(run: Run) -> None:
    """The tests that can run on the device."""
    if importlib.util.find_spec("pytest") is None:
        run.record(tests="left out: pytest is not installed")
        return
    import pytest

    sys.path.insert(0, str(run.tests))
    plugin = OnDevice(run)
    files = [str(run.tests / file) for file in TEST_FILES if (run.tests / file).exists()]
    if run.tiny:
        files = files[:2]
    run.record(files=len(files))
    status = pytest.main(["-q", "-p", "no:cacheprovider", "--no-header", "--tb=short", "-r", "", *files], [plugin])
    run.record(tests=dict(plugin.counts), status=int(status), right=plugin.counts["failed"] == 0)

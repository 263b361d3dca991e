"""A target that is divided among processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Annotated

from outrider.cli.options.group import option
from outrider.cli.options.models import MODELS, ModelOptions
from outrider.cli.terminal import working
from outrider.errors import SettingError
from outrider.runtimes.backends import FILE_TYPES, require_installed
from outrider.runtimes.base import Model


@dataclass(frozen=True, slots=True)
class ParallelOptions:
    """Whether the target is divided among the processes that torchrun starts."""

    tensor_parallel: Annotated[
        int | None,
        option(
            "--tensor-parallel --tensor-parallel-size -tp",
            "N",
            "Divide the target among the N processes of torchrun --nproc-per-node N -m outrider ...",
            MODELS,
        ),
    ] = None

    def check(self, models: ModelOptions) -> ModelOptions:
        """The models as they are run.

        Raises:
            SettingError: a value is out of its range, or other flags do not go with it.
        """
        if self.tensor_parallel is None:
            return models
        if self.tensor_parallel < 1:
            raise SettingError(f"--tensor-parallel is {self.tensor_parallel}: it must be at least 1")
        runtime = models.runtime
        if runtime.backend not in ("auto", "torch"):
            raise SettingError(f"--tensor-parallel is for PyTorch and --backend is {runtime.backend}: leave one out")
        if models.max_memory is not None or models.offload_folder is not None:
            raise SettingError("--tensor-parallel divides the weights and --max-memory offloads them: leave one out")
        for flag, given in (("--dtype", runtime.dtype in FILE_TYPES), ("--cache-type", runtime.cache_type is not None)):
            if given:
                raise SettingError(f"--tensor-parallel is for PyTorch and {flag} is of other backends: leave one out")
        return replace(models, runtime=replace(runtime, backend="torch"))

    @property
    def leads(self) -> bool:
        """Whether this process is the one that prints."""
        return self.tensor_parallel is None or os.environ.get("RANK", "0") == "0"

    @contextmanager
    def target(self, models: ModelOptions) -> Iterator[Model | None]:
        """The target, on rank 0; None on a rank that has followed rank 0 to its end.

        Raises:
            SettingError: torchrun has started another number of processes.
            ModelError: the model cannot be opened, or not be divided.
        """
        if self.tensor_parallel is None:
            yield models.open_target()
            return
        require_installed("torch", models.model)
        from outrider.runtimes.torch.divided import divided

        runtime, spinner = models.runtime, ExitStack()
        with (
            spinner,
            divided(
                models.model,
                self.tensor_parallel,
                dtype=runtime.dtype or "auto",
                device=runtime.device,
                threads=runtime.threads,
                context_length=models.ctx_size,
                trust_remote_code=runtime.trust_remote_code,
                progress=spinner.enter_context(working(f"opening {models.model}")) if self.leads else _silent,
            ) as target,
        ):
            spinner.close()
            yield target


def _silent(message: str) -> None:
    pass

"""Which models, and how they are run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import outrider
from outrider.cli.options.group import option
from outrider.cli.terminal import messages, working
from outrider.errors import SettingError
from outrider.runtimes.backends import Backend, CacheDtype, Dtype, find_backend
from outrider.runtimes.base import Model
from outrider.runtimes.files.places import is_gguf, local, stands_in_a_file

MODELS = "Models"


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """How a model is run.

    Attributes:
        dtype: None is the command's own default.
        threads: None leaves it to the backend.
        cache_type: None is the backend's own.
    """

    backend: Annotated[
        Backend,
        option(
            "--backend",
            "NAME",
            "What runs the models: torch, native, llama, mlx, or auto: native on a CPU for models that it computes, "
            "otherwise what their files are for.",
            MODELS,
        ),
    ] = "auto"
    dtype: Annotated[
        Dtype | None,
        option(
            "--dtype",
            "TYPE",
            "Precision: float32, bfloat16, float16, int8, on a GPU also int4, in native q8_0 or q4_0, for "
            "smollm2 in llama.cpp q8_0, q4_1 or q4_0; or auto: what is fast here. Default: auto; for check of a "
            "folder float32.",
            MODELS,
        ),
    ] = None
    device: Annotated[str, option("--device", "NAME", "auto, cpu, cuda, cuda:1, mps ...", MODELS)] = "auto"
    threads: Annotated[int | None, option("--threads -t", "N", "Threads of the CPU to compute with.", MODELS)] = None
    cache_type: Annotated[
        CacheDtype | None,
        option(
            "--cache-type",
            "TYPE",
            "Keys and values: float32, float16, in llama.cpp also q8_0 or q4_0.",
            MODELS,
        ),
    ] = None
    trust_remote_code: Annotated[
        bool, option("--trust-remote-code", None, "Run the Python code that a model brings along.", MODELS)
    ] = False

    def open(
        self,
        name: str,
        context_length: int | None = None,
        max_memory: str | None = None,
        offload_folder: Path | None = None,
    ) -> Model:
        """Load a model, with a spinner.

        Args:
            context_length: the longest text in tokens; None is what the model was made for.
            max_memory, offload_folder: as for `outrider.load`.

        Raises:
            ModelError, SettingError: as `outrider.load`.
        """
        if self.threads is not None and self.threads < 1:
            raise SettingError(f"--threads is {self.threads}: it must be at least 1")
        with working(f"opening {name}") as say:
            return outrider.load(
                name,
                backend=self.backend,
                dtype=self.dtype or "auto",
                device=self.device,
                threads=self.threads,
                cache_type=self.cache_type,
                context_length=context_length,
                max_memory=max_memory,
                offload_folder=offload_folder,
                trust_remote_code=self.trust_remote_code,
                progress=say,
            )

    def say_whether_rounded(self, name: str) -> None:
        """A line where the weights of this model were rounded, and no flag asked for it."""
        if self._rounds(name):
            messages().print(
                f"the weights of {name} were rounded to 8 bits (q8_0) for the native runtime: "
                "--backend torch takes them as they are",
                style="dim",
            )

    def _rounds(self, name: str) -> bool:
        asked = self.backend != "auto" or self.dtype not in (None, "auto")
        return not stands_in_a_file(name) and not asked and self.backend_of(name) == "native"

    def backend_of(self, name: str) -> Backend:
        """What runs this model."""
        if self.backend != "auto":
            return self.backend
        dtype = self.dtype or "auto"
        return find_backend(name, dtype=dtype, device=self.device, cache_type=self.cache_type)


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """Target and draft model.

    Attributes:
        draft_backend: auto runs the draft model like the target, unless its files are for another backend.
        ctx_size: in tokens.
    """

    model: Annotated[
        str,
        option(
            "--model -m",
            "NAME",
            "The target: a folder, a GGUF file, a name of the hub (for GGUF user/model:Q4_K_M), or smollm2.",
            MODELS,
        ),
    ] = "smollm2"
    draft_model: Annotated[
        str | None, option("--draft-model -md", "NAME", "A smaller model that drafts, or a draft head.", MODELS)
    ] = None
    runtime: RuntimeOptions = RuntimeOptions()
    draft_backend: Annotated[
        Backend, option("--draft-backend", "NAME", "What runs the draft model. Default: the same.", MODELS)
    ] = "auto"
    ctx_size: Annotated[
        int | None,
        option("--ctx-size -c", "N", "The longest text, in tokens. Default: the model's context.", MODELS),
    ] = None
    max_memory: Annotated[
        str | None,
        option("--max-memory", "SIZE", "4GiB: keep so much of the target in memory, read the rest each pass.", MODELS),
    ] = None
    offload_folder: Annotated[
        Path | None, option("--offload-folder", "DIR", "Where weights go that are read each pass.", MODELS)
    ] = None

    @property
    def target_backend(self) -> Backend:
        """What runs the target."""
        return "torch" if self.max_memory is not None else self.runtime.backend_of(self.model)

    def open_target(self) -> Model:
        """Load the target."""
        return self.runtime.open(self.model, self.ctx_size, self.max_memory, self.offload_folder)

    def say_whether_rounded(self) -> None:
        """A line where the target's weights were rounded, and no flag asked for it."""
        if self.max_memory is None:
            self.runtime.say_whether_rounded(self.model)

    def open_draft(self) -> Model:
        """Load the draft model: run like the target where the flags do not say, by what its files are for."""
        assert self.draft_model is not None
        backend = self.draft_backend
        if backend == "auto" and _runs_anywhere(self.draft_model):
            backend = self.runtime.backend
        if backend == self.runtime.backend:
            return self.runtime.open(self.draft_model)
        return replace(self.runtime, backend=backend, dtype=None, cache_type=None).open(self.draft_model)


def _runs_anywhere(name: str) -> bool:
    """Whether the files of a model are for no backend in particular."""
    return not is_gguf(Path(local(name)).expanduser()) and find_backend(name) in ("torch", "native")

"""Which runtime runs a model, by its files and by what is installed."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from outrider.errors import ModelError
from outrider.runtimes.files.folder import CONFIG, head_of, read_object
from outrider.runtimes.files.places import is_gguf, is_hub_name, local
from outrider.runtimes.files.smollm2 import SMOLLM2, smollm2_file

Backend = Literal["auto", "torch", "native", "llama", "mlx"]
Dtype = Literal["auto", "float32", "bfloat16", "float16", "int8", "int4", "q8_0", "q4_1", "q4_0"]
CacheDtype = Literal["float32", "float16", "q8_0", "q4_0"]  # of keys and values in llama.cpp and native
FILE_TYPES = ("q8_0", "q4_1", "q4_0")  # that only llama.cpp and native know
WITH_FILE_TYPES = ("llama", "native")  # and keys and values in a precision of their own


@dataclass(frozen=True, slots=True)
class Runtime:
    """A runtime, by which `outrider.load` finds it.

    Attributes:
        opened_by: the module of outrider.runtimes whose `load` opens a model from LoadSettings.
        needs: the modules of PyPI's packages that must be installed; none for native, whose library says by itself what
            it lacks (`native/library.py`).
        title: what these are called.
    """

    opened_by: str
    needs: tuple[str, ...] = ()
    title: str = ""


RUNTIMES = {
    "torch": Runtime("torch.opening", ("torch", "transformers"), "PyTorch and transformers"),
    "native": Runtime("native.loading"),
    "llama": Runtime("llamacpp.loading", ("llama_cpp",), "llama.cpp"),
    "mlx": Runtime("mlx.loading", ("mlx", "mlx_lm"), "MLX and mlx-lm"),
}
# Settings with which native may be chosen: the others are words of PyTorch's.
NATIVE_DTYPES = ("auto", "q8_0", "q4_0")
NATIVE_CACHES = (None, "float32", "float16")
GPU_FILES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # of NVIDIA, of AMD, and of either in WSL


def find_backend(name: str, *, dtype: str = "auto", device: str = "auto", cache_type: str | None = None) -> Backend:
    """The backend for a model: native for models it computes where there is no GPU, otherwise what the files are for.

    Args:
        dtype, device, cache_type: as in `outrider.load`.
    """
    name = local(name)
    path = Path(name).expanduser()
    gguf = path.suffix == ".gguf" or is_gguf(path)
    folder = None if gguf or name == SMOLLM2 else _folder(name)
    if folder is not None and _is_mlx(folder):
        return "mlx"
    asks_for_native = dtype in NATIVE_DTYPES and device in ("auto", "cpu") and cache_type in NATIVE_CACHES
    if asks_for_native and (device == "cpu" or not has_gpu()) and _native_computes(name, folder):
        return "native"
    return "llama" if gguf and is_installed("llama") else "torch"


def is_installed(backend: str) -> bool:
    """Whether what a backend needs can be imported; native also has to run here."""
    if backend != "native":
        return all(importlib.util.find_spec(module) is not None for module in RUNTIMES[backend].needs)
    from outrider.runtimes.native.library import core

    try:
        core()
    except ModelError:
        return False
    return True


def require_installed(backend: str, name: str) -> None:
    """Raises ModelError where what a backend needs is missing."""
    if backend == "native":
        from outrider.runtimes.native.library import core

        core()  # it is not on PyPI: its own line says how it is built
    elif not is_installed(backend):
        raise ModelError(f"model {name} needs {RUNTIMES[backend].title}: pip install 'outrider[{backend}]'")


def has_gpu() -> bool:
    """Whether this machine has a GPU that PyTorch or llama.cpp may be built for; asks no library, which takes time."""
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    if sys.platform == "win32":
        return (Path(os.environ.get("SYSTEMROOT", "C:\\Windows")) / "System32" / "nvcuda.dll").exists()
    return any(Path(file).exists() for file in GPU_FILES)


def _folder(name: str) -> Path | None:
    """The folder with the model's config.json; of a model of the hub, where that file lies; None if there is none."""
    if not is_hub_name(name):
        path = Path(name).expanduser()
        return path if (path / CONFIG).is_file() else None
    try:
        from outrider.runtimes.files.hub import fetch_file

        file = fetch_file(name, CONFIG)
    except (ImportError, ModelError):  # opening it says why
        return None
    return None if file is None else file.parent


def _native_computes(name: str, folder: Path | None) -> bool:
    from outrider.runtimes.native.library import is_installed as is_there
    from outrider.runtimes.native.library import misfit

    if importlib.util.find_spec("tokenizers") is None or not is_there() or not _is_of_native(name, folder):
        return False
    unused = misfit()
    if unused is not None:  # another runtime is slower, and nobody would know why
        warnings.warn(unused, RuntimeWarning, stacklevel=2)
    return unused is None


def _is_of_native(name: str, folder: Path | None) -> bool:
    """Whether native computes models of this kind, by their files."""
    from outrider.runtimes.native import loading as native

    if folder is None:
        file = smollm2_file() if name == SMOLLM2 else Path(name).expanduser()
        return file is not None and native.computes_file(file)
    return native.computes_config(folder) if is_hub_name(name) else native.computes_folder(folder)


def _is_mlx(folder: Path) -> bool:
    """Whether mlx-lm wrote the folder: its weights say so, or they are quantised in MLX's format."""
    try:
        config = read_object(folder / CONFIG)
    except ModelError:
        return False
    # mlx-lm writes "quantization" (and a copy of it where transformers looks), without transformers' quant_method.
    if isinstance(config.get("quantization"), dict) and "group_size" in config["quantization"]:
        return True
    weights = next(iter(sorted(folder.glob("model*.safetensors"))), None)
    return weights is not None and _metadata(weights).get("format") == "mlx"


def _metadata(weights: Path) -> dict[str, str]:
    """The metadata in the head of a safetensors file; empty if it has none."""
    try:
        found = head_of(weights).get("__metadata__", {})
    except ModelError:
        return {}
    return found if isinstance(found, dict) else {}

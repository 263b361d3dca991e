"""Opens GGUF files and transformers folders in the native runtime."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from outrider.errors import ModelError, SettingError, shown
from outrider.runtimes.files.folder import check_folder, weight_files
from outrider.runtimes.files.places import Place, find_place, is_gguf
from outrider.runtimes.files.refusals import opening
from outrider.runtimes.files.smollm2 import SMOLLM2, require_smollm2_file
from outrider.runtimes.host_memory import free_host_bytes
from outrider.runtimes.llamacpp.checks import check_file
from outrider.runtimes.llamacpp.header import Header
from outrider.runtimes.load_settings import LoadSettings
from outrider.runtimes.native import folder as folders
from outrider.runtimes.native import gguf, tokenizer
from outrider.runtimes.native.building import SAME, Builder
from outrider.runtimes.native.description import Description, Unknown
from outrider.runtimes.native.library import available_threads, core
from outrider.runtimes.native.model import NativeModel
from outrider.runtimes.native.parts import with_all_parts
from outrider.runtimes.native.weights import GgufSource, SafetensorsSource
from outrider.text import Tokenizer

# Kinds of packed weights by the name of the dtype; embedding and head stay in 8 bits beside 4-bit weights.
KINDS = {"q8_0": "q8_0", "q4_0": "q4_0", "bfloat16": "bf16", "float32": "f32"}
FOLDERS_KIND = "q8_0"
CPU = ("cpu", "auto")
Report = Callable[[int, int], None]  # layers packed, and all


def load(asked: LoadSettings) -> NativeModel:
    """See outrider.load.

    Raises:
        ModelError: the model is damaged, or not of a family that the native runtime knows.
        SettingError: a dtype, device or cache type that it does not have.
    """
    dtype, device, cache_type = asked.dtype, asked.device, asked.cache_type
    core()  # the line about what to install comes first
    if device not in CPU:
        raise SettingError(
            f"device {shown(device)} cannot be used: the native runtime runs on the CPU; choose device cpu"
        )
    if dtype not in ("auto", *KINDS):
        raise SettingError(f"dtype {dtype} is not of the native runtime: choose one of {', '.join(KINDS)}")
    if cache_type not in (None, "float16", "float32"):
        raise SettingError(f"cache_type {cache_type} is not of the native runtime: choose float16 or float32")
    place = asked.place or place_of(asked.name, asked.progress)
    path, title = place.path, place.title
    asked.progress(f"opening {title}")
    threads = asked.threads or available_threads()
    cache = cache_type or ("float32" if dtype == "float32" else "float16")

    def report(layer: int, layers: int) -> None:
        asked.progress(f"opening {title}: {layer} of {layers} layers")

    with opening(title):
        try:
            if path.is_file():
                return _open_file(path, title, dtype, threads, cache, report)
            check_folder(path)
            return _open_folder(path, title, dtype, threads, cache, asked.trust_remote_code, report)
        except Unknown as error:
            raise ModelError(
                f"model {title} is not for the native runtime: {error}; choose backend torch or llama"
            ) from error


def place_of(name: str, progress: Callable[[str], None]) -> Place:
    """The files of a model. The shipped file of smollm2 is read as it is: nothing has to be converted.

    Raises:
        ModelError: there are none.
    """
    if name == SMOLLM2:
        return Place(require_smollm2_file(), SMOLLM2)
    path = Path(name).expanduser()
    return Place(path, path.stem) if is_gguf(path) else find_place(name, progress)


def computes_file(path: Path) -> bool:
    """Whether the model of a GGUF file is computed here, and its tokenizer read; False if the file is damaged."""
    try:
        header, _ = _described(path)
    except (Unknown, ModelError):
        return False
    return tokenizer.reads(header) or importlib.util.find_spec("llama_cpp") is not None


def computes_folder(folder: Path) -> bool:
    """Whether the native runtime computes the model of a folder; False if it is damaged."""
    try:
        if not weight_files(folder):
            return False
        check_folder(folder)
    except ModelError:
        return False
    return computes_config(folder)


def computes_config(folder: Path) -> bool:
    """The same by the folder's config.json alone."""
    try:
        folders.describe(folder)
    except (Unknown, ModelError):
        return False
    return True


def _described(path: Path) -> tuple[Header, Description]:
    """What a GGUF file says of itself. Reading it takes as long as many passes, so it is done once for each file.

    Raises:
        ModelError: it is damaged.
        Unknown: it is of another family.
    """
    stat = path.stat() if path.is_file() else None
    return _read(path, *((0, 0) if stat is None else (stat.st_mtime_ns, stat.st_size)))


@lru_cache(maxsize=4)
def _read(path: Path, changed: int, size: int) -> tuple[Header, Description]:
    header = with_all_parts(path, check_file(path))
    return header, gguf.describe(header, path)


def _open_file(path: Path, title: str, dtype: str, threads: int, cache: str, report: Report) -> NativeModel:
    header, description = _described(path)
    _warn_of_length(description, title)
    if dtype == "auto":
        _warn_of_memory(sum(part.stat().st_size for part, _ in ((path, 0), *header.parts)), title)
    target, outer = (SAME, SAME) if dtype == "auto" else (KINDS[dtype], _outer(KINDS[dtype]))
    builder = Builder(description, GgufSource(path, header), gguf.names_of(header), target, outer, threads, report)
    return NativeModel(builder.model(), description, _tokenizer_of(header, path), title, cache, builder.embedding)


def _warn_of_memory(needed: int, title: str) -> None:
    """Where weights do not fit, Linux ends the process without a word."""
    free = free_host_bytes()
    if free is not None and needed > free:
        warnings.warn(
            f"the weights of model {title} take {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB of memory are free: the "
            "system may end this process; a file of fewer bits takes less, and --backend llama reads it from the disk",
            RuntimeWarning,
            stacklevel=5,
        )


def _open_folder(
    path: Path, title: str, dtype: str, threads: int, cache: str, trust_remote_code: bool, report: Report
) -> NativeModel:
    description = folders.describe(path)
    _warn_of_length(description, title)
    files = weight_files(path)
    if not files:
        raise Unknown("its folder has no safetensors files")
    target = FOLDERS_KIND if dtype == "auto" else KINDS[dtype]
    source = folders.source_of(path, SafetensorsSource(files))
    builder = Builder(description, source, folders.names_of(path), target, _outer(target), threads, report)
    words = tokenizer.of_folder(path, trust_remote_code)
    return NativeModel(builder.model(), description, words, title, cache, builder.embedding)


def _warn_of_length(description: Description, title: str) -> None:
    if description.stated_length:
        warnings.warn(
            f"model {title} takes texts of up to {description.context_length} tokens here, not "
            f"{description.stated_length}: beyond that its rotations (longrope) change for the whole text",
            RuntimeWarning,
            stacklevel=5,
        )


def _outer(target: str) -> str:
    return "q8_0" if target == "q4_0" else target


def _tokenizer_of(header: Header, path: Path) -> Tokenizer | None:
    """The tokenizer of the file: read here, or by llama.cpp where that is installed.

    Raises:
        ModelError: it is of a kind that only llama.cpp reads, and that is not installed.
    """
    try:
        return tokenizer.of_gguf(header, path)
    except Unknown as error:
        try:
            from outrider.runtimes.llamacpp.loading import open_file
            from outrider.runtimes.llamacpp.model import LlamaCppModel
        except ImportError:
            raise ModelError(f"model file {path}: {error}; pip install 'outrider[llama]'") from error
        return LlamaCppModel(open_file(path), path.stem).tokenizer

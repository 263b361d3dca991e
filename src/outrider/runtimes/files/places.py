"""From the name of a model to the files that it is opened from."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from outrider.errors import ModelError
from outrider.runtimes.files.folder import CONFIG
from outrider.runtimes.files.smollm2 import SMOLLM2, converted_folder, is_converted

GGUF = b"GGUF"
LONGEST_PART, LONGEST_PATH = 255, 4095  # bytes of a file's name, characters of a path: limits of file systems
LONGEST_SHOWN = 60  # characters of a name in a message about its length


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model's files are.

    Attributes:
        path: a folder with a config.json, or a GGUF file.
        title: names the model in messages.
    """

    path: Path
    title: str


def as_name(given: object) -> str:
    """The name or path of a model as text.

    Raises:
        ModelError: it is neither, or no file and no model can be called that.
    """
    if not isinstance(given, str | Path):
        raise ModelError(
            f"{type(given).__name__} is no name or path of a model: give text, or the object where a model is asked for"
        )
    name = str(given)
    shown = name if len(name) <= LONGEST_SHOWN else f"{name[:LONGEST_SHOWN]}..."
    if not name or "\0" in name:
        raise ModelError(f"model name {shown!r} is empty or has a NUL: give a folder, a GGUF file or a name of the hub")
    if max(len(part.encode("utf-8", "replace")) for part in name.split("/")) > LONGEST_PART or len(name) > LONGEST_PATH:
        raise ModelError(f"model name {shown} has {len(name)} characters: no file is called that; check the path")
    return name


def is_hub_name(name: str) -> bool:
    """Whether it can only be the name of a model of the hub.

    Raises:
        ModelError: no file and no model can be called that.
    """
    path = Path(as_name(name)).expanduser()
    file = path.suffix == ".gguf" and ":" not in name
    here = name == SMOLLM2 or file or path.exists() or path.is_absolute()
    return not (here or name.startswith((".", "~")) or name.count("/") > 1)


def local(name: str) -> str:
    """The path of a GGUF file that a name of the hub means (user/model-GGUF:Q4_K_M), downloaded the first time; any
    other name as it is.

    Raises:
        ModelError: the hub has no such file, or it cannot be downloaded.
    """
    if not is_hub_name(name) or not (":" in name or "gguf" in name.lower()):
        return name
    _require_client(name)
    from outrider.runtimes.files.hub_gguf import gguf_file

    file = gguf_file(name)
    return name if file is None else str(file)


def _require_client(name: str) -> None:
    if importlib.util.find_spec("huggingface_hub") is None:
        raise ModelError(
            f"model {name} is not on this machine, and neither is the client of the hub: pip install huggingface_hub"
        )


def is_gguf(path: Path) -> bool:
    """Whether it is a GGUF file, whatever its name is."""
    as_name(path)
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(GGUF)) == GGUF


def stands_in_a_file(name: str) -> bool:
    """Whether the weights of a model stand in a GGUF file, whose own numbers can be computed; otherwise in a folder."""
    return name == SMOLLM2 or is_gguf(Path(local(as_name(name))).expanduser())


def find_place(name: str, progress: Callable[[str], None], *, code: bool = False) -> Place:
    """The files of a model for transformers or mlx-lm: downloaded, or converted, the first time.

    Args:
        name: a folder, a GGUF file, a name of the hub, or "smollm2".
        progress: called with a few words about each step.
        code: whether Python code is downloaded too.

    Raises:
        ModelError: there are no such files.
    """
    if name == SMOLLM2:
        return Place(_smollm2_folder(progress), SMOLLM2)
    path = Path(name := local(name)).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ModelError(f"model file {name} does not exist: check the path")
        return Place(path, path.stem)
    if path.is_dir():
        if not (path / CONFIG).exists():
            raise ModelError(f"folder {name} has no config.json: give a model folder or a GGUF file")
        return Place(path, path.name)
    if path.exists():
        raise ModelError(f"model file {name} is no GGUF file: give a model folder or a GGUF file")
    if not is_hub_name(name):
        raise ModelError(f"model folder {name} does not exist: check the path")
    _require_client(name)
    from outrider.runtimes.files.hub import fetch

    progress(f"looking for {name}")
    return Place(fetch(name, code=code), name)


def _smollm2_folder(progress: Callable[[str], None]) -> Path:
    if is_converted():
        return converted_folder()
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("transformers") is None:
        raise ModelError("model smollm2 is converted by PyTorch, once: pip install 'outrider[torch]'")
    from outrider.runtimes.torch.conversion import smollm2_folder

    return smollm2_folder(progress)

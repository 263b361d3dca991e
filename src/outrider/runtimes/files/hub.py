"""Fetching models from the Hugging Face hub, where it can be reached."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import (
    HfApi,
    constants,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    snapshot_download,
    try_to_load_from_cache,
)
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, RepositoryNotFoundError

from outrider.errors import ModelError, first_line

SECONDS = 5
ELSEWHERE = "give a folder, a GGUF file, or smollm2"
CONFIG = "config.json"
# A model's weights, its configuration, and its tokenizer.
WEIGHTS = "model*.safetensors"
FILES = ["*.json", WEIGHTS, "*.model", "*.tiktoken", "*.txt", "*.jinja"]
PICKLED = ["pytorch_model*.bin"]
CODE = ["*.py"]


def require_hub(name: str) -> None:
    """Fail at once if a model must be downloaded and the hub is out of reach; downloads retry for minutes.

    The hub's own client asks, so that proxies, mirrors and tokens count as they do for the download.

    Raises:
        ModelError: the model is not in the local cache, and the hub cannot be reached, or has no such model.
    """
    _require_name(name)
    if isinstance(try_to_load_from_cache(name, CONFIG), str):
        return
    _require_online(name)
    with _asking_for(name):
        get_hf_file_metadata(hf_hub_url(name, CONFIG), timeout=SECONDS)


def list_files(name: str) -> list[str]:
    """The files of a model of the hub; those on this machine where the hub cannot be reached.

    Raises:
        ModelError: as `require_hub`.
    """
    _require_name(name)
    kept = _kept_files(name)
    try:
        _require_online(name)
        with _asking_for(name):
            return [file.rfilename for file in HfApi().model_info(name, timeout=SECONDS).siblings or ()]
    except ModelError:
        if kept:
            return kept
        raise


def fetch_listed(name: str, file: str) -> Path:
    """A file that `list_files` names, downloaded the first time.

    Raises:
        ModelError: it cannot be downloaded.
    """
    try:
        return Path(hf_hub_download(name, file, etag_timeout=SECONDS))
    except Exception as error:  # of whatever HTTP library too: a download may stop in mid-file
        raise ModelError(f"{file} of model {name} cannot be downloaded: {first_line(error)}") from error


def _kept_files(name: str) -> list[str]:
    try:
        folder = Path(snapshot_download(name, local_files_only=True))
    except (OSError, ValueError):
        return []
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


def _require_online(name: str) -> None:
    if constants.HF_HUB_OFFLINE:
        raise ModelError(
            f"model {name} is not on this machine, and HF_HUB_OFFLINE is set: unset it to download, or {ELSEWHERE}"
        )


@contextmanager
def _asking_for(name: str) -> Iterator[None]:
    try:
        yield
    except RepositoryNotFoundError as error:
        raise ModelError(f"the hub has no model {name} that you may read: check the name, or {ELSEWHERE}") from error
    except HfHubHTTPError as error:
        raise ModelError(f"model {name} cannot be downloaded: {first_line(error)}") from error
    except Exception as error:  # of whatever HTTP library the hub's client stands on
        raise ModelError(
            f"model {name} is not on this machine, and {constants.ENDPOINT} cannot be reached "
            f"({first_line(error)}): {ELSEWHERE}"
        ) from error


def _require_name(name: str) -> None:
    try:
        hf_hub_url(name, CONFIG)
    except HFValidationError as error:
        raise ModelError(
            f"{name!r} is no file or folder here, and can be no name of the hub: check the path"
        ) from error


def fetch(name: str, *, code: bool = False) -> Path:
    """The folder of a model of the hub, downloaded the first time.

    Args:
        code: whether its Python files are wanted too.

    Raises:
        ModelError: there is no such model, or it cannot be downloaded.
    """
    require_hub(name)
    try:
        folder = Path(snapshot_download(name, allow_patterns=[*FILES, *(CODE if code else ())]))
        if not any(True for _ in folder.glob(WEIGHTS)):  # older models have pickled weights alone
            folder = Path(snapshot_download(name, allow_patterns=PICKLED))
        return folder
    except Exception as error:  # of whatever HTTP library too: a download may stop in mid-file
        raise ModelError(f"model {name} cannot be downloaded: {first_line(error)}") from error


def commit_of(name: str) -> str:
    """The commit of the model that `fetch` would open.

    Raises:
        ModelError: as `fetch`.
    """
    file = fetch_file(name, CONFIG)
    if file is None:
        raise ModelError(f"model {name} of the hub has no {CONFIG}: give a model of transformers or mlx-lm")
    return file.parent.name


def fetch_file(name: str, file: str) -> Path | None:
    """One file of a model of the hub; None where it has no such file.

    Raises:
        ModelError: as `fetch`.
    """
    require_hub(name)
    try:
        return Path(hf_hub_download(name, file, etag_timeout=SECONDS))
    except EntryNotFoundError:
        return None
    except Exception as error:  # of whatever HTTP library too: a download may stop in mid-file
        raise ModelError(f"{file} of model {name} cannot be downloaded: {first_line(error)}") from error

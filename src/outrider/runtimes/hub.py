"""Fetching models from the Hugging Face hub, where it can be reached."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from outrider.errors import ModelError, first_line

SECONDS = 5
CONFIG = "config.json"
# A model's weights, its configuration, and its tokenizer.
FILES = ["*.json", "model*.safetensors", "*.model", "*.tiktoken", "*.txt", "*.jinja"]


def require_hub(name: str) -> None:
    """Fail at once if a model must be downloaded and the hub is out of reach; downloads retry for minutes.

    The hub's own client asks, so that proxies, mirrors and tokens count as they do for the download.

    Raises:
        ModelError: the model is not in the local cache, and the hub cannot be reached, or has no such model.
    """
    if isinstance(try_to_load_from_cache(name, CONFIG), str):
        return
    elsewhere = "give a folder, a GGUF file, or smollm2"
    if constants.HF_HUB_OFFLINE:
        raise ModelError(
            f"model {name} is not on this machine, and HF_HUB_OFFLINE is set: unset it to download, or {elsewhere}"
        )
    try:
        get_hf_file_metadata(hf_hub_url(name, CONFIG), timeout=SECONDS)
    except RepositoryNotFoundError as error:
        raise ModelError(f"the hub has no model {name} that you may read: check the name, or {elsewhere}") from error
    except HfHubHTTPError as error:
        raise ModelError(f"model {name} cannot be downloaded: {first_line(error)}") from error
    except Exception as error:  # of whatever HTTP library the hub's client stands on
        raise ModelError(
            f"model {name} is not on this machine, and {constants.ENDPOINT} cannot be reached "
            f"({first_line(error)}): {elsewhere}"
        ) from error


def fetch(name: str) -> Path:
    """The folder of a model of the hub, downloaded the first time.

    Raises:
        ModelError: there is no such model, or it cannot be downloaded.
    """
    require_hub(name)
    try:
        return Path(snapshot_download(name, allow_patterns=FILES))
    except (OSError, ValueError) as error:
        raise ModelError(f"model {name} cannot be downloaded: {first_line(error)}") from error

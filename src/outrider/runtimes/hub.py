"""Fetching models from the Hugging Face hub, where it can be reached."""

from __future__ import annotations

import socket
from pathlib import Path
from urllib.parse import urlsplit

from huggingface_hub import constants, snapshot_download, try_to_load_from_cache

from outrider.errors import ModelError, first_line

SECONDS = 5
# A model's weights, its configuration, and its tokenizer.
FILES = ["*.json", "model*.safetensors", "*.model", "*.tiktoken", "*.txt", "*.jinja"]


def require_hub(name: str) -> None:
    """Fail at once if a model must be downloaded and the hub is out of reach; the hub's own client retries for minutes.

    Raises:
        ModelError: the model is not in the local cache, and the hub cannot be reached.
    """
    if isinstance(try_to_load_from_cache(name, "config.json"), str):
        return
    host = urlsplit(constants.ENDPOINT).hostname or ""
    try:
        socket.create_connection((host, 443), timeout=SECONDS).close()
    except OSError as error:
        raise ModelError(
            f"model {name} is not on this machine, and {host} cannot be reached: give a folder, a GGUF file, or smollm2"
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

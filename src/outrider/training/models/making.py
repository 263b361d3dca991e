"""From a target and its texts to a small model in a folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from outrider.drafters.heads.opening import tensor_of
from outrider.errors import InputError
from outrider.runtimes.base import Embeds, Model
from outrider.runtimes.files.folder import WEIGHTS
from outrider.training.heads.checkpoint import Checkpoint
from outrider.training.heads.corpus import Reader
from outrider.training.heads.making import LONGEST, Made, require_enough, teach
from outrider.training.heads.trainer import Progress, TrainingSettings
from outrider.training.library import Library
from outrider.training.models.gguf_file import write_gguf
from outrider.training.models.student import ModelSizes, ModelStudent, begin_with

GGUF_FILE = "model.gguf"
# What says how a model reads text, where it has it.
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
)
MINUTES_FOR_LAYERS = 20.0  # of training, from which there are as many layers as these two say
FEW_LAYERS, MORE_LAYERS = 2, 4


def make_model(
    target: Model,
    library: Library,
    opening: Sequence[int],
    folder: Path,
    settings: TrainingSettings,
    sizes: ModelSizes,
    found: Checkpoint | None = None,
    tell: Callable[[Progress], None] = lambda progress: None,
) -> Made:
    """Train a small model of the target's vocabulary and write its weights; arguments as of `make_head`.

    Raises:
        InputError: there are too few texts, or the checkpoint is of another model.
        OSError: a file cannot be written.
    """
    require_enough(library)
    traits = target.traits
    long = settings.seconds >= 60 * MINUTES_FOR_LAYERS
    sizes = _made_of(found) if found else sizes.settled(target, MORE_LAYERS if long else FEW_LAYERS)
    student = ModelStudent(target, sizes, settings.seed)
    if isinstance(target, Embeds) and traits.hidden_size is not None:
        embedding = tensor_of(target.embedding())
        student.module.to(embedding.device)
        begin_with(student, embedding)
    reader = Reader(target, torch.arange(traits.vocab_size), (), min(LONGEST, traits.context_length))
    made: dict[str, object] = {"hidden": sizes.hidden, "layers": sizes.layers, "inner": sizes.inner}
    taught = teach(student, reader, library, opening, folder, settings, made, found, tell)
    student.module.to(torch.bfloat16).save_pretrained(folder)
    return taught


def write_tokenizer(files: Path, folder: Path) -> bool:
    """Put the target's tokenizer beside the small model; False where transformers cannot read it.

    Args:
        files: of the target: a folder, or a GGUF file.

    Raises:
        OSError: a file cannot be written.
    """
    if files.is_dir():
        for file in (files / name for name in TOKENIZER_FILES):
            if file.is_file():
                shutil.copy(file, folder / file.name)
        return True
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(files.parent, gguf_file=files.name)
    except Exception:  # whatever it says of a tokenizer that it does not know
        return False
    tokenizer.save_pretrained(folder)
    return True


def write_as_gguf(folder: Path, tokenizer: Path) -> Path:
    """The small model of a folder as a GGUF file in it, for llama.cpp.

    Args:
        tokenizer: a GGUF file of the target, whose tokenizer is taken.

    Raises:
        ModelError: that is no GGUF file.
        OSError: the file cannot be written.
    """
    assert (folder / WEIGHTS).is_file()
    return write_gguf(folder, tokenizer, folder / GGUF_FILE)


def _made_of(found: Checkpoint) -> ModelSizes:
    try:
        return ModelSizes(found.made["hidden"], found.made["layers"], found.made["inner"])
    except KeyError as error:
        raise InputError("the checkpoint is not of a small model: delete it, or choose another folder") from error

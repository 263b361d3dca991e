"""The sampling settings that a model's makers recommend, beside its weights or in its file."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from outrider.errors import ModelError
from outrider.runtimes.files.folder import read_object
from outrider.runtimes.files.places import is_gguf, is_hub_name, local
from outrider.runtimes.files.smollm2 import SMOLLM2, converted_folder

FILE = "generation_config.json"
SOURCE = f"the model's {FILE}"
GREEDY = 0.0
USUAL_TEMPERATURE = 1.0  # where the file samples and names none
TRUNCATION = ("top_k", "top_p", "min_p")
# What changes a text in transformers and is not offered here, with the values that change nothing.
UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "no_repeat_ngram_size": (0,),
    "encoder_no_repeat_ngram_size": (0,),
    "begin_suppress_tokens": ([],),
    "bad_words_ids": ([],),
    "sequence_bias": ({}, []),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "exponential_decay_length_penalty": (),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "num_beams": (1,),
    "typical_p": (1.0,),
    "epsilon_cutoff": (0.0,),
    "eta_cutoff": (0.0,),
    "guidance_scale": (1.0,),
}


@dataclass(frozen=True, slots=True)
class Recommended:
    """What a model's files say.

    Attributes:
        source: names the file.
        settings: of SamplingParams, by name; those that change nothing are left out.
        unsupported: names of settings that cannot be followed.
    """

    source: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    unsupported: tuple[str, ...] = ()


def recommended(name: str) -> Recommended:
    """What is recommended for a model by its name or path; nothing where its files do not say or are not there yet.

    Of a model of the hub the one file is downloaded.

    Raises:
        ModelError: the file is broken, or the hub has no such model.
    """
    if name == SMOLLM2:
        return recommended_by(converted_folder() / FILE)
    path = Path(name := local(name)).expanduser()
    if is_gguf(path):
        from outrider.runtimes.llamacpp.recommended import recommended_in

        return recommended_in(path)
    if not is_hub_name(name):
        return recommended_by(path / FILE)
    if importlib.util.find_spec("huggingface_hub") is None:
        return Recommended()  # opening the model says what is missing
    from outrider.runtimes.files.hub import fetch_file

    file = fetch_file(name, FILE)
    return Recommended() if file is None else recommended_by(file)


def recommended_by(file: Path) -> Recommended:
    """The settings that transformers' `generate` takes from a generation_config.json; none where there is none.

    Raises:
        ModelError: the file is broken.
    """
    if not file.is_file():
        return Recommended()
    given = {name: value for name, value in read_object(file).items() if value is not None}
    settings: dict[str, Any] = {}
    if given.get("do_sample"):
        settings["temperature"] = given.get("temperature", USUAL_TEMPERATURE)
        settings |= {name: given[name] for name in TRUNCATION if name in given}
    if given.get("repetition_penalty", 1.0) != 1.0:
        settings["repetition_penalty"] = given["repetition_penalty"]
    if banned := given.get("suppress_tokens"):
        if not (isinstance(banned, list) and all(isinstance(token, int) for token in banned)):
            raise ModelError(
                f"{FILE} of {file.parent} says suppress_tokens is {str(banned)[:40]}: it must be a list of ids"
            )
        settings["logit_bias"] = dict.fromkeys(banned, -math.inf)
    unsupported = (name for name, neutral in UNSUPPORTED.items() if name in given and given[name] not in neutral)
    return Recommended(SOURCE, settings, tuple(unsupported))

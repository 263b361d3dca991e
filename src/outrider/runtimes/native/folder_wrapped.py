"""The text part of folders whose models read images too: what says of it, and what its weights are called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from outrider.runtimes.files.folder import architecture_of
from outrider.runtimes.native.description import Unknown
from outrider.runtimes.native.families import FAMILIES
from outrider.runtimes.native.weights import Raw, Source

# By the architecture, which one the text part is, by its model_type.
WRAPPERS: Mapping[str, Mapping[str, str]] = {
    "Gemma3ForConditionalGeneration": {"gemma3_text": "Gemma3ForCausalLM"},
    # Of text the three positions of a token are one and the same.
    "Qwen3VLForConditionalGeneration": {"qwen3_vl_text": "Qwen3ForCausalLM"},
    "Mistral3ForConditionalGeneration": {"mistral": "MistralForCausalLM", "ministral3": "Ministral3ForCausalLM"},
}
OF_ALL = ("eos_token_id", "quantization_config", "auto_map")  # what is said of the whole model holds of its text part
# Folders of the hub have the first, later ones of transformers the other.
BEGINNINGS = {"model.": ("language_model.model.", "model.language_model."), "lm_head.": ("language_model.lm_head.",)}


def is_wrapped(config: Mapping[str, Any]) -> bool:
    return architecture_of(config) in WRAPPERS


def text_part(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The config.json that the text part would have by itself; the same of a model that reads text alone.

    Raises:
        Unknown: the text part is of a kind that is not computed here.
    """
    if not is_wrapped(config):
        return config
    kinds = WRAPPERS[architecture_of(config) or ""]
    text = config.get("text_config")
    kind = text.get("model_type", next(iter(kinds))) if isinstance(text, dict) else None
    if not isinstance(text, dict) or not isinstance(kind, str) or kind not in kinds:
        raise Unknown(f"the model_type of its text_config is {kind!r}")
    of_all = {key: config[key] for key in OF_ALL if key in config}
    return {
        **text,
        **of_all,
        "architectures": [kinds[kind]],
        "model_type": FAMILIES[kinds[kind]].kind,
        "tie_word_embeddings": True,
    }


class TextPart:
    """A Source of the text part's weights, by the names that they would have by themselves."""

    def __init__(self, weights: Source) -> None:
        self._weights = weights

    def let_go(self) -> None:
        self._weights.let_go()

    def find(self, name: str) -> Raw | None:
        beginning = next((each for each in BEGINNINGS if name.startswith(each)), "")
        for other in BEGINNINGS.get(beginning, ()):
            found = self._weights.find(other + name.removeprefix(beginning))
            if found is not None:
                return found
        return None if beginning == "model." else self._weights.find(name)

"""Keys of a line of prompts that look like settings and are none of ours.

Files of questions hold answers, sources and the like, so that a key of any other name is ignored. But whoever misspells
a setting, or calls it as another tool does, relies on it.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable

# As other tools call what we have.
OTHER_NAMES = {
    "temp": "temperature",
    "max_new_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "max_output_tokens": "max_tokens",
    "max_length": "max_tokens",
    "n_predict": "max_tokens",
    "random_seed": "seed",
    "repeat_penalty": "repetition_penalty",
    "stop_sequences": "stop",
    "stop_strings": "stop",
}
# Settings elsewhere, for which a line has no place.
NOT_HERE = {
    "bad_words",
    "best_of",
    "grammar",
    "guided_choice",
    "guided_grammar",
    "guided_json",
    "guided_regex",
    "ignore_eos",
    "json_schema",
    "logit_bias",
    "logprobs",
    "min_tokens",
    "n",
    "num_beams",
    "num_draft_tokens",
    "prediction",
    "response_format",
    "stop_token_ids",
    "structured_outputs",
    "tool_choice",
    "tools",
    "top_logprobs",
    "typical_p",
}
LEAST_ALIKE = 0.88  # of the letters, for a key to be taken for a misspelt one
SHORTEST_MISSPELT = 6  # letters; shorter names resemble too many words
WITHOUT = str.maketrans("", "", "-_ ")


def refusal_of_keys(keys: Iterable[str], settings: Collection[str]) -> str | None:
    """Why a line with these keys cannot be used, with the remedy; None where it can.

    Args:
        settings: the names of all settings of a line.
    """
    for key in keys:
        if key in settings:
            continue
        if key.lower() in NOT_HERE:
            return f"{key} cannot be set for one line of a file: leave it out"
        meant = OTHER_NAMES.get(key.lower()) or _meant(key, settings)
        if meant is not None:
            return f"it has no setting {key[:40]!r}: did you mean {meant}?"
    return None


def _meant(key: str, settings: Collection[str]) -> str | None:
    """The setting that is written in another way, or misspelt."""
    bare = {_bare(each): each for each in settings}
    if _bare(key) in bare:
        return bare[_bare(key)]
    long = [each for each in bare if len(each) >= SHORTEST_MISSPELT]
    found = difflib.get_close_matches(_bare(key), long, n=1, cutoff=LEAST_ALIKE)
    return bare[found[0]] if found else None


def _bare(key: str) -> str:
    return key.lower().translate(WITHOUT)

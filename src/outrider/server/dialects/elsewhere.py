"""Fields of other servers that clients send to every server: Open WebUI passes on what its users set for Ollama.

Settings of a sampler that is refused where it is on say nothing by themselves, and are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping

from outrider.server.bodies import Refusal

IGNORED_OF_LLAMA_CPP: Mapping[str, str] = {
    "cache_prompt": "the cache finds prompts by their text",
    "timings_per_token": "timings come once, at the end",
    "repeat_last_n": "repeat_penalty is not offered: repetition_penalty counts the whole text",
    "mirostat_tau": "mirostat is not offered",
    "mirostat_eta": "mirostat is not offered",
    "dry_base": "DRY sampling is not offered",
    "dry_allowed_length": "DRY sampling is not offered",
    "dry_penalty_last_n": "DRY sampling is not offered",
    "dry_sequence_breakers": "DRY sampling is not offered",
    "xtc_threshold": "XTC sampling is not offered",
    "dynatemp_exponent": "dynamic temperature is not offered",
}
REFUSED_OF_LLAMA_CPP: Mapping[str, Refusal] = {
    "repeat_penalty": Refusal("use repetition_penalty, which counts the whole text", (1, 1.0)),
    "typical_p": Refusal("typical sampling is not offered", (1, 1.0)),
    "mirostat": Refusal("mirostat is not offered", (0,)),
    "dry_multiplier": Refusal("DRY sampling is not offered", (0, 0.0)),
    "xtc_probability": Refusal("XTC sampling is not offered", (0, 0.0)),
    "dynatemp_range": Refusal("dynamic temperature is not offered", (0, 0.0)),
    "top_n_sigma": Refusal("top-n-sigma sampling is not offered", (-1, -1.0)),
    "tfs_z": Refusal("tail-free sampling is not offered", (1, 1.0)),
    "grammar": Refusal("use structured_outputs.grammar", ("",)),
    "json_schema": Refusal("use structured_outputs.json", ({},)),
    "n_predict": Refusal("use max_tokens", (-1,)),
    "n_probs": Refusal("use logprobs", (0,)),
    "samplers": Refusal("settings are applied in the order of transformers", ([],)),
    "id_slot": Refusal("rows are given by the server", (-1,)),
}
IGNORED_OF_OLLAMA: Mapping[str, str] = {
    "keep_alive": "the model stays open",
    "num_ctx": "--ctx-size of the server says how long texts are",
    "num_keep": "prompts are not cut",
    "num_batch": "the server chooses how much of a prompt is read at once",
    "num_thread": "--threads of the server says it",
    "num_gpu": "--device of the server says it",
    "use_mmap": "the model is open already",
    "use_mlock": "the model is open already",
    "think": "whether a model thinks is up to its template",
}
REFUSED_OF_OLLAMA: Mapping[str, Refusal] = {
    "num_predict": Refusal("use max_tokens", (-1,)),
    "format": Refusal("use response_format, or structured_outputs", ("",)),
}

"""The settings that OpenAI's two endpoints for texts share, vLLM's and our own among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from pydantic import Field

from outrider.errors import shown
from outrider.maths.sampling import SamplingParams
from outrider.prompts.schema import Number, Strings, Text
from outrider.server.asked import Extras
from outrider.server.bodies import Part, Refusal
from outrider.server.dialects.base import TextBody
from outrider.server.dialects.elsewhere import (
    IGNORED_OF_LLAMA_CPP,
    IGNORED_OF_OLLAMA,
    REFUSED_OF_LLAMA_CPP,
    REFUSED_OF_OLLAMA,
)
from outrider.server.dialects.limited import require_stops, sampling_of
from outrider.server.errors import refused
from outrider.server.service import Service
from outrider.structured import Grammar, choice, grammar, json_object, json_schema, regex

LONGEST_ID = 20  # digits of a token id
KEEPS_ALL = -1  # of top_k, in vLLM's words
# Fields of every endpoint of OpenAI's that are about accounts and their stores, and why they are ignored.
OF_ACCOUNTS: Mapping[str, str] = {
    "user": "nothing is kept about users",
    "metadata": "nothing is stored",
    "store": "nothing is stored",
    "service_tier": "there is one",
    "safety_identifier": "nothing is kept about users",
    "prompt_cache_key": "the cache finds prompts by their text",
    "prompt_cache_retention": "the cache keeps prompts as long as there is room",
    "prompt_cache_options": "the cache finds prompts by their text",
}
# vLLM's, on every endpoint for texts, that are about other machines and other things than text.
OF_VLLM: Mapping[str, Refusal] = {
    "kv_transfer_params": Refusal("caches stay in this server", ({},)),
    "ec_transfer_params": Refusal("caches stay in this server", ({},)),
    "vllm_xargs": Refusal("they are vLLM's own", ({},)),
    "mm_payload": Refusal("text alone is read"),
    "return_mm_kwargs": Refusal("text alone is read", (False,)),
    "watermarking": Refusal("texts are not marked", (False, {})),
}


class StreamOptions(Part):
    include_usage: bool = False
    include_obfuscation: bool = False  # padding against observers of a network; none is added
    continuous_usage_stats: bool = False


class OutriderOptions(Part):
    """What is reported besides: see outrider.server."""

    tokens: bool = False
    rounds: bool = False
    metrics: bool = False


class Speculative(Part):
    """How a text is drafted: by another drafter than the server's own, so far, under another rule."""

    drafter: Text | None = None
    num_draft_tokens: int | None = None
    rule: Text | None = None


class StructuredOutputs(Part):
    """vLLM's `structured_outputs`: one of these."""

    json_: Any = Field(default=None, alias="json")
    regex: Text | None = None
    choice: list[Text] | None = None
    grammar: Text | None = None
    json_object: bool | None = None


class TextSettings(TextBody):
    """How texts are drawn, how many, and what is reported of them."""

    model: Text | None = Field(default=None, description="One of the names in /v1/models.")
    stream: bool | None = Field(default=None, description="Server-sent events, one for each round of the engine.")
    stream_options: StreamOptions | None = Field(default=None, description="`include_usage`, `continuous_usage_stats`.")
    n: int | None = Field(default=None, description="Texts for each prompt, with seeds that follow one another.")
    max_tokens: int | None = Field(default=None, description="The most tokens; cut to what fits into a row.")
    temperature: Number | None = Field(default=None, description="0 is greedy.")
    top_p: Number | None = Field(default=None, description="As OpenAI.")
    top_k: int | None = Field(default=None, description="As vLLM; 0 or -1 keeps all tokens.")
    min_p: Number | None = Field(default=None, description="As vLLM.")
    repetition_penalty: Number | None = Field(default=None, description="As vLLM.")
    presence_penalty: Number | None = Field(default=None, description="As OpenAI.")
    frequency_penalty: Number | None = Field(default=None, description="As OpenAI.")
    logit_bias: dict[str, Number] | None = Field(default=None, description="Token ids as keys; -100 bans a token.")
    seed: int | None = Field(
        default=None, description="Reproduces a text, by rule `coupled` unless `speculative` names another."
    )
    stop: Strings | None = Field(default=None, description="A text or a list of texts.")
    stop_token_ids: list[int] | None = Field(default=None, description="As vLLM: besides the model's own.")
    ignore_eos: bool | None = Field(default=None, description="As vLLM: the model's own stop tokens end nothing.")
    structured_outputs: StructuredOutputs | None = Field(
        default=None, description="As vLLM: `json`, `regex`, `choice`, `grammar` (Lark or GBNF) or `json_object`."
    )
    guided_json: Any = Field(default=None, description="The older name of `structured_outputs.json`.")
    guided_regex: Text | None = Field(default=None, description="The older name of `structured_outputs.regex`.")
    guided_choice: list[Text] | None = Field(default=None, description="The older name of `structured_outputs.choice`.")
    guided_grammar: Text | None = Field(default=None, description="The older name of `structured_outputs.grammar`.")
    speculative: Speculative | bool | None = Field(
        default=None,
        description="`false` decodes plainly; `num_draft_tokens` limits drafts; `drafter`, `rule`: for this text.",
    )
    cache_salt: Text | None = Field(default=None, description="As vLLM: only equal ones share a prefix cache.")
    outrider: OutriderOptions | None = Field(default=None, description="`tokens`, `rounds`, `metrics`: see above.")

    IGNORED: ClassVar[Mapping[str, str]] = {
        **OF_ACCOUNTS,
        "priority": "requests are served in the order in which they come",
        "request_id": "the server gives ids",
        "session_id": "requests are independent",
        "stream_interval": "a chunk comes for each round of the engine",
        **IGNORED_OF_LLAMA_CPP,
        **IGNORED_OF_OLLAMA,
    }
    REFUSED: ClassVar[Mapping[str, Refusal]] = {
        "min_tokens": Refusal("a least number of tokens is not offered; ignore_eos goes on to max_tokens", (0,)),
        "include_stop_str_in_output": Refusal("texts end before a stop string", (False,)),
        "skip_special_tokens": Refusal("special tokens are no part of texts", (True,)),
        "spaces_between_special_tokens": Refusal("special tokens are no part of texts", (True,)),
        "truncate_prompt_tokens": Refusal("prompts are not cut: send a shorter one", (-1,)),
        "prompt_logprobs": Refusal("log probabilities of prompts are not computed", (0,)),
        "allowed_token_ids": Refusal("use logit_bias, or structured_outputs", ([],)),
        "bad_words": Refusal("use logit_bias", ([],)),
        "use_beam_search": Refusal("beam search is not offered: ask for several texts with n", (False,)),
        "best_of": Refusal("texts are not ranked: ask for n of them", (1,)),
        "length_penalty": Refusal("beam search is not offered", (1, 1.0)),
        "logits_processors": Refusal("code is not taken over the network", ([],)),
        "return_tokens_as_token_ids": Refusal("token ids come with outrider: {tokens: true}", (False,)),
        "add_special_tokens": Refusal("the tokenizer, or the chat template, decides"),
        "truncation_side": Refusal("prompts are not cut: send a shorter one"),
        "thinking_token_budget": Refusal("how long a model thinks is up to its template"),
        "repetition_detection": Refusal("use repetition_penalty, or stop"),
        "logprob_token_ids": Refusal("use top_logprobs", ([],)),
        "return_token_ids": Refusal("token ids come with outrider: {tokens: true}", (False,)),
        "return_token_offsets": Refusal("tokens come with outrider: {tokens: true}", (False,)),
        "routed_experts_prompt_start": Refusal("experts are not reported"),
        **REFUSED_OF_LLAMA_CPP,
        **REFUSED_OF_OLLAMA,
        **OF_VLLM,
    }

    def texts(self, prompts: int, service: Service) -> int:
        """How many texts for each prompt.

        Raises:
            ApiError: fewer than 1, or too many.
        """
        n, most = 1 if self.n is None else self.n, service.settings.limits.texts
        if n < 1:
            raise refused(f"n is {n}: it must be at least 1", "n")
        if n * prompts > most:
            raise refused(f"{prompts} prompts times n = {n} are more than {most} texts: ask for fewer at once", "n")
        return n

    def sampling(self, service: Service) -> SamplingParams:
        """Raises SettingError, ApiError where a value is out of its range."""
        bias = {**service.settings.sampling.logit_bias, **self._bias(service)} if self.logit_bias else None
        return sampling_of(
            service,
            seed=self.seed,
            temperature=self.temperature,
            top_k=0 if self.top_k == KEEPS_ALL else self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            logit_bias=bias,
        )

    def _bias(self, service: Service) -> dict[int, float]:
        bias = self.logit_bias or {}
        most = service.settings.limits.biased_tokens
        if len(bias) > most:
            raise refused(f"logit_bias has {len(bias)} tokens: at most {most} may be biased", "logit_bias")
        wrong = next((token for token in bias if not token.isdecimal() or len(token) > LONGEST_ID), None)
        if wrong is not None:
            raise refused(f"logit_bias has the key {shown(wrong)}: keys are token ids", "logit_bias")
        return {int(token): value for token, value in bias.items()}

    def stops(self, service: Service) -> tuple[str, ...]:
        """Raises ApiError where there are too many, or one is too long."""
        stops = tuple(self.stop or ())
        require_stops(stops, service, "stop")
        return stops

    def stop_tokens(self, service: Service) -> frozenset[int] | None:
        """None for the model's own."""
        if self.stop_token_ids is None and not self.ignore_eos:
            return None
        own = frozenset() if self.ignore_eos else service.target.traits.stop_token_ids
        return own | frozenset(self.stop_token_ids or ())

    def grammar(self, service: Service) -> Grammar | None:
        """What the text may look like.

        Raises:
            ApiError: two grammars are given, or one is too long.
            SettingError: one is wrong.
        """
        given: list[tuple[Callable[[Any], Grammar], Any]] = [
            (json_schema, self.guided_json),
            (regex, self.guided_regex),
            (choice, self.guided_choice),
            (grammar, self.guided_grammar),
        ]
        if (wanted := self.structured_outputs) is not None:
            given += [
                (json_schema, wanted.json_),
                (regex, wanted.regex),
                (choice, wanted.choice),
                (grammar, wanted.grammar),
                (lambda _: json_object(), wanted.json_object or None),
            ]
        most = service.settings.limits.grammar_characters
        long = next((value for _, value in given if isinstance(value, str) and len(value) > most), None)
        if long is not None:  # before it is read
            raise refused(f"the grammar has {len(long)} characters: at most {most} are compiled", "structured_outputs")
        found = [make(value) for make, value in given if value is not None]
        if len(found) > 1:
            raise refused("two grammars are given: leave one of them out", "structured_outputs")
        return found[0] if found else None

    def extras(self, service: Service) -> Extras:
        asked = self.outrider or OutriderOptions()
        return Extras(asked.tokens, asked.rounds, asked.metrics or service.settings.metrics)

    @property
    def reports_usage(self) -> bool:
        """Whether a stream ends with a chunk of usage."""
        return self.stream_options is not None and self.stream_options.include_usage

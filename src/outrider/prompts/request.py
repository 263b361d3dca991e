"""What is asked for, as plain data, and the one builder that puts it into the terms of a model."""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass, field, replace
from typing import Any

from outrider.errors import SettingError, shown
from outrider.maths.rules import RuleName, rule_named
from outrider.maths.sampling import SamplingParams
from outrider.prompts.chat import Chat, encode, encode_prompt
from outrider.prompts.tokens import Prompt, check_tokens, is_conversation, plain_prompt, token_list
from outrider.runtimes.base import Model
from outrider.structured import Grammar, GrammarConstraint
from outrider.structured.tools import Tool, function_of
from outrider.text import Tokenizer, limited
from outrider.values import is_whole, listed, require_flag, whole

MAX_TOKENS = 100
MOST_SAMPLES = 2**16  # of one prompt


@dataclass(frozen=True, slots=True)
class Request:
    """One text to continue. Plain data, which can be pickled.

    Attributes:
        prompt: text, token ids (a list, or an array [tokens] or [1, tokens] of any library), or a conversation: a list
            of messages such as {"role": "user", "content": "..."}.
        max_tokens: the most tokens to emit.
        sampling: how; where it has no seed, the engine draws one.
        stop_token_ids: tokens that end the text; None takes the model's own. The stop token is emitted, its text is
            not.
        stop: strings that end the text; they need a tokenizer. The text ends before the string.
        predicted: text or token ids that are expected in the output, for drafters that copy from it. Under the rules
            token and block it is part of what the draws depend on, as the seed is.
        logprobs: True reports the target's log probability of every emitted token; a number k also those of the k most
            probable ones.
        detokenize: False leaves out the text, and the time that it takes.
        structured: what the output may look like; None leaves it free. It needs a tokenizer.
        tools: descriptions of functions that the model may call, {"type": "function", "function": {"name": ...}}, for a
            conversation. The answer's text holds the calls as the model writes them; `structured.tools` reads them.
        num_draft_tokens: the most draft tokens of a round; 0 decodes this text plainly. None leaves it to the engine.
        drafter: the name of another drafter that the engine was opened with; None takes the engine's own.
        rule: token, block or coupled, for this text; None takes the engine's own.
        isolation: only requests with the same key reuse each other's KV cache, which can be seen in the time to the
            first token (vLLM's cache_salt).

    Raises:
        InputError: the prompt is none of these.
        SettingError: a number is out of its range, or a stop string is empty.
    """

    prompt: Prompt
    max_tokens: int = MAX_TOKENS
    sampling: SamplingParams = field(default_factory=SamplingParams)
    stop_token_ids: frozenset[int] | None = None
    stop: tuple[str, ...] = ()
    predicted: str | tuple[int, ...] = ()
    logprobs: bool | int = False
    detokenize: bool = True
    structured: Grammar | None = None
    tools: tuple[Tool, ...] = ()
    num_draft_tokens: int | None = None
    drafter: str | None = None
    rule: RuleName | None = None
    isolation: str = ""

    def __post_init__(self) -> None:
        _require(isinstance(self.sampling, SamplingParams), "sampling", self.sampling, "SamplingParams(...)")
        whole("max_tokens", self.max_tokens, 1)
        _require(
            isinstance(self.logprobs, bool) or is_whole(self.logprobs, 0),
            "logprobs",
            self.logprobs,
            "True, False, or how many of the most probable tokens to report",
        )
        require_flag("detokenize", self.detokenize)
        _require(
            self.structured is None or isinstance(self.structured, Grammar),
            "structured",
            self.structured,
            "a Grammar, such as outrider.structured.json_schema({...})",
        )
        tools = listed("tools", self.tools, "a list of functions")
        for tool in tools:
            function_of(tool)
        _require(
            self.num_draft_tokens is None or is_whole(self.num_draft_tokens, 0),
            "num_draft_tokens",
            self.num_draft_tokens,
            "a whole number, at least 0 (0 decodes plainly), or None",
        )
        _require(self.drafter is None or isinstance(self.drafter, str), "drafter", self.drafter, "a name, or None")
        if self.rule is not None:
            rule_named(self.rule)
        _require(isinstance(self.isolation, str), "isolation", self.isolation, "a text")
        stop = (self.stop,) if isinstance(self.stop, str) else listed("stop", self.stop, "a text, or several")
        for string in stop:
            _require(isinstance(string, str), "a stop string", string, "a text")
            if not string:
                raise SettingError("a stop string is empty: give at least one character, or leave it out")
        if stop and not self.detokenize:
            raise SettingError("stop strings need the text and detokenize is False: leave one of them out")
        put = object.__setattr__  # frozen for everybody else
        put(self, "prompt", plain_prompt(self.prompt))
        put(self, "stop", stop)
        put(self, "max_tokens", int(self.max_tokens))  # of NumPy it would overflow in sums
        if self.num_draft_tokens is not None:
            put(self, "num_draft_tokens", int(self.num_draft_tokens))
        if not isinstance(self.logprobs, bool):
            put(self, "logprobs", int(self.logprobs))
        put(self, "tools", tools)
        if tools and not is_conversation(self.prompt):
            raise SettingError("tools need a conversation: give messages, [{'role': 'user', 'content': ...}]")
        if not isinstance(self.predicted, str):
            put(self, "predicted", tuple(token_list(self.predicted)))
        if self.stop_token_ids is not None:
            ids = listed("stop_token_ids", self.stop_token_ids, "token ids")
            put(self, "stop_token_ids", frozenset(token_list(ids)))

    def samples(self, n: int) -> list[Request]:
        """`n` requests that differ in their seeds alone: the request's own, or a drawn one, plus 0, 1, 2 and so on.

        Raises:
            SettingError: n is below 1, or beyond what is drawn at once.
        """
        require_samples(n)
        return [replace(self, sampling=sampling) for sampling in seeded(self.sampling, n)]


@dataclass(frozen=True, slots=True)
class PreparedRequest:
    """A request in the terms of one model, ready to be decoded. Plain data as well, unless a grammar is compiled in.

    Attributes:
        prompt: token ids of the model's vocabulary, which leave room for output.
        max_tokens, stop, detokenize, num_draft_tokens, drafter, rule: as in Request.
        sampling: as in Request, with the grammar as its last logits processor.
        stop_token_ids: tokens that end the text.
        predicted: token ids.
        logprobs: whether to report the log probability of every emitted token.
        top_logprobs: of how many most probable tokens to report it as well.
        continues: whether the output goes on in the prompt's text, so that it begins with a space where a word follows
            another; False for an answer to what a chat template made.
        isolation: as in Request.
    """

    prompt: tuple[int, ...]
    max_tokens: int
    sampling: SamplingParams
    stop_token_ids: frozenset[int] = frozenset()
    stop: tuple[str, ...] = ()
    predicted: tuple[int, ...] = ()
    logprobs: bool = False
    top_logprobs: int = 0
    detokenize: bool = True
    continues: bool = True
    num_draft_tokens: int | None = None
    drafter: str | None = None
    rule: RuleName | None = None
    isolation: str = ""


def prepare_request(
    request: Request, model: Model, tokenizer: Tokenizer | None, chat: Chat | None = None
) -> PreparedRequest:
    """The request in the terms of a model. Every door to the engine goes through here.

    Args:
        model: the target.
        tokenizer: its tokenizer, or one that stands in for it.
        chat: puts a prompt of text through the model's chat template where it has one; None takes it as it is.

    Raises:
        InputError: the prompt cannot be decoded: it is empty or too long, a token is unknown, there is no tokenizer for
            its text, or the chat template refuses it.
        SettingError: stop strings, expected text or a grammar need a tokenizer, or a conversation a chat template, and
            there is none; or a setting is about a token that the model does not have; or the grammar is wrong.
        ModelError: a grammar needs llguidance, which is not installed, or the tokenizer cannot be used with it.
    """
    if tokenizer is None and request.stop:
        raise SettingError(
            f"stop strings need a tokenizer and {model.name} has none: pass tokenizer=, or stop_token_ids="
        )
    if tokenizer is None and isinstance(request.predicted, str) and request.predicted:
        raise SettingError(f"expected text needs a tokenizer and {model.name} has none: pass tokenizer=, or token ids")
    check_vocabulary(request, model)
    if request.tools:
        chat = replace(chat or Chat(), tools=request.tools)
    room = model.traits.context_length
    prompt, templated = encode_prompt(request.prompt, limited(tokenizer, room), model.name, chat)
    check_tokens(prompt, model, room)
    stop_token_ids = model.traits.stop_token_ids if request.stop_token_ids is None else request.stop_token_ids
    return PreparedRequest(
        prompt=prompt,
        max_tokens=request.max_tokens,
        sampling=_constrained(request, model, tokenizer, stop_token_ids),
        stop_token_ids=stop_token_ids,
        stop=request.stop,
        predicted=encode(request.predicted, tokenizer, model.name) if request.predicted else (),
        logprobs=bool(request.logprobs),
        top_logprobs=0 if isinstance(request.logprobs, bool) else request.logprobs,
        detokenize=request.detokenize,
        continues=not templated,
        num_draft_tokens=request.num_draft_tokens,
        drafter=request.drafter,
        rule=request.rule,
        isolation=request.isolation,
    )


def _constrained(
    request: Request, model: Model, tokenizer: Tokenizer | None, stop_token_ids: frozenset[int]
) -> SamplingParams:
    """The settings, with the grammar behind all other processors: nothing may lift what it bans."""
    if request.structured is None:
        return request.sampling
    if tokenizer is None:
        raise SettingError(f"structured output needs a tokenizer and {model.name} has none: pass tokenizer=")
    constraint = GrammarConstraint(request.structured, tokenizer, model.traits.vocab_size, stop_token_ids)
    return replace(request.sampling, logits_processors=(*request.sampling.logits_processors, constraint))


def check_vocabulary(request: Request, model: Model) -> None:
    """Refuse settings about tokens that the model does not have.

    Raises:
        SettingError: a stop token or a biased token is outside the vocabulary, or the bias leaves no token.
    """
    size, bias = model.traits.vocab_size, request.sampling.logit_bias
    for name, tokens in (("stop_token_ids", request.stop_token_ids or ()), ("logit_bias", bias)):
        outside = next((token for token in tokens if not 0 <= token < size), None)
        if outside is not None:
            raise SettingError(f"{name} holds token {outside}: {model.name} has the tokens 0 to {size - 1}")
    if len(bias) == size and all(value == -math.inf for value in bias.values()):
        raise SettingError(f"logit_bias bans all {size} tokens of {model.name}: leave at least one")


def drawn_seed() -> int:
    """A fresh seed: 63 bits, since more than a signed word holds troubles readers of JSON."""
    return secrets.randbits(63)


def seeded(sampling: SamplingParams, count: int) -> list[SamplingParams]:
    """The same settings for `count` texts, with seeds that follow one another from the given one, or a drawn one."""
    first = drawn_seed() if sampling.seed is None else sampling.seed
    return [replace(sampling, seed=(first + place) % 2**64) for place in range(count)]


def require_samples(n: Any) -> None:
    """Raises SettingError where n is no number of samples."""
    whole("n", n, 1, MOST_SAMPLES)


def _require(holds: bool, name: str, value: object, limit: str) -> None:
    if not holds:
        raise SettingError(f"{name} is {shown(value)}: it must be {limit}")

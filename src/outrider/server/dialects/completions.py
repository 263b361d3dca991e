"""OpenAI's older completions: texts that go on with a prompt."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from secrets import token_hex
from typing import Any, ClassVar

from pydantic import Field

from outrider.engine.events import FinishReason
from outrider.errors import InputError, shown
from outrider.prompts.request import Request
from outrider.server.answers import Answers, Step
from outrider.server.asked import Asked
from outrider.server.bodies import Refusal
from outrider.server.dialects.chat import DONE, FINISH
from outrider.server.dialects.limited import require_model, speculation_of
from outrider.server.dialects.settings import TextSettings
from outrider.server.errors import refused
from outrider.server.replies import event
from outrider.server.reports import closing_fields, legacy_logprobs, origins_of, usage_of
from outrider.server.service import Service

MAX_TOKENS = 16  # OpenAI's default here


class CompletionBody(TextSettings):
    """POST /v1/completions."""

    prompt: Any = Field(description="A text, token ids, or a list of either.")
    logprobs: int | None = Field(default=None, description="Up to 20; 0 reports those of the text alone.")

    REFUSED: ClassVar[Mapping[str, Refusal]] = {
        **TextSettings.REFUSED,
        "echo": Refusal("the prompt is not repeated: put it before the text", (False,)),
        "suffix": Refusal("text is not filled in", ("",)),
        "prompt_embeds": Refusal("prompts are text or token ids"),
        "response_format": Refusal("use structured_outputs, or /v1/chat/completions", ({"type": "text"},)),
    }

    def asked(self, service: Service) -> Asked:
        """Raises ApiError, OutriderError where something cannot be followed."""
        ignored = self.ignored()
        require_model(self.model, service)
        prompts = _prompts(self.prompt, service.capacity)
        n = self.texts(len(prompts), service)
        extras = self.extras(service)
        common: dict[str, Any] = {
            "max_tokens": MAX_TOKENS if self.max_tokens is None else self.max_tokens,
            "sampling": self.sampling(service),
            "stop": self.stops(service),
            "stop_token_ids": self.stop_tokens(service),
            "logprobs": self._logprobs(service) or extras.tokens,
            "structured": self.grammar(service),
            **speculation_of(self.speculative, self.seed, service),
        }
        return Asked([Request(prompt, **common) for prompt in prompts], n, extras, ignored, salt=self.cache_salt or "")

    def _logprobs(self, service: Service) -> bool | int:
        most = service.settings.limits.top_logprobs
        if self.logprobs is not None and not 0 <= self.logprobs <= most:
            raise refused(f"logprobs is {self.logprobs}: it must be from 0 to {most}", "logprobs")
        return self.logprobs is not None and (self.logprobs or True)


def _prompts(given: Any, most: int) -> list[str | list[int]]:
    """The prompts of a request, of which none may have more than `most` tokens."""
    if isinstance(given, str):
        return [given]
    if isinstance(given, list) and given:
        # Before anything is looked at one by one.
        longest = max(len(given), *(len(each) for each in given[:most] if isinstance(each, list)), 0)
        if longest > most:
            raise InputError(f"prompt is a list of {longest} and a row of this server holds {most} tokens: shorten it")
        if all(type(each) is int for each in given):
            return [given]
        if all(isinstance(each, str) for each in given):
            return given
        if all(isinstance(each, list) and each and all(type(token) is int for token in each) for each in given):
            return given
    raise refused(f"prompt is {shown(given)}: it must be a text, token ids, or a list of either", "prompt")


class CompletionReply:
    """The replies to one request for completions."""

    def __init__(self, body: CompletionBody, asked: Asked, service: Service) -> None:
        self._body = body
        self._asked = asked
        self._service = service
        self._head = {
            "id": f"cmpl-{token_hex(12)}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": service.model,
        }

    async def whole(self, answers: Answers) -> dict[str, Any]:
        """The reply once all texts have ended."""
        found: dict[int, list[Step]] = {answer.index: [] for answer in answers.all}
        async with aclosing(answers.steps()) as steps:
            async for step in steps:
                found[step.index].append(step)
        choices = []
        for answer in answers.all:
            events = [event for step in found[answer.index] for event in step.events]
            everything = Step(answer.index, events, None)
            reason = FINISH[answer.finish_reason or FinishReason.STOP]
            choices.append(self._choice(everything, answer.text, reason, 0))
        closing = closing_fields(answers.all, self._asked.extras)
        return {**self._head, "choices": choices, "usage": usage_of(answers.all, reasoning_tokens=0), **closing}

    async def stream(self, answers: Answers) -> AsyncGenerator[bytes, None]:
        """Chunks, one for each round of each text."""
        lengths = [0] * len(answers.all)
        async with aclosing(answers.steps()) as steps:
            async for step in steps:
                reason = None if step.finish_reason is None else FINISH[step.finish_reason]
                more: dict[str, Any] = {}
                if origins := origins_of(step, self._asked.extras, self._service.tokenizer):
                    more["outrider"] = origins
                if not self._body.reports_usage and all(answer.finish_reason for answer in answers.all):
                    more |= closing_fields(answers.all, self._asked.extras)
                text = step.text
                if text or reason or more or self._body.logprobs is not None:
                    choice = self._choice(step, text, reason, lengths[step.index])
                    yield event({**self._head, "choices": [choice], **more})
                lengths[step.index] += len(text)
        if self._body.reports_usage:
            closing = closing_fields(answers.all, self._asked.extras)
            yield event({**self._head, "choices": [], "usage": usage_of(answers.all, reasoning_tokens=0), **closing})
        yield DONE

    def _choice(self, step: Step, text: str, reason: str | None, offset: int) -> dict[str, Any]:
        logprobs = None
        if self._body.logprobs is not None:
            logprobs = legacy_logprobs(step.events, self._service.tokenizer, offset)
        return {"index": step.index, "text": text, "logprobs": logprobs, "finish_reason": reason}

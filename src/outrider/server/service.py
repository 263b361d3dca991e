"""The service: one engine, and what every endpoint needs of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from outrider.engine.asynchronous import AsyncEngine
from outrider.engine.engine import Engine
from outrider.engine.handle import Handle
from outrider.engine.record import Observer
from outrider.errors import InputError, SettingError
from outrider.maths.sampling import SamplingParams
from outrider.prompts.chat import Chat, encode
from outrider.prompts.request import PreparedRequest, Request, prepare_request, seeded
from outrider.prompts.tokens import Message, is_conversation
from outrider.runtimes.base import Model
from outrider.server.answers import Answer, Answers
from outrider.server.asked import Asked
from outrider.server.bodies import Bodies
from outrider.server.errors import ApiError
from outrider.server.keys import isolation_of
from outrider.server.limits import Limits
from outrider.server.metrics import Metrics
from outrider.server.offers import NO_DRAFTER, Offer, Offers
from outrider.server.rounds import Followed, Rounds
from outrider.structured.reasoning import after_reasoning, opened_tag, reasons
from outrider.text import Tokenizer

T = TypeVar("T")
OpenEngine = Callable[[Observer], Engine]


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """How a service answers.

    Attributes:
        models: the names under which the model may be asked for; replies say the first.
        sampling: what holds where a request says nothing.
        max_tokens: of a text, where a request does not say; None fills the row.
        rule: of the engine.
        drafter: the name of the engine's own drafter; None takes what it calls itself.
        drafters: that requests may name besides, or the own one with its form without trees.
        limits: on requests.
        api_keys: one of which a request must show; empty lets everybody in.
        copies: whether the drafter copies from a text that is expected.
        metrics: whether every reply reports the numbers of speculation, as vLLM names them.
    """

    models: tuple[str, ...]
    sampling: SamplingParams = field(default_factory=SamplingParams)
    max_tokens: int | None = None
    rule: str = "token"
    drafter: str | None = None
    drafters: Mapping[str, Offer] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    api_keys: tuple[str, ...] = ()
    copies: bool = True
    metrics: bool = False


class Service:
    """Answers requests with one engine.

    Args:
        open_engine: opens it with this observer.

    Attributes:
        settings: as given.
        model: its name in replies.
        target, tokenizer, capacity: of the engine.
        max_tokens: of a text, where a request does not say.
        drafter: its own drafter's name, as requests name it; None where it decodes plainly.
        offers: what a request may ask of speculation.
        bodies: reads those of requests.
        metrics: counters, for Prometheus.
        reasons: whether the model may think before it answers.
        started: in seconds since 1970.

    Raises:
        SettingError: the model has no tokenizer.
    """

    def __init__(self, open_engine: OpenEngine, settings: ServiceSettings) -> None:
        self.settings = settings
        self.model = settings.models[0]
        self.metrics = Metrics(self.model)
        self.bodies = Bodies(settings.limits)
        self._rounds = Rounds(self.metrics.count_round)
        engine = open_engine(self._rounds)
        if engine.tokenizer is None:
            raise SettingError(f"model {engine.target.name} has no tokenizer beside it: give a folder with its files")
        self.metrics.watch(engine)
        self.target: Model = engine.target
        self.tokenizer: Tokenizer = engine.tokenizer
        self.capacity: int = engine.capacity
        self.max_tokens = self.capacity if settings.max_tokens is None else settings.max_tokens
        self.drafter: str | None = None if engine.drafter is None else settings.drafter or engine.drafter.name
        own = settings.drafter or self.drafter or NO_DRAFTER
        drafters = {own: Offer(None, None, settings.copies), **settings.drafters}
        self.offers = Offers(own, settings.rule, drafters)
        self.reasons = reasons(self.tokenizer.chat_template)
        self.started = int(time.time())
        self._engine = engine  # of which only what other threads may read is read here
        self._running = AsyncEngine(engine)
        # One thread: long prompts wait for one another, and the event loop waits for none.
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="outrider-prompts")
        self._longest_piece = max((len(piece) for piece in self.tokenizer.vocabulary if piece), default=1)

    @property
    def max_rows(self) -> int:
        """How many texts are decoded at once."""
        return self._engine.max_rows

    @property
    def alive(self) -> bool:
        """Whether the engine runs."""
        return not self._running.closed

    async def close(self) -> None:
        """End all texts, and the engine."""
        await self._running.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def apart(self, function: Callable[[], T]) -> T:
        """Call a function in the thread for prompts."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, function)

    async def call(self, function: Callable[[Engine], T]) -> T:
        """Call a function with the engine, between two rounds."""
        return await self._running.call(function)

    async def open(self, asked: Asked, tenant: str) -> Answers:
        """Submit all texts of a request.

        Args:
            tenant: whose texts they are: caches show nothing of one tenant to another.

        Raises:
            ApiError: the queue is full, or the engine has failed.
            InputError, SettingError: as `prepare_request`.
        """
        arrived = time.perf_counter()
        self.require_room()
        isolation = isolation_of(tenant, asked.salt)
        requests = [replace(request, isolation=isolation) for request in asked.requests]
        prepared = [await self.apart(lambda each=each: self.prepare(each)) for each in requests]  # type: ignore[misc]
        answers: list[Answer] = []
        try:
            for each in prepared:
                samples = [each.sampling] if asked.n == 1 else seeded(each.sampling, asked.n)
                for sampling in samples:
                    one = replace(each, sampling=sampling)
                    answers.append(await self._start(len(answers), one, asked, arrived))
        except BaseException:
            for answer in answers:
                answer.close()
            raise
        return Answers(answers)

    def require_room(self) -> None:
        """Raises ApiError where the queue is full, or the engine has failed."""
        if not self.alive:
            raise ApiError(503, "the engine has failed: the server must be started again", code="engine_failed")
        if not self._engine.has_room:
            waiting = self.metrics.seconds_until_room(self._engine.max_rows)
            raise ApiError(429, "all rows are taken and the queue is full: try again later", retry_after=waiting)

    def prepare(self, request: Request) -> PreparedRequest:
        """The request in the terms of the engine; its text is cut to what fits into a row.

        Raises:
            InputError: there is no room for a token of output.
            InputError, SettingError: as `prepare_request`.
        """
        self._refuse_hopeless(request)
        prepared = self._in_terms_of_the_model(request)
        room = self.capacity - len(prepared.prompt)
        if room < 1:
            raise self._too_long("prompt", f"{len(prepared.prompt)} tokens")
        return replace(prepared, max_tokens=min(prepared.max_tokens, room))

    def _in_terms_of_the_model(self, request: Request) -> PreparedRequest:
        if request.structured is None or not self.reasons or not is_conversation(request.prompt):
            return prepare_request(request, self.target, self.tokenizer)
        # Whether the template opens the reasoning itself is seen once the prompt is encoded.
        prompt = encode(request.prompt, self.tokenizer, self.target.name, Chat(tools=request.tools))
        grammar = after_reasoning(request.structured, self.tokenizer, opened_tag(prompt, self.tokenizer))
        request = replace(request, prompt=prompt, structured=grammar, tools=())
        return replace(prepare_request(request, self.target, self.tokenizer), continues=False)

    def _refuse_hopeless(self, request: Request) -> None:
        """Refuse, before it is read, a text that must be too long: no token stands for more than the longest piece."""
        length, predicted = sum(map(len, _parts(request.prompt))), len(request.predicted)
        if length // self._longest_piece >= self.capacity:
            raise self._too_long("prompt", f"{length} characters")
        if predicted // self._longest_piece >= self.capacity:
            raise self._too_long("prediction", f"{predicted} characters")
        most, grammar = self.settings.limits.grammar_characters, request.structured
        if grammar is not None and len(grammar.text) > most:
            raise SettingError(f"the {grammar.kind} has {len(grammar.text)} characters: at most {most} are compiled")

    def _too_long(self, what: str, length: str) -> InputError:
        holds = f"a row of this server holds {self.capacity} tokens of prompt and output"
        return InputError(f"the {what} has {length} and {holds}: shorten it")

    async def _start(self, index: int, prepared: PreparedRequest, asked: Asked, arrived: float) -> Answer:
        followed: list[Followed] = []

        def told(handle: Handle) -> None:
            self.metrics.text_submitted(handle.id)
            if asked.extras.rounds or asked.extras.tokens:
                followed.append(self._rounds.follow(handle))

        running = await self._running.start(prepared, told)
        return Answer(index, prepared, running, followed[0] if followed else None, arrived, self._left)

    def _left(self, answer: Answer) -> None:
        """Count a text that ended, or was left."""
        number = answer.running.handle.id
        self._rounds.leave(answer.running.handle)
        self.metrics.text_left(number)
        reason = "abort" if answer.finish_reason is None else str(answer.finish_reason)
        self.metrics.count_prefix(answer.stats.cached_tokens, len(answer.prepared.prompt))
        self.metrics.count_text(reason, answer.arrived, answer.first, answer.last, len(answer.tokens))


def _parts(prompt: Any) -> list[str]:
    if isinstance(prompt, str):
        return [prompt]
    messages: list[Message] = [each for each in prompt if not isinstance(each, int)]
    return [text for message in messages if isinstance(text := message.get("content"), str)]

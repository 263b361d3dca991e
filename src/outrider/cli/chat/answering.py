"""One answer from the engine, which a key may stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from outrider.cli.chat.keys import Stopped
from outrider.cli.chat.settings import Settings
from outrider.cli.render import OriginWriter, PlainWriter
from outrider.cli.terminal import working
from outrider.engine.engine import Engine
from outrider.engine.events import FinishReason, TokenEvent
from outrider.engine.handle import Handle
from outrider.engine.statistics import Statistics
from outrider.errors import InputError, SettingError
from outrider.prompts.chat import encode_messages
from outrider.prompts.request import PreparedRequest, Request, prepare_request
from outrider.prompts.tokens import Message

Writer = PlainWriter | OriginWriter


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model said.

    Attributes:
        finish_reason: cancelled where a key stopped it.
    """

    text: str
    finish_reason: FinishReason
    stats: Statistics


def require_chat(engine: Engine) -> None:
    """Raises SettingError where the model cannot hold a conversation."""
    name = engine.target.name
    if engine.tokenizer is None:
        raise SettingError(f"model {name} has no tokenizer beside it: give a model folder with tokenizer files")
    if encode_messages([{"role": "user", "content": "."}], engine.tokenizer, name) is None:
        raise SettingError(f"model {name} has no chat template: outrider generate continues bare text with it")


def answer(
    engine: Engine,
    messages: list[Message],
    settings: Settings,
    writer: Writer,
    stopped: Stopped,
    *,
    predicted: str,
    retries: int,
) -> Answer:
    """Decode the answer to a conversation, writing it as it comes.

    Args:
        stopped: ends it.
        predicted: text that is expected in the answer.
        retries: how many answers to the same conversation were thrown away: with a fixed seed each is drawn with
            another.

    Raises:
        InputError: the conversation is too long.
        ModelError: the target failed on it.
    """
    request = _prepared(engine, messages, settings, predicted, retries)
    handle = engine.submit(request)
    try:
        _write(engine, handle, stopped, writer)
    finally:
        handle.cancel()  # where it was stopped, or something failed; otherwise it has ended
    if handle.error is not None:
        raise handle.error
    reason = handle.finish_reason
    assert reason is not None
    return Answer(handle.text, reason, handle.stats)


def _write(engine: Engine, handle: Handle, stopped: Stopped, writer: Writer) -> None:
    with working("reading") as say:
        events = _next_events(engine, handle, stopped, say)
    wrote = False
    while events:
        for event in events:
            writer.write(event)
        wrote = True
        events = _next_events(engine, handle, stopped, lambda _: None)
    if wrote:
        writer.close()


def _next_events(engine: Engine, handle: Handle, stopped: Stopped, say: Callable[[str], None]) -> list[TokenEvent]:
    """Those of the next round that emits; empty at the end, or once a key was pressed."""
    events: list[TokenEvent] = []
    while not (events or stopped or handle.finish_reason):
        events = engine.step()
        say(f"reading: {handle.prompt_read:,} of {handle.prompt_length:,} tokens")
    return events


def _prepared(
    engine: Engine, messages: list[Message], settings: Settings, predicted: str, retries: int
) -> PreparedRequest:
    target, tokenizer = engine.target, engine.tokenizer
    assert tokenizer is not None
    tokens = encode_messages(messages, tokenizer, target.name)
    assert tokens is not None  # `require_chat`
    room = engine.capacity - len(tokens)
    if room < 1:
        raise InputError(
            f"the chat has {len(tokens)} tokens and there is room for {engine.capacity - 1}: /undo takes back the last "
            "turn, /clear begins again"
        )
    sampling = settings.sampling
    if sampling.seed is not None:
        sampling = replace(sampling, seed=(sampling.seed + retries) % 2**64)
    request = Request(
        tokens,
        max_tokens=min(settings.max_tokens, room),
        sampling=sampling,
        stop=settings.stops,
        predicted=predicted,
    )
    return replace(prepare_request(request, target, tokenizer), continues=False)

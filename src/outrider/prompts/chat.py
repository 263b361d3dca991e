"""Conversations, and what a model's chat template makes of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from outrider.errors import InputError, OutriderError, SettingError, first_line
from outrider.prompts.tokens import Message, Prompt, is_conversation, plain_prompt
from outrider.structured.tools import Tool, instructions, takes_tools
from outrider.text import Tokenizer


@dataclass(frozen=True, slots=True)
class Chat:
    """How text and conversations are put to a model.

    Attributes:
        system_prompt: put before conversations that have none of their own; token ids are taken as they are.
        use_template: False takes text as it is.
        tools: descriptions of functions that the model may call. Where its chat template knows no tools, the system
            prompt describes them.
    """

    system_prompt: str | None = None
    use_template: bool = True
    tools: tuple[Tool, ...] = ()

    def __post_init__(self) -> None:
        """Raises InputError where the system prompt is no whole text."""
        if self.system_prompt is not None:
            plain_prompt(self.system_prompt)

    def conversation(self, prompt: str | Sequence[Message]) -> list[Message]:
        """The messages, those of a text being one of the user's."""
        messages = [with_arguments_read(message) for message in as_conversation(prompt)]
        if self.system_prompt and messages[0]["role"] != "system":
            messages.insert(0, {"role": "system", "content": self.system_prompt})
        return messages

    def encode(self, prompt: str | Sequence[Message], tokenizer: Tokenizer, name: str) -> list[int] | None:
        """The tokens of a prompt, through the chat template; None where the model has none.

        Raises:
            InputError: the template refuses the conversation, or fails on it.
        """
        messages = self.conversation(prompt)
        if not self.tools:
            return encode_messages(messages, tokenizer, name)
        if takes_tools(tokenizer.chat_template):
            return encode_messages(messages, tokenizer, name, self.tools)
        return encode_messages(with_instructions(messages, instructions(self.tools)), tokenizer, name)


def with_instructions(messages: Sequence[Message], text: str) -> list[Message]:
    """The conversation with a text at the end of its system prompt, or as its system prompt."""
    first = messages[0]
    if first["role"] != "system" or not isinstance(first.get("content"), str):
        return [{"role": "system", "content": text}, *messages]
    return [{**first, "content": f"{first['content']}\n\n{text}"}, *messages[1:]]


def with_arguments_read(message: Message) -> Message:
    """A message whose tool calls have their arguments as objects, as templates want them, and not as text in JSON."""
    calls = message.get("tool_calls")
    if not isinstance(calls, Sequence) or isinstance(calls, str):
        return message
    return {**message, "tool_calls": [_with_arguments_read(call) for call in calls]}


def _with_arguments_read(call: Any) -> Any:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("arguments"), str):
        return call
    try:
        read = json.loads(function["arguments"])
    except (ValueError, RecursionError):
        return call
    return {**call, "function": {**function, "arguments": read}} if isinstance(read, dict) else call


def as_conversation(messages: Prompt) -> tuple[Message, ...]:
    """The messages of a conversation; a text is a single message of the user.

    Raises:
        InputError: it is neither.
    """
    plain = plain_prompt(messages)
    if isinstance(plain, str):
        return ({"role": "user", "content": plain},)
    if not is_conversation(plain):
        raise InputError('a conversation is a list of messages, [{"role": "user", "content": "..."}], or a text')
    return plain


class EncodedPrompt(NamedTuple):
    """The token ids of a prompt, and whether a chat template made them."""

    tokens: tuple[int, ...]
    templated: bool


def encode(prompt: Prompt, tokenizer: Tokenizer | None, name: str, chat: Chat | None = None) -> tuple[int, ...]:
    """The token ids of a prompt; arguments and errors as in `encode_prompt`."""
    return encode_prompt(prompt, tokenizer, name, chat).tokens


def encode_prompt(prompt: Prompt, tokenizer: Tokenizer | None, name: str, chat: Chat | None = None) -> EncodedPrompt:
    """The token ids of a prompt.

    Args:
        name: of the model, for messages.
        chat: puts text through the model's chat template where it has one; None takes text as it is.

    Raises:
        InputError: a text has no tokenizer, or the chat template refuses the conversation.
        SettingError: there is a conversation or a system prompt, and no chat template is used.
    """
    prompt = plain_prompt(prompt)
    if isinstance(prompt, tuple) and not is_conversation(prompt):
        return EncodedPrompt(prompt, templated=False)  # token ids already
    if tokenizer is None:
        what = "a prompt of text" if isinstance(prompt, str) else "a conversation"
        raise InputError(f"{what} needs a tokenizer and {name} has none: pass tokenizer=, or token ids")
    if isinstance(prompt, str) and chat is None:
        return EncodedPrompt(tuple(tokenizer.encode(prompt)), templated=False)
    chat = chat or Chat()
    if chat.use_template:
        tokens = chat.encode(prompt, tokenizer, name)
        if tokens is not None:
            return EncodedPrompt(tuple(tokens), templated=True)
    if not isinstance(prompt, str) or chat.system_prompt or chat.tools:
        what = "the prompt is a conversation"
        if isinstance(prompt, str):
            what = "there is a system prompt" if chat.system_prompt else "there are tools"
        why = f"model {name} has no chat template" if chat.use_template else "the chat template is ignored"
        raise SettingError(f"{what} and {why}: give bare prompts, or leave one of them out")
    return EncodedPrompt(tuple(tokenizer.encode(prompt)), templated=False)


def encode_messages(
    messages: Sequence[Message], tokenizer: Tokenizer, name: str, tools: Sequence[Tool] = ()
) -> list[int] | None:
    """The tokens of a conversation up to the assistant's turn; None where the model has no chat template.

    Raises:
        InputError: the template refuses the conversation, or fails on it.
    """
    try:
        return tokenizer.encode_chat(messages, tools) if tools else tokenizer.encode_chat(messages)
    except OutriderError:
        raise
    except Exception as error:  # a template is a program of its own: it may divide by zero, or add a text to a number
        own = type(error).__module__.startswith("jinja2")
        why = first_line(error) if own else f"{type(error).__name__}: {first_line(error)}"
        raise InputError(f"the chat template of {name} refuses the prompt ({why})") from error


def encode_within(
    prompt: Prompt, tokenizer: Tokenizer | None, name: str, room: int, chat: Chat | None = None
) -> tuple[int, ...]:
    """The token ids of a prompt, cut to `room` of them where there are more.

    What is cut is the end of the text; of a conversation the end of the user's last message, so that the chat template
    keeps its shape, with the assistant's header at the end.

    Raises:
        InputError: as `encode`; or token ids are too many, or a conversation is too long without that message.
        SettingError: as `encode`.
    """
    prompt = plain_prompt(prompt)
    tokens = encode(prompt, tokenizer, name, chat)
    if len(tokens) <= room:
        return tokens
    if isinstance(prompt, str):
        return _longest(prompt, lambda text: encode(text, tokenizer, name, chat), room, name)
    if not is_conversation(prompt):
        raise InputError(f"the prompt has {len(tokens)} tokens and {name} has room for {room}: shorten it")
    place = next((place for place in reversed(range(len(prompt))) if prompt[place]["role"] == "user"), None)
    text = "" if place is None else prompt[place]["content"]
    if place is None or not isinstance(text, str):
        raise InputError(f"the conversation has {len(tokens)} tokens and {name} has room for {room}: shorten it")

    def with_text(text: str) -> tuple[int, ...]:
        messages = [*prompt[:place], {**prompt[place], "content": text}, *prompt[place + 1 :]]
        return encode(tuple(messages), tokenizer, name, chat)

    return _longest(text, with_text, room, name)


def _longest(text: str, encoded: Callable[[str], tuple[int, ...]], room: int, name: str) -> tuple[int, ...]:
    """What the longest beginning of `text` that fits is encoded to."""
    found = encoded("")
    if len(found) > room:
        raise InputError(
            f"the prompt has {len(found)} tokens without the user's text and {name} has room for {room}: shorten it"
        )
    fits, too_long = 0, len(text)
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        tokens = encoded(text[:middle])
        if len(tokens) <= room:
            fits, found = middle, tokens
        else:
            too_long = middle
    return found

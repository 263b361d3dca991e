"""From a prompt in a file to tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from outrider.errors import InputError, SettingError
from outrider.jobs.prompts import Prompt
from outrider.runtimes.base import Model
from outrider.text import Tokenizer


def encode(prompt: Prompt, target: Model, system_prompt: str | None, use_chat_template: bool) -> tuple[int, ...]:
    """The tokens of a prompt: those that it gives, or its text through the model's chat template where it has one.

    Args:
        system_prompt: put before conversations that have none of their own; tokens are taken as they are.
        use_chat_template: False takes text as it is.

    Raises:
        SettingError: the prompt, or the system prompt, needs a tokenizer or a chat template, and there is none.
        InputError: the chat template refuses this conversation.
    """
    if prompt.tokens:
        return prompt.tokens
    if target.tokenizer is None:
        raise SettingError(
            f"{prompt.place} is text and model {target.name} has no tokenizer beside it: "
            "give a model folder with tokenizer files, or tokens"
        )
    if use_chat_template:
        tokens = chat_tokens(_conversation(prompt, system_prompt), target.tokenizer, target.name)
        if tokens is not None:
            return tuple(tokens)
    if prompt.messages or system_prompt:
        what = f"{prompt.place} is a conversation" if prompt.messages else "there is a system prompt"
        why = f"model {target.name} has no chat template" if use_chat_template else "the chat template is ignored"
        raise SettingError(f"{what} and {why}: give bare prompts, or leave one of them out")
    return tuple(target.tokenizer.encode(prompt.text))


def chat_tokens(messages: Sequence[Mapping[str, str]], tokenizer: Tokenizer, name: str) -> list[int] | None:
    """The tokens of a conversation; None where there is no chat template.

    Args:
        name: of the model, for messages.

    Raises:
        InputError: the template refuses the conversation.
    """
    try:
        return tokenizer.encode_chat(messages)
    except Exception as error:
        if not type(error).__module__.startswith("jinja2"):
            raise
        raise InputError(f"the chat template of {name} refuses the prompt ({error})") from error


def _conversation(prompt: Prompt, system_prompt: str | None) -> list[Mapping[str, str]]:
    messages = list(prompt.messages) or [{"role": "user", "content": prompt.text}]
    if system_prompt and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": system_prompt})
    return messages

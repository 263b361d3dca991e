"""What a prompt may be, and the token ids in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np

from outrider.errors import InputError, TooLongError, shown
from outrider.maths.arrays import to_numpy
from outrider.runtimes.base import Model
from outrider.text import half_character

LONGEST_RANGE = 2**24  # tokens; it is written out
Message = Mapping[str, Any]  # {"role": ..., "content": ...}
# Text, token ids (a list, or an array of any library), or a conversation.
Prompt = str | Sequence[int] | Sequence[Message] | Any
PlainPrompt = str | tuple[int, ...] | tuple[Message, ...]


def plain_prompt(prompt: Prompt) -> PlainPrompt:
    """A prompt in any form as text, a tuple of token ids, or a tuple of messages.

    Raises:
        InputError: it is none of these.
    """
    if isinstance(prompt, str):
        return _whole_text(prompt)
    if isinstance(prompt, list | tuple) and any(isinstance(part, Mapping) for part in prompt):
        for message in prompt:
            _check_message(message)
        return tuple(prompt)
    if isinstance(prompt, Mapping):
        raise InputError("the prompt is a single message: put it into a list, [message]")
    return tuple(token_list(prompt))


def _whole_text(text: str) -> str:
    if half := half_character(text):
        raise InputError(f"the prompt holds half a character, {half[1]}, at place {half[0]}: give whole text in UTF-8")
    return text


def is_conversation(prompt: object) -> TypeGuard[tuple[Message, ...]]:
    """Whether a plain prompt is a tuple of messages."""
    return isinstance(prompt, tuple) and bool(prompt) and isinstance(prompt[0], Mapping)


def token_list(tokens: Any) -> list[int]:
    """Token ids as Python ints, from a sequence, or from an integer array [tokens] or [1, tokens] of any library.

    Raises:
        InputError: it is neither.
    """
    if isinstance(tokens, str | bytes | bytearray | Mapping):
        raise _no_tokens(tokens)
    if isinstance(tokens, range) and len(tokens) > LONGEST_RANGE:
        raise InputError(f"the {len(tokens)} token ids of a range are too many: give {LONGEST_RANGE} or fewer")
    if isinstance(tokens, Sequence) and all(type(token) is int for token in tokens):
        return list(tokens)
    try:
        array = to_numpy(list(tokens) if isinstance(tokens, range) else tokens)
    except Exception as error:  # of another library: a tensor without data, for example
        raise _no_tokens(tokens) from error
    if np.ma.isMaskedArray(array):
        raise _no_tokens(tokens)
    if array.ndim == 2 and array.shape[0] == 1:
        array = array[0]
    if array.size == 0:
        return []
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise InputError(
            f"token ids must be whole numbers in one row: this is {array.dtype} of shape {tuple(array.shape)}"
        )
    return [int(token) for token in array]


def check_tokens(tokens: Sequence[int], model: Model, capacity: int) -> None:
    """Refuse token ids that cannot be decoded.

    Args:
        capacity: the longest that prompt and output together may become, in tokens.

    Raises:
        InputError: there are none, or one lies outside the vocabulary.
        TooLongError: they leave no room for a token of output.
    """
    if not tokens:
        raise InputError("the prompt is empty: give at least one token")
    if min(tokens) < 0 or max(tokens) >= model.traits.vocab_size:
        worst = next(token for token in tokens if not 0 <= token < model.traits.vocab_size)
        raise InputError(
            f"prompt token {worst} is outside the vocabulary of {model.traits.vocab_size}: "
            f"encode the prompt with the tokenizer of {model.name}"
        )
    if len(tokens) >= capacity:
        raise TooLongError(
            f"the prompt has {len(tokens)} tokens and the context of {model.name} holds {capacity}: "
            f"shorten it to {capacity - 1} or less"
        )


def _check_message(message: object) -> None:
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise InputError(
            f'the message {shown(message)} must be a mapping with a role: {{"role": "user", "content": "..."}}'
        )
    if isinstance(content := message.get("content"), str):
        _whole_text(content)


def _no_tokens(given: object) -> InputError:
    return InputError(
        f"token ids cannot be read from a {type(given).__name__}: give a list of whole numbers, or an array of NumPy, "
        "PyTorch or MLX"
    )

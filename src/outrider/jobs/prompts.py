"""Prompts as JSON lines: what a line may say, and what is wrong with one that says something else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from outrider.errors import InputError, SettingError
from outrider.maths.sampling import SamplingParams

Id = str | int
KINDS = ("prompt", "messages", "tokens", "turns")
SAMPLING_NAMES = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "seed",
)
WHOLE_NUMBERS = ("max_tokens", "top_k", "seed")
BYTE_ORDER_MARK = "\ufeff"


@dataclass(frozen=True, slots=True)
class Defaults:
    """What holds for lines that do not say otherwise. A seed in `sampling` is for the run, not for each line."""

    max_tokens: int
    sampling: SamplingParams
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Prompt:
    """One line. Exactly one of `text`, `messages` and `tokens` is not empty.

    Attributes:
        id: of the line's own choice, or its number.
        place: the line and its file, for messages.
        sampling: its seed is set only where the line has one.
    """

    id: Id
    place: str
    text: str
    messages: tuple[Mapping[str, str], ...]
    tokens: tuple[int, ...]
    max_tokens: int
    sampling: SamplingParams
    stop: tuple[str, ...]


def parse_prompts(lines: str, source: str, defaults: Defaults) -> list[Prompt]:
    """The prompts of a file, one JSON object a line; empty lines are skipped.

    A line has "prompt" (text), "messages" (a conversation), "tokens" (ids) or "turns" (of which the first is the
    prompt), and may have an "id", "max_tokens", "stop", and sampling settings by their names. What else it has is
    ignored: files of questions hold answers, categories and the like.

    Args:
        source: the name of the file, for messages.

    Raises:
        InputError: a line is none of this, an id is there twice, or there is no line at all.
    """
    prompts: list[Prompt] = []
    seen: dict[str, str] = {}
    # Not splitlines(), which also splits at characters that JSON allows within a string.
    for number, line in enumerate(lines.removeprefix(BYTE_ORDER_MARK).split("\n"), start=1):
        if not line.strip():
            continue
        place = f"line {number} of {source}"
        try:
            prompt = _prompt(_object(line), number, place, defaults)
        except (InputError, SettingError) as error:
            raise InputError(f"{place} cannot be used: {error}") from error
        first = seen.setdefault(key_of(prompt.id), place)
        if first != place:
            raise InputError(f"{place} has the id {prompt.id!r}, and so has {first}: ids must differ")
        prompts.append(prompt)
    if not prompts:
        raise InputError(f'{source} holds no prompt: give one JSON object a line, such as {{"prompt": "..."}}')
    return prompts


def key_of(id: Id) -> str:
    """Tells ids apart as JSON does: 7 is not "7"."""
    return json.dumps(id)


def _object(line: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"it is no JSON ({error})") from error
    if not isinstance(entry, dict):
        raise InputError('it is no JSON object: write {"prompt": "..."}')
    # null says nothing, as where a table with empty cells was turned into JSON.
    return {name: value for name, value in entry.items() if value is not None}


def _prompt(entry: Mapping[str, Any], number: int, place: str, defaults: Defaults) -> Prompt:
    kinds = [kind for kind in KINDS if kind in entry]
    if len(kinds) != 1:
        has = "none of these" if not kinds else " and ".join(kinds)
        raise InputError(f"it has {has}: give one of {', '.join(KINDS)}")
    for name in ("max_tokens", *SAMPLING_NAMES):
        if name in entry:
            _require_number(name, entry[name])
    sampling = {name: entry[name] for name in SAMPLING_NAMES if name in entry}
    max_tokens = entry.get("max_tokens", defaults.max_tokens)
    if max_tokens < 1:
        raise SettingError(f"max_tokens is {max_tokens}: it must be at least 1")
    return Prompt(
        id=_id(entry.get("id", number)),
        place=place,
        text=_text(entry, kinds[0]),
        messages=_messages(entry["messages"]) if "messages" in entry else (),
        tokens=_tokens(entry["tokens"]) if "tokens" in entry else (),
        max_tokens=max_tokens,
        sampling=replace(defaults.sampling, **{"seed": None, **sampling}),
        stop=_stop(entry["stop"]) if "stop" in entry else defaults.stop,
    )


def _require_number(name: str, value: Any) -> None:
    whole = name in WHOLE_NUMBERS
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise SettingError(f"{name} is {value!r}: it must be a {'whole ' if whole else ''}number")


def _id(value: Any) -> Id:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InputError(f"its id is {value!r}: it must be a text or a whole number")
    return value


def _text(entry: Mapping[str, Any], kind: str) -> str:
    if kind == "prompt":
        text = _string("prompt", entry["prompt"])
    elif kind == "turns":
        turns = entry["turns"]
        if not isinstance(turns, list) or not turns:
            raise InputError(f"turns is {turns!r}: it must be a list of texts")
        text = _string("the first of its turns", turns[0])
    else:
        return ""
    if not text.strip():
        raise InputError("the prompt is empty: give at least one word")
    return text


def _messages(value: Any) -> tuple[Mapping[str, str], ...]:
    if not isinstance(value, list) or not value:
        raise InputError('messages must be a list: [{"role": "user", "content": "..."}]')
    for message in value:
        if not isinstance(message, dict):
            raise InputError(f'the message {message!r} must be an object: {{"role": "user", "content": "..."}}')
        for name in ("role", "content"):
            _string(f"{name} of a message", message.get(name))
    return tuple(value)


def _tokens(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(type(token) is int for token in value):
        raise InputError("tokens must be a list of whole numbers")
    if not value:
        raise InputError("the prompt is empty: give at least one token")
    return tuple(value)


def _stop(value: Any) -> tuple[str, ...]:
    strings = [value] if isinstance(value, str) else value
    if not isinstance(strings, list):
        raise InputError(f"stop is {value!r}: it must be a text or a list of texts")
    for string in strings:
        if not _string("stop", string):
            raise SettingError("a stop string is empty: give at least one character, or leave it out")
    return tuple(strings)


def _string(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InputError(f"{name} is {value!r}: it must be a text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{name} holds half a character, {value[error.start]!r}: write it whole") from error
    return value

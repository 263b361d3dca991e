"""Files of prompts: JSON lines, Spec-Bench questions, or plain text with a prompt a line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from outrider.errors import InputError, SettingError
from outrider.maths.sampling import SamplingParams
from outrider.prompts.request import MAX_TOKENS, Request

if TYPE_CHECKING:
    from outrider.prompts.schema import PromptLine

Id = str | int
BYTE_ORDER_MARK = "\ufeff"
CATEGORY = "all"  # of a line that names none


@dataclass(frozen=True, slots=True)
class Defaults:
    """What holds for lines that do not say otherwise. A seed in `sampling` is for the run, not for each line."""

    max_tokens: int = MAX_TOKENS
    sampling: SamplingParams = field(default_factory=SamplingParams)
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FilePrompt:
    """One prompt of a file.

    Attributes:
        id: of the line's own choice, or its number.
        place: the line and its file, for messages.
        category: the kind of task; "all" where the line names none.
        request: what the line asks for; its seed is set only where the line has one.
    """

    id: Id
    place: str
    category: str
    request: Request

    @property
    def text(self) -> str:
        """The prompt in words; empty where it is token ids."""
        prompt = self.request.prompt
        if isinstance(prompt, str):
            return prompt
        return "\n".join(message["content"] for message in prompt if not isinstance(message, int))


class Prompts(Protocol):
    """Prompts that can be read more than once. A list of them is one."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[FilePrompt]: ...


class PromptFile:
    """The prompts of a file on disk, read line by line each time it is iterated over; see `parse_prompts`.

    Iterating raises InputError where a line cannot be used, when that line is reached.

    Raises:
        InputError: the file cannot be read.
    """

    def __init__(self, file: Path, defaults: Defaults | None = None) -> None:
        self._file, self._defaults = file, defaults
        self._count = sum(1 for line in _lines(file) if line.strip())

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[FilePrompt]:
        return iterate_prompts(_lines(self._file), str(self._file), self._defaults)


def _lines(file: Path) -> Iterator[str]:
    """Raises InputError where the file cannot be read, or is no text."""
    try:
        with file.open(encoding="utf-8") as lines:
            yield from lines
    except FileNotFoundError as error:
        raise InputError(f"prompts {file} cannot be read: the file does not exist") from error
    except UnicodeDecodeError as error:
        raise InputError(f"prompts {file} cannot be read as text: {error}") from error
    except OSError as error:
        raise InputError(f"prompts {file} cannot be read: {error.strerror}") from error


def read_prompts(file: Path, defaults: Defaults | None = None) -> list[FilePrompt]:
    """The prompts of a file; see `parse_prompts`.

    Raises:
        InputError: it cannot be read, or holds something else.
    """
    return list(iterate_prompts(_lines(file), str(file), defaults))


def parse_prompts(text: str, source: str, defaults: Defaults | None = None) -> list[FilePrompt]:
    """The prompts in the text of a file, one a line; empty lines are skipped.

    A line is a JSON object with "prompt" (text), "messages" (a conversation), "tokens" (ids) or "turns" (of which the
    first is the prompt), and may have an "id", a "category", "max_tokens", "stop", and sampling settings by their
    names. What else it has is ignored: files of questions hold answers and the like. A key that looks like a setting
    and is none ("temprature", "max_new_tokens", "tools") is refused. In a file whose name ends in .txt each line may be
    a prompt as it stands.

    Args:
        source: the name of the file.

    Raises:
        InputError: a line is none of this, an id is there twice, or there is no line at all.
    """
    # Not splitlines(), which also splits at characters that JSON allows within a string.
    return list(iterate_prompts(text.split("\n"), source, defaults))


def iterate_prompts(lines: Iterable[str], source: str, defaults: Defaults | None = None) -> Iterator[FilePrompt]:
    """The prompts in lines, each when it is asked for; arguments and errors as in `parse_prompts`."""
    defaults = Defaults() if defaults is None else defaults
    is_plain: bool | None = None  # not known before the first line that holds something
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if number == 1:
            line = line.removeprefix(BYTE_ORDER_MARK)
        if not line.strip():
            continue
        if is_plain is None:
            is_plain = source.endswith(".txt") and not line.lstrip().startswith("{")
        place = f"line {number} of {source}"
        try:
            entry = {"prompt": line.strip()} if is_plain else _object(line)
            prompt = _prompt(_checked(entry), number, place, defaults)
        except (InputError, SettingError) as error:
            raise InputError(f"{place} cannot be used: {error}") from error
        first = seen.setdefault(key_of(prompt.id), number)
        if first != number:
            raise InputError(f"{place} has the id {prompt.id!r}, and so has line {first} of {source}: ids must differ")
        yield prompt
    if not seen:
        raise InputError(f'{source} holds no prompt: give one JSON object a line, such as {{"prompt": "..."}}')


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
    return entry


def _checked(entry: dict[str, Any]) -> PromptLine:
    # Here, since pydantic takes a third of the time in which the rest of Outrider is imported.
    from pydantic import ValidationError

    from outrider.prompts.schema import PromptLine, refusal_of

    try:
        return PromptLine.model_validate(entry)
    except ValidationError as error:
        raise InputError(refusal_of(error)) from error


def _prompt(line: PromptLine, number: int, place: str, defaults: Defaults) -> FilePrompt:
    prompt = line.prompt or line.tokens or (line.turns[0] if line.turns else "")
    request = Request(
        prompt=[message.model_dump() for message in line.messages] if line.messages else prompt,
        max_tokens=defaults.max_tokens if line.max_tokens is None else line.max_tokens,
        sampling=line.params(replace(defaults.sampling, seed=None)),
        stop=defaults.stop if line.stop is None else tuple(line.stop),
    )
    return FilePrompt(
        id=number if line.id is None else line.id,
        place=place,
        category=CATEGORY if line.category is None else str(line.category),
        request=request,
    )

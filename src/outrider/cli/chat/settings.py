"""What may be changed between two answers: sampling, length, and what is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from outrider.errors import SettingError
from outrider.maths.sampling import SamplingParams

NO_SEED = "none"


def _whole(text: str) -> int:
    return int(text)


def _seed(text: str) -> int | None:
    return None if text == NO_SEED else int(text)


SAMPLING: dict[str, Callable[[str], Any]] = {
    "temperature": float,
    "top_k": _whole,
    "top_p": float,
    "min_p": float,
    "repetition_penalty": float,
    "presence_penalty": float,
    "frequency_penalty": float,
    "seed": _seed,
}
MAX_TOKENS = "max_tokens"
NAMES = (*SAMPLING, MAX_TOKENS)


@dataclass(slots=True)
class Settings:
    """The settings of the next answer.

    Attributes:
        max_tokens: the most tokens of an answer.
        stops: strings that end it.
        show: whether tokens are coloured by origin.
    """

    sampling: SamplingParams
    max_tokens: int
    stops: tuple[str, ...] = ()
    show: bool = False

    def set(self, name: str, text: str) -> None:
        """Change one, by its name and its value as text.

        Raises:
            SettingError: there is no such setting, or the value is not one of its own.
        """
        name = name.replace("-", "_")
        if name not in NAMES:
            raise SettingError(f"setting {name!r} is unknown: choose one of {', '.join(NAMES)}")
        try:
            value = SAMPLING.get(name, _whole)(text)
        except ValueError as error:
            wanted = "a number" if SAMPLING.get(name) is float else "a whole number"
            wanted += f", or {NO_SEED}" if name == "seed" else ""
            raise SettingError(f"{name} is {text!r}: it must be {wanted}") from error
        if name != MAX_TOKENS:
            self.sampling = replace(self.sampling, **{name: value})
        elif value < 1:
            raise SettingError(f"{MAX_TOKENS} is {value}: it must be at least 1")
        else:
            self.max_tokens = value

    def __iter__(self) -> Iterator[tuple[str, object]]:
        """Name and value of each."""
        for name in SAMPLING:
            value = getattr(self.sampling, name)
            yield name, NO_SEED if value is None else value
        yield MAX_TOKENS, self.max_tokens

"""What JSON may say of a prompt: one schema for files and servers. Types are strict: "3" is no number, 1.5 no count."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from outrider.errors import shown
from outrider.maths.sampling import SamplingParams
from outrider.prompts.keys import refusal_of_keys
from outrider.prompts.settings import SamplingSettings, sampling_of

KINDS = ("prompt", "messages", "tokens", "turns")
LEAST = {"tokens": "token", "messages": "message"}  # of which a prompt needs one; of others a word
OWN = "outrider"  # the type of the refusals that are worded here
# What a value must be, by the type of pydantic's refusal.
WANTED = {
    "string_type": "a text",
    "int_type": "a whole number",
    "list_type": "a list",
    "model_type": "an object",
}


def _refusal(reason: str) -> PydanticCustomError:
    # The reason is an argument, since braces in a template mean something.
    return PydanticCustomError(OWN, "{reason}", {"reason": reason})


def _whole_characters(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise _refusal(
            f"there is half a character, {value[error.start]!r}, in {shown(value)}: write it whole"
        ) from error
    return value


def _number(value: Any, info: ValidationInfo) -> Any:
    """As it is: 1 does not become 1.0, which would make other settings of it in the eyes of a fingerprint."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _refusal(f"{info.field_name} is {shown(value)}: it must be a number")
    return value


def _strings(value: Any) -> Any:
    """One string or several, none of them empty."""
    strings = [value] if isinstance(value, str) else value
    if not isinstance(strings, list) or not all(isinstance(string, str) for string in strings):
        raise _refusal(f"stop is {shown(value)}: it must be a text or a list of texts")
    if "" in strings:
        raise _refusal("a stop string is empty: give at least one character, or leave it out")
    return strings


def _id(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise _refusal(f"its id is {shown(value)}: it must be a text or a whole number")
    return _whole_characters(value) if isinstance(value, str) else value


Text = Annotated[str, AfterValidator(_whole_characters)]
Number = Annotated[float, PlainValidator(_number), WithJsonSchema({"type": "number"})]
Strings = Annotated[list[Text], BeforeValidator(_strings)]
Identifier = Annotated[str | int, BeforeValidator(_id)]


class Message(BaseModel):
    """One turn of a conversation; what else it says is for the chat template."""

    model_config = ConfigDict(strict=True, extra="allow")

    role: Text
    content: Text


class Sampling(BaseModel):
    """Sampling settings by their names. Ranges are those of SamplingParams."""

    model_config = ConfigDict(strict=True)

    temperature: Number | None = None
    top_k: int | None = None
    top_p: Number | None = None
    min_p: Number | None = None
    repetition_penalty: Number | None = None
    presence_penalty: Number | None = None
    frequency_penalty: Number | None = None
    seed: int | None = None

    def params(self, defaults: SamplingParams) -> SamplingParams:
        """The settings, those that are not given from `defaults`.

        Raises:
            SettingError: a value is out of its range.
        """
        given = {name: value for name, value in self if name in Sampling.model_fields and value is not None}
        return sampling_of(defaults, SamplingSettings(**given))  # type: ignore[typeddict-item]


class PromptLine(Sampling):
    """A line of a file of prompts. null says nothing, as where a table with empty cells was turned into JSON.

    Other keys are ignored, unless they look like settings (keys.py).
    """

    model_config = ConfigDict(strict=True, extra="ignore")

    id: Identifier | None = None
    prompt: Text | None = None
    messages: list[Message] | None = None
    tokens: list[int] | None = None
    turns: list[Text] | None = None
    category: Any = None
    max_tokens: int | None = None
    stop: Strings | None = None

    @field_validator("prompt", "turns", "messages", "tokens")
    @classmethod
    def _is_not_empty(cls, value: Any, info: ValidationInfo) -> Any:
        text = value[0] if info.field_name == "turns" and value else value
        if text is not None and not (text.strip() if isinstance(text, str) else text):
            raise _refusal(f"the prompt is empty: give at least one {LEAST.get(info.field_name or '', 'word')}")
        return value

    @model_validator(mode="before")
    @classmethod
    def _has_no_setting_of_another_name(cls, line: Any) -> Any:
        given = [key for key, value in line.items() if value is not None] if isinstance(line, dict) else ()
        if refusal := refusal_of_keys(given, {*Sampling.model_fields, "max_tokens", "stop"}):
            raise _refusal(refusal)
        return line

    @model_validator(mode="after")
    def _has_one_kind(self) -> PromptLine:
        kinds = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(kinds) != 1:
            has = "none of these" if not kinds else " and ".join(kinds)
            raise _refusal(f"it has {has}: give one of {', '.join(KINDS)}")
        return self


def refusal_of(error: ValidationError) -> str:
    """What is wrong first, in one line: the value, and what it must be."""
    first = error.errors(include_url=False)[0]
    kind, given = first["type"], first["input"]
    if kind == OWN:
        return first["msg"]
    name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).removeprefix(".")
    if kind == "missing":
        return f"{name} is missing: give it"
    wanted = WANTED.get(kind)
    return f"{name} is {shown(given)}: " + (f"it must be {wanted}" if wanted else first["msg"].lower())

"""Chat templates of GGUF files, in the environment that transformers gives them."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from typing import Any

import numpy as np
from pydantic import BaseModel

from outrider.errors import ModelError

OLDEST_JINJA = (3, 1, 6)  # templates can escape from the sandbox of older ones
# Special tokens by the names that chat templates know, and as GGUF files spell them.
NAMED_TOKENS = {
    "bos_token": "bos",
    "eos_token": "eos",
    "unk_token": "unknown",
    "sep_token": "seperator",
    "pad_token": "padding",
    "cls_token": "cls",
    "mask_token": "mask",
}
REASONING = ("reasoning_content", "thinking", "reasoning")  # names for what a model thought; templates read the first


class ChatTemplate:
    """A chat template, rendered as `apply_chat_template` of transformers renders it.

    Args:
        template: in Jinja.
        special_tokens: names of tokens by the names that templates know, such as bos_token.

    Raises:
        ModelError: jinja2 is not installed, or too old.
    """

    def __init__(self, template: str, special_tokens: Mapping[str, str]) -> None:
        self._template = compile_template(template)
        self._special_tokens = dict(special_tokens)

    def render(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()) -> str:
        """The text of a conversation up to the assistant's turn."""
        text = self._template.render(
            messages=[_with_reasoning(plain(message)) for message in messages],
            tools=[plain(tool) for tool in tools] or None,
            documents=None,
            add_generation_prompt=True,
            **self._special_tokens,
        )
        return str(text)


def compile_template(template: str) -> Any:
    """A chat template, with what transformers defines for it.

    Raises:
        ModelError: jinja2 is not installed, or too old.
    """
    try:
        from jinja2 import nodes
        from jinja2.exceptions import SecurityError, TemplateError
        from jinja2.ext import Extension, loopcontrols
        from jinja2.sandbox import ImmutableSandboxedEnvironment
        from jinja2.utils import Namespace
    except ImportError as error:
        raise ModelError("chat templates need jinja2: pip install jinja2") from error
    if tuple(int(part) for part in re.findall(r"\d+", version("jinja2"))) < OLDEST_JINJA:
        oldest = ".".join(map(str, OLDEST_JINJA))
        raise ModelError(f"chat templates need jinja2 {oldest} or newer, and {version('jinja2')} is installed: upgrade")

    class Generation(Extension):
        """The tag around what the assistant says, which training looks at: what stands in it is written as it is."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.CallBlock(self.call_method("_written"), [], [], body).set_lineno(line)

        def _written(self, caller: Callable[[], str]) -> str:
            return caller()

    class SafeNamespace(Namespace):
        """A namespace without names that begin with an underscore, through which templates have escaped."""

        def __init__(*arguments: Any, **named: Any) -> None:  # `self` may be one of the names
            self, arguments = arguments[0], arguments[1:]
            attributes = dict(*arguments, **named)
            for name in attributes:
                _check(name)
            Namespace.__init__(self, attributes)

        def __setitem__(self, name: str, value: Any) -> None:
            _check(name)
            Namespace.__setitem__(self, name, value)

    class MakeDict:
        """`dict` without the attributes of the type."""

        def __call__(self, *arguments: Any, **named: Any) -> dict[Any, Any]:
            return dict(*arguments, **named)

        def fromkeys(self, *arguments: Any) -> dict[Any, Any]:
            return dict.fromkeys(*arguments)

    def _check(name: object) -> None:
        if isinstance(name, str) and name.startswith("_"):
            raise SecurityError(f"a namespace cannot hold {name!r}")

    def refuse(message: str) -> None:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda pattern: datetime.now().strftime(pattern)
    environment.globals["dict"] = MakeDict()
    environment.globals["namespace"] = SafeNamespace
    return environment.from_string(template)


def plain(value: Any) -> Any:
    """A value made of JSON's types, so that no method of another can be called by a template.

    What is none, such as a picture in a message, becomes a text that names its type.
    """
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)  # of an Enum its value
    if isinstance(value, int | float):
        return int.__int__(value) if isinstance(value, int) else float.__float__(value)
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, tuple):
        return tuple(plain(item) for item in value)
    if isinstance(value, np.generic):
        return plain(value.item())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, BaseModel):
        return plain(value.model_dump())
    return f"<{type(value).__name__}>"


def _with_reasoning(message: dict[str, Any]) -> dict[str, Any]:
    """What a model thought, under all names that templates read it by."""
    thought = next((message[key] for key in REASONING if message.get(key) is not None), None)
    return message if thought is None else {"thinking": thought, **message, "reasoning_content": thought}


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own would escape what HTML cannot hold."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

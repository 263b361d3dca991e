"""What an answer may look like, as plain data: a Grammar, and the functions that make one."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from outrider.errors import SettingError, shown

# One way to write a document: as Python's json.dumps writes it, which is what models were trained on most. Where white
# space is free, keys are not forced, and a model may write it without end.
COMPACT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
FLEXIBLE = {"whitespace_flexible": True}
NESTED = "the JSON schema is nested too deeply: use $ref for what repeats"
ANY_OBJECT = {"type": "object"}


@dataclass(frozen=True, slots=True)
class Grammar:
    """What an answer may look like. Plain data, which can be pickled; `Constraint` is what becomes of it for a model.

    Attributes:
        text: the grammar as llguidance reads it: in its Lark syntax, from the rule `start`, or several such grammars in
            JSON, from the first one.
        kind: what it was made from, for messages.
    """

    text: str
    kind: str = "grammar"

    def beginning_with(self, lark: str) -> Grammar:
        """This grammar inside of another one, which is in Lark and calls it `@answer`."""
        nested = json.loads(self.text)["grammars"] if self.text.startswith("{") else [{"lark_grammar": self.text}]
        nested[0] = {**nested[0], "name": "answer"}
        return Grammar(json.dumps({"grammars": [{"name": "outer", "lark_grammar": lark}, *nested]}), self.kind)


def json_schema(schema: Mapping[str, Any] | bool | str | type, *, whitespace: bool = False) -> Grammar:
    """JSON documents that a schema allows.

    Args:
        schema: a JSON schema as a mapping or as text, or a model class of pydantic.
        whitespace: whether white space is free; False allows `{"a": 1, "b": [2, 3]}` alone.

    Raises:
        SettingError: it is none of these.
    """
    wanted = _schema_of(schema)
    if isinstance(wanted, bool):
        wanted = {} if wanted else {"not": {}}
    own = wanted.get("x-guidance", {})
    options = {**(FLEXIBLE if whitespace else COMPACT), **own} if isinstance(own, Mapping) else own
    return Grammar(f"start: %json {_dumped({**wanted, 'x-guidance': options})}", "JSON schema")


def json_object(*, whitespace: bool = False) -> Grammar:
    """Any JSON object."""
    return json_schema(ANY_OBJECT, whitespace=whitespace)


def regex(pattern: str) -> Grammar:
    r"""Texts that a regular expression matches as a whole. \d, \w and \s mean ASCII characters.

    Raises:
        SettingError: it is no text, or empty.
    """
    if not isinstance(pattern, str) or not pattern:
        raise SettingError(f"the regular expression is {shown(pattern)}: give a text that is not empty")
    from outrider.structured.library import regex_in_lark

    return Grammar(f"start: /{regex_in_lark(pattern)}/", "regular expression")


def choice(options: Sequence[str]) -> Grammar:
    """One of several texts.

    Raises:
        SettingError: there is none, or one is no text or empty.
    """
    if isinstance(options, str) or not options or not all(isinstance(each, str) and each for each in options):
        raise SettingError(f"the choices are {shown(options)}: give a list of texts, none of them empty")
    return Grammar("start: " + " | ".join(literal(each) for each in options), "list of choices")


def grammar(text: str) -> Grammar:
    """Texts of a context-free grammar: in Lark syntax, from the rule `start`, or in GBNF, from the rule `root`.

    Raises:
        SettingError: it is no text, or empty, or GBNF that cannot be read.
    """
    if not isinstance(text, str) or not text.strip():
        raise SettingError(f"the grammar is {shown(text)}: give one in Lark or GBNF syntax")
    if not re.search(r"^\s*[\w-]+\s*::=", text, re.MULTILINE):
        return Grammar(text)
    from outrider.structured.library import gbnf_in_lark

    return Grammar(gbnf_in_lark(text))


def literal(text: str) -> str:
    """A text in Lark syntax."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")  # which llguidance does not read as it is


def _schema_of(schema: Any) -> dict[str, Any] | bool:
    if isinstance(schema, type):
        from pydantic import BaseModel

        if issubclass(schema, BaseModel):
            return schema.model_json_schema()
    if isinstance(schema, str):
        try:
            schema = json.loads(schema)
        except ValueError as error:
            raise SettingError(f"the JSON schema is no JSON ({error}): give an object") from error
        except RecursionError as error:
            raise SettingError(NESTED) from error
    if isinstance(schema, Mapping):
        return dict(schema)
    if not isinstance(schema, bool):
        raise SettingError(f"the JSON schema is a {type(schema).__name__}: give an object, or its text")
    return schema


def _dumped(schema: object) -> str:
    try:
        return json.dumps(schema, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise SettingError(f"the JSON schema is no JSON ({error}): give an object") from error
    except RecursionError as error:
        raise SettingError(NESTED) from error
